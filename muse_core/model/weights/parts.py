"""The published parts that a size is built from: what each is for, where it may lie, how to get it.

`MUSE_WEIGHTS` holds one folder per part under its hub name. A part that is not there is looked for in the hub's own
cache on this machine; nothing is downloaded here.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from muse_core.model.weights.tiny import PACK


@dataclass(frozen=True)
class Part:
    """One published part: its role, hub name, purpose, licence, the files of which one must be there, and where a part
    that lies on no hub comes from."""

    role: str
    hub: str
    purpose: str
    licence: str
    files: tuple[str, ...] = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
    origin: str | None = None


@dataclass(frozen=True)
class Found:
    """A part and the folder that holds it; None when it is missing."""

    part: Part
    folder: Path | None

    @property
    def remedy(self) -> str:
        """Where a missing part may be put and how to get it."""
        place = weights_folder() / self.part.hub
        if self.part.origin:
            return f"put {self.part.files[0]} ({self.part.origin}) into {place}"
        return f"hf download {self.part.hub} --local-dir {place}"


_DECODER = "diffusion_pytorch_model.safetensors"
_SHARED = (
    Part("decoder", "mit-han-lab/dc-ae-f32c32-sana-1.0-diffusers", "pixel decoder", "Apache-2.0", (_DECODER,)),
    Part("teacher", "facebook/dinov3-vith16plus-pretrain-lvd1689m", "structure teacher", "DINOv3 License"),
    Part(
        "text",
        "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
        "text tower",
        "MIT",
        ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin"),
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
    "1b": (Part("encoder", "OpenGVLab/InternVL3-1B", "vision encoder", "MIT"), *_SHARED),
    "3b": (Part("encoder", "OpenGVLab/InternVL3-2B", "vision encoder", "MIT"), *_SHARED),
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
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("MUSE_WEIGHTS") or cache / "muse" / "weights").expanduser()


def find_parts(size: str) -> list[Found]:
    """Look up every part of a size."""
    return [Found(part, _folder_of(part, size)) for part in PARTS[size]]


def missing_parts(size: str, roles: Iterable[str]) -> list[Found]:
    """List the parts of some roles that are not there."""
    wanted = set(roles)
    return [found for found in find_parts(size) if found.part.role in wanted and found.folder is None]


def _folder_of(part: Part, size: str) -> Path | None:
    places = [PACK / part.role] if size == "tiny" else [weights_folder() / part.hub, *_hub_cache(part.hub)]
    return next((place for place in places if any((place / name).is_file() for name in part.files)), None)


def _hub_cache(hub: str) -> list[Path]:
    """Snapshots that huggingface_hub keeps on this machine, newest first."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    snapshots = (home / "hub" / f"models--{hub.replace('/', '--')}" / "snapshots").glob("*")
    return sorted(snapshots, key=lambda path: path.stat().st_mtime, reverse=True)


def sha256(file: Path) -> str:
    """Hash a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tiny_hashes() -> dict[str, str]:
    """Hash the parts of the tiny pack, by role."""
    return {part.role: sha256(PACK / part.role / "model.safetensors") for part in PARTS["tiny"]}
