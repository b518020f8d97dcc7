"""The folders of images that measurements write: known by their files, and refused before anything is measured."""

from pathlib import Path

from muse_core.errors import MuseError
from muse_core.files import read_json
from muse_core.marks import Mark, mark_of
from muse_core.ownership import FolderKind, files_in

MASK, PAIR = Mark("mask"), Mark("pair")
PAIRS_NOTE, PAIRS_FORMAT = "saved.json", "muse-images/1"


def _masks_in(folder: Path) -> list[str] | None:
    return [name for name in files_in(folder) if mark_of(folder / name) == MASK] or None


def _pairs_in(folder: Path) -> list[str] | None:
    try:
        format_name = read_json(folder / PAIRS_NOTE).get("format")
    except MuseError:
        return None
    if format_name != PAIRS_FORMAT:
        return None
    return [PAIRS_NOTE, *(name for name in files_in(folder) if mark_of(folder / name) == PAIR)]


MASKS = FolderKind("masks", _masks_in, option="--save-masks")
PAIRS = FolderKind("saved pictures", _pairs_in, option="--save-images")
