"""Which files the weights of a tokenizer come from, so that a number can be traced to them."""

import hashlib
from pathlib import Path

from muse_core.model.abilities import Described
from muse_core.model.checkpoint import digest_of_file, is_checkpoint, read_state

OURS = ("average.safetensors", "model.safetensors")
WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt")

Identity = dict[str, str | int | None]


def checkpoint_of(tokenizer: object) -> Identity | None:
    """Say where the weights of a tokenizer come from.

    Returns:
        path; step, for a checkpoint of ours; sha256 of the file. Of several files it is what
        `sha256sum FILES | sha256sum` prints in their folder, the files in the order of their names. None where the
        tokenizer names no file that is there.
    """
    source = tokenizer.info.source if isinstance(tokenizer, Described) else ""
    place = Path(source)
    if not source or not place.exists():
        return None
    ours = is_checkpoint(place)
    step = read_state(place).step if ours else None
    return {"path": str(place), "step": step, "sha256": digest(place, files_of(place, ours))}


def files_of(place: Path, ours: bool) -> list[Path]:
    """Return the files that hold weights: of a checkpoint of ours those that are loaded, of other folders all."""
    if place.is_file():
        return [place]
    if ours:
        return [place / name for name in OURS if (place / name).is_file()]
    return sorted(file for file in place.rglob("*") if file.suffix in WEIGHTS and file.is_file())


def digest(place: Path, files: list[Path]) -> str | None:
    """Hash files of a folder."""
    if len(files) < 2:
        return digest_of_file(files[0]) if files else None
    lines = (f"{digest_of_file(file)}  {file.relative_to(place).as_posix()}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
