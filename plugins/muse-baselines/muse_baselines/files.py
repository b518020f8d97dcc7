"""From what stands behind `name:` on the command line to named tensors and the config that lies beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muse_core.errors import ExitCode, MuseError
from muse_core.files import read_json
from muse_core.home import expanded
from muse_core.model.latent_stats import PUBLISHED_NAME
from muse_core.model.weights.parts import weights_folder
from muse_core.model.weights.reading import LazyTensors, open_tensors

_PREFERRED = (
    "model.safetensors.index.json",
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)
_ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_BESIDE = (PUBLISHED_NAME,)
"""Files with such an ending that are no weights."""


@dataclass(frozen=True)
class Published:
    """What to look for. name: the tokenizer's. what: in words. hubs: folders of $MUSE_WEIGHTS where it may lie."""

    name: str
    what: str
    hubs: tuple[str, ...]

    @property
    def remedy(self) -> str:
        """How to get it, and how to name it."""
        return f"hf download {self.hubs[0]} --local-dir FOLDER, then {self.name}:FOLDER"


@dataclass(frozen=True)
class Weights:
    """Tensors of a file, the path of that file, and the contents of a config.json beside it (empty without one)."""

    tensors: LazyTensors
    file: Path
    config: Mapping[str, Any]


def open_weights(path: str | None, published: Published) -> Weights:
    """Open a file, or the weights in a folder; without a path, what $MUSE_WEIGHTS holds.

    Raises:
        MuseError: there is nothing there, several files could be meant, or the file cannot be read safely.
    """
    file = weights_file(expanded(path) if path else _installed(published), published)
    config = file.parent / "config.json"
    return Weights(
        tensors=open_tensors(file, published.what, published.remedy),
        file=file,
        config=read_json(config) if config.is_file() else {},
    )


def _installed(published: Published) -> Path:
    places = [weights_folder() / hub for hub in published.hubs]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise MuseError(
            f"{published.name} needs the path of its weights ({published.what}): none are in {weights_folder()}",
            hint=published.remedy,
            exit_code=ExitCode.FILE,
        )
    return found


def weights_file(place: Path, published: Published) -> Path:
    """Return the file of weights that a path means: itself, or the one in the folder.

    Raises:
        MuseError: there is none, or there are several.
    """
    if not place.is_dir():
        return place  # reading it says what is wrong with it
    known = next((place / name for name in _PREFERRED if (place / name).is_file()), None)
    if known is not None:
        return known
    found = sorted(f for f in place.iterdir() if f.suffix in _ENDINGS and f.name not in _BESIDE)
    if len(found) == 1:
        return found[0]
    names = ", ".join(file.name for file in found[:4])
    raise MuseError(
        f"{place} holds {'several files' if found else 'no file'} of weights for {published.name}"
        + (f": {names}" if found else ""),
        hint=f"{published.name}:{found[0]}" if found else published.remedy,
        exit_code=ExitCode.FILE,
    )
