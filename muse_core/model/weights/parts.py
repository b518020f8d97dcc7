"""The published parts that a size is built from: what each is for, where it may lie, how to get it.

`MUSE_WEIGHTS` holds one folder per part under its hub name. A part that is not there is looked for in the hub's own
cache on this machine; nothing is downloaded here.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from muse_core.errors import MuseError
from muse_core.home import expanded, user_cache

PACK = Path(__file__).parent / "tiny_pack"
"""The tiny foundation pack; `muse_core.model.weights.tiny` loads it."""

_HUB_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


@dataclass(frozen=True)
class Part:
    """One published part.

    role, hub name, purpose, licence. files: of which one must be there, the preferred first. origin: where a part that
    lies on no hub comes from. also: other hub names under which it was published, in order of preference.
    """

    role: str
    hub: str
    purpose: str
    licence: str
    files: tuple[str, ...] = _HUB_FILES
    origin: str | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """A part and the folder that holds it; None when it is missing."""

    part: Part
    folder: Path | None

    @property
    def file(self) -> Path | None:
        """The file of its weights."""
        if self.folder is None:
            return None
        return next(self.folder / name for name in self.part.files if (self.folder / name).is_file())

    @property
    def remedy(self) -> str:
        """Where a missing part may be put and how to get it."""
        place = weights_folder() / self.part.hub
        if self.part.origin:
            return f"put {self.part.files[0]} ({self.part.origin}) into {place}"
        return f"hf download {self.part.hub} --local-dir {place}"


def _vision(hub: str) -> Part:
    return Part("encoder", hub, "vision encoder", "MIT (code and tower), Qwen tag on the hub", also=(f"{hub}-hf",))


_SHARED = (
    Part(
        "decoder",
        "mit-han-lab/dc-ae-f32c32-sana-1.0-diffusers",
        "pixel decoder",
        "Apache-2.0",
        ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json"),
        also=(
            "mit-han-lab/dc-ae-f32c32-sana-1.1-diffusers",
            "Efficient-Large-Model/Sana_1600M_1024px_diffusers/vae",
        ),
    ),
    Part(
        "teacher",
        "facebook/dinov3-vith16plus-pretrain-lvd1689m",
        "structure teacher",
        "DINOv3 License, gated: accept it on the hub first",
        (*_HUB_FILES, "dinov3_vith16plus_pretrain_lvd1689m-7c1da9a5.pth"),
    ),
    Part(
        "text",
        "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
        "text tower",
        "MIT",
        (
            "open_clip_model.safetensors",
            "model.safetensors",
            "open_clip_pytorch_model.bin",
            "pytorch_model.bin",
        ),
    ),
    Part(
        "lpips",
        "muse/lpips-vgg",
        "perceptual loss LPIPS",
        "BSD-2-Clause",
        ("vgg.pth", "model.safetensors"),
        "version 0.1 of the authors' lpips package",
    ),
    Part(
        "vgg16",
        "muse/vgg16",
        "features under LPIPS",
        "BSD-3-Clause",
        ("vgg16-397923af.pth", "model.safetensors"),
        "torchvision's VGG16_Weights.IMAGENET1K_V1",
    ),
    Part(
        "convnext_s",
        "muse/convnext-small",
        "perceptual loss ConvNeXt-S",
        "BSD-3-Clause",
        ("convnext_small-0c510722.pth", "model.safetensors"),
        "torchvision's ConvNeXt_Small_Weights.IMAGENET1K_V1",
    ),
)
PARTS: Mapping[str, tuple[Part, ...]] = {
    "1b": (_vision("OpenGVLab/InternVL3-1B"), *_SHARED),
    "3b": (_vision("OpenGVLab/InternVL3-2B"), *_SHARED),
    "tiny": tuple(
        Part(role, f"muse/tiny-{role}", purpose, "Apache-2.0", ("model.safetensors",))
        for role, purpose in (
            ("backbone", "vision encoder"),
            ("pixels", "pixel decoder"),
            ("teacher", "structure teacher"),
            ("text", "text tower"),
        )
    ),
}


def weights_folder() -> Path:
    """Return the folder of published parts: $MUSE_WEIGHTS, or one in the user's cache."""
    return expanded(os.environ.get("MUSE_WEIGHTS") or user_cache() / "muse" / "weights")


def find_parts(size: str) -> list[Found]:
    """Look up every part of a size."""
    return [Found(part, _folder_of(part, size)) for part in PARTS[size]]


def find_part(size: str, role: str) -> Found:
    """Look up one part of a size."""
    part = next(part for part in PARTS[size] if part.role == role)
    return Found(part, _folder_of(part, size))


def missing_parts(size: str, roles: Iterable[str]) -> list[Found]:
    """List the parts of some roles that are not there."""
    wanted = set(roles)
    return [found for found in find_parts(size) if found.part.role in wanted and found.folder is None]


def damage_of(found: Found) -> str | None:
    """Say what is wrong with the file of a part that is here, from its header alone; None when nothing is seen.

    Torch files have no header that tells: they are read, and refused, when they are needed.
    """
    from muse_core.model.weights.reading import INDEX, open_tensors  # imports torch

    file = found.file
    if file is None or not file.name.endswith((".safetensors", INDEX)):
        return None
    try:
        open_tensors(file, found.part.purpose)
    except MuseError as error:
        return error.what
    return None


def _folder_of(part: Part, size: str) -> Path | None:
    names = (part.hub, *part.also)
    places = [PACK / part.role] if size == "tiny" else [weights_folder() / name for name in names]
    if size != "tiny":
        places += [place for name in names for place in _hub_cache(name)]
    return next((place for place in places if any((place / name).is_file() for name in part.files)), None)


def _hub_cache(hub: str) -> list[Path]:
    """Snapshots that huggingface_hub keeps on this machine, newest first."""
    home = expanded(os.environ.get("HF_HOME") or "~/.cache/huggingface")
    owner, name, *inside = hub.split("/")
    snapshots = (home / "hub" / f"models--{owner}--{name}" / "snapshots").glob("*")
    return [path.joinpath(*inside) for path in sorted(snapshots, key=lambda p: p.stat().st_mtime, reverse=True)]


def sha256(file: Path) -> str:
    """Hash a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tiny_hashes() -> dict[str, str]:
    """Hash the parts of the tiny pack, by role."""
    return {part.role: sha256(PACK / part.role / "model.safetensors") for part in PARTS["tiny"]}
