"""The files of a folder of shards that muse wrote, told from what the user put beside them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from muse_core.errors import MuseError
from muse_core.files import read_json
from muse_core.ownership import FolderKind

INDEX_NAME = "index.json"
FORMAT = "muse-shards/"
_SKIPPED, _HEADER = "skipped.csv", b"file,reason"


def own_files(folder: Path) -> list[str] | None:
    """List the shards that the index names and that have the size it says, with the indexes; None without an index."""
    index = _index(folder / INDEX_NAME)
    if index is None:
        return None
    return [INDEX_NAME, *_shards(folder, index), *_splits(folder, index), *_skipped(folder)]


SHARDS = FolderKind("shards", own_files)


def _index(path: Path) -> Mapping[str, Any] | None:
    try:
        document = read_json(path)
    except MuseError:
        return None
    is_ours = str(document.get("format")).startswith(FORMAT) and isinstance(document.get("shards"), list)
    return document if is_ours else None


def _shards(folder: Path, index: Mapping[str, Any]) -> Iterator[str]:
    for entry in index["shards"]:
        path = folder / str(entry["name"])
        if path.is_file() and path.stat().st_size == entry["bytes"]:
            yield str(entry["name"])


def _splits(folder: Path, index: Mapping[str, Any]) -> Iterator[str]:
    for split in index.get("splits", {}):
        if _index(folder / split / INDEX_NAME) is not None:
            yield f"{split}/{INDEX_NAME}"


def _skipped(folder: Path) -> Iterator[str]:
    path = folder / _SKIPPED
    if path.is_file():
        with path.open("rb") as stream:
            if stream.readline().strip() == _HEADER:
                yield _SKIPPED
