"""The files of a folder of latents that muse wrote, told from what the user put beside them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from muse_core.data.shards import INDEX_NAME
from muse_core.errors import MuseError
from muse_core.files import read_json
from muse_core.model.locating import STATS_NAME
from muse_core.ownership import FolderKind

DTYPES, FORMATS = ("float16", "float32"), ("safetensors", "npy")
"""How latents are stored: types of their numbers, and of the members of a tar."""

JOB_NAME = "job.json"
PARTS = "parts"
_JOB = {"data", "tokenizer", "size", "dtype", "form", "flips", "batch_size"}
_PART = {"name", "count", "bytes", "sha256", "shape", "skipped", "moments"}


def own_files(folder: Path) -> list[str] | None:
    """List the files of latents; None where job.json is none of a job of latents."""
    if not _has(folder / JOB_NAME, _JOB):
        return None
    return [JOB_NAME, *_whole(folder), *_parts(folder)]


LATENTS = FolderKind("latents", own_files, option="--latents")


def _whole(folder: Path) -> Iterator[str]:
    if str(_document(folder / INDEX_NAME).get("format")).startswith("muse-latents/"):
        yield INDEX_NAME
    if _has(folder / STATS_NAME, _JOB | {"mean", "std"}):
        yield STATS_NAME


def _parts(folder: Path) -> Iterator[str]:
    """Yield what is noted of each shard, and the shard if it has the size noted."""
    for note in sorted((folder / PARTS).glob("*.json")):
        part = _document(note)
        if part.keys() >= _PART:
            yield f"{PARTS}/{note.name}"
            shard = folder / str(part["name"])
            if shard.is_file() and shard.stat().st_size == part["bytes"]:
                yield shard.name


def _has(path: Path, keys: set[str]) -> bool:
    return _document(path).keys() >= keys


def _document(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except MuseError:
        return {}
