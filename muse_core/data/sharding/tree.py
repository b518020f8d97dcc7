"""Any tree of pictures as items: captions and masks beside them, classes in the names of folders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from muse_core.data.sharding.items import Item, Left, Part
from muse_core.data.sharding.places import Entry, Place
from muse_core.data.sharding.tables import Table
from muse_core.image_files import SUFFIXES

PICTURES = frozenset(SUFFIXES)
MASK = "seg.png"
SIDECARS = ("txt", "json", "cls", MASK)


@dataclass(frozen=True)
class Beside:
    """What is looked for beside a picture. txt: whether NAME.txt is a caption."""

    txt: bool = True
    masks: Place | None = None
    captions: Table | None = None
    classes: Table | None = None


def tree(place: Place, beside: Beside, folder: str = "", above: tuple[str, ...] = ()) -> Iterator[Item | Left]:
    """Every picture under a folder in the order of full names, and everything that is not one.

    Links to folders are followed, except round in a circle. The label of an item is its first folder, "" in none.
    """
    here = place.identity(folder)
    if here in above:
        yield Left(f"{folder}/", "link to a folder that contains it")
        return
    try:
        entries = place.entries(folder)
    except OSError as problem:
        yield Left(f"{folder}/", f"folder cannot be listed ({problem.strerror or problem})", error=True)
        return
    sizes = {entry.name: entry.size for entry in entries if not entry.is_folder}
    masks = _mask_sizes(beside.masks, folder)
    stems = {stem_of(name) for name in sizes if is_picture(name)}
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        if entry.is_folder and not entry.name.startswith("."):
            yield from tree(place, beside, path, (*above, here))
        elif not entry.is_folder and is_picture(entry.name):
            yield _item(place, beside, path, entry, sizes, masks)
        elif not _belongs(entry.name, stems):
            yield Left(path, _why_not(entry))


def is_picture(name: str) -> bool:
    """Say whether a file counts as a picture by its name; its content is looked at later."""
    lower = name.lower()
    return lower.rpartition(".")[2] in PICTURES and not lower.startswith(".") and not lower.endswith(f".{MASK}")


def stem_of(name: str) -> str:
    """Return a name without its last suffix."""
    return name.rpartition(".")[0] or name


def _item(place: Place, beside: Beside, path: str, entry: Entry, sizes: dict[str, int], masks: dict[str, int]) -> Item:
    folder, _, name = path.rpartition("/")
    stem = stem_of(name)
    within = stem_of(path)
    parts = {"image": Part(place.path(path), entry.size)}
    for suffix in SIDECARS:
        if f"{stem}.{suffix}" in sizes and (suffix != "txt" or beside.txt):
            parts[suffix] = Part(place.path(f"{within}.{suffix}"), sizes[f"{stem}.{suffix}"])
    if beside.masks is not None and f"{stem}.png" in masks:
        parts[MASK] = Part(beside.masks.path(f"{within}.png"), masks[f"{stem}.png"])
    text = beside.captions.value(path) if beside.captions else ""
    label = beside.classes.value(path) if beside.classes else path.partition("/")[0] if folder else ""
    return Item(path, parts, text, label)


def _mask_sizes(masks: Place | None, folder: str) -> dict[str, int]:
    if masks is None or not masks.is_folder(folder):
        return {}
    return {entry.name: entry.size for entry in masks.entries(folder) if not entry.is_folder}


def _belongs(name: str, stems: set[str]) -> bool:
    return any(name.endswith(f".{suffix}") and name.removesuffix(f".{suffix}") in stems for suffix in SIDECARS)


def _why_not(entry: Entry) -> str:
    if entry.name.startswith("."):
        return "hidden"
    if entry.name.endswith(tuple(f".{suffix}" for suffix in SIDECARS)):
        return "belongs to no picture"
    return "not a picture by its name"
