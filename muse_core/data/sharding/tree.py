"""Any tree of pictures as items: captions and masks beside them, classes in the names of folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from muse_core.data.coverage import Coverage
from muse_core.data.sharding.items import Item, Left, Part
from muse_core.data.sharding.places import Entry, Place
from muse_core.data.sharding.tables import Table
from muse_core.file_names import MASK, NO_FILE, is_clutter, is_picture, stem_of
from muse_core.ownership import is_result
from muse_core.text_files import composed, readable

SIDECARS = ("txt", "json", "cls", MASK)
NO_PICTURE_OF_MASK = "mask of no picture"
MADE = "muse made it of another image"

Files = dict[tuple[str, str], Entry]
"""Files of one folder by stem and suffix, as they are compared: stems composed, suffixes in lower case."""


@dataclass(frozen=True)
class Masks:
    """A folder of masks that has the layout of the pictures' folder. name: its last name, wherever it lies."""

    place: Place
    name: str
    coverage: Coverage

    @staticmethod
    def of(path: str) -> Masks:
        """Return the folder of a path or address."""
        place = Place(path)
        last = place.root.rpartition("/")[2]
        return Masks(place, last, Coverage(f"--masks {last}", f"{{image}} needs {last}/{{stem}}.png"))

    def inside(self, folder: str) -> list[Entry]:
        """List one folder of masks, nothing where there is none."""
        listed = self.place.entries(folder) if self.place.is_folder(folder) else []
        return [entry for entry in listed if not is_clutter(entry.name)]


@dataclass(frozen=True)
class Beside:
    """What is looked for beside a picture. txt: whether NAME.txt is a caption."""

    txt: bool = True
    masks: Masks | None = None
    captions: Table | None = None
    classes: Table | None = None


@dataclass(frozen=True)
class _Folder:
    """What one folder, and that of its masks, hold."""

    path: str
    sidecars: Files = field(default_factory=dict)
    masks: Files = field(default_factory=dict)

    def of(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name


def tree(place: Place, beside: Beside, folder: str = "", above: tuple[str, ...] = ()) -> Iterator[Item | Left]:
    """Every picture under a folder in the order of full names, and everything that is not one.

    Links to folders are followed, except round in a circle. The label of an item is its first folder, "" in none.
    """
    here = place.identity(folder)
    if here in above:
        yield Left(f"{folder}/", "link to a folder that contains it")
        return
    try:
        entries = [entry for entry in place.entries(folder) if not is_clutter(entry.name)]
    except OSError as problem:
        yield Left(f"{folder}/", f"folder cannot be listed ({problem.strerror or problem})", error=True)
        return
    of_masks = beside.masks.inside(folder) if beside.masks else []
    now = _Folder(folder, by_suffix(entries, SIDECARS), by_suffix(of_masks, ("png",)))
    images = [entry for entry in entries if _is_file(entry) and is_picture(entry.name)]
    stems = {composed(stem_of(entry.name)) for entry in images}
    for entry in entries:
        if entry.is_folder and not entry.name.startswith("."):
            yield from tree(place, beside, now.of(entry.name), (*above, here))
        elif entry.is_special:
            yield Left(now.of(entry.name), NO_FILE)
        elif not entry.is_folder and is_picture(entry.name):
            if _is_made(place, now.of(entry.name)):
                yield Left(now.of(entry.name), MADE)
                continue
            yield _item(place, beside, now, entry)
        elif reason := _why_not(entry, now.sidecars, stems):
            yield Left(now.of(entry.name), reason)
    if beside.masks is not None:
        here_too = {entry.name for entry in entries if entry.is_folder}
        yield from _masks_left(beside.masks, now, of_masks, stems, here_too)


def _is_made(place: Place, path: str) -> bool:
    """Return whether muse made an image of another one; at an address, where looking costs a request, none is."""
    return place.is_local and path.lower().endswith(".png") and is_result(Path(place.path(path)))


def _is_file(entry: Entry) -> bool:
    return not entry.is_folder and not entry.is_special


def by_suffix(entries: Iterable[Entry], suffixes: tuple[str, ...]) -> Files:
    """Return the files that have one of some suffixes, spelled in any case; lower case comes first."""
    found: Files = {}
    for entry in entries:
        for suffix in suffixes if _is_file(entry) else ():
            if entry.name.lower().endswith(f".{suffix}"):
                key = composed(entry.name[: -len(suffix) - 1]), suffix
                if key not in found or entry.name.endswith(f".{suffix}"):
                    found[key] = entry
    return found


def _item(place: Place, beside: Beside, now: _Folder, entry: Entry) -> Item:
    path, stem = now.of(entry.name), stem_of(entry.name)
    same, lacks = composed(stem), list[str]()
    parts = {"image": Part(place.path(path), entry.size)}
    for suffix in SIDECARS:
        sidecar = now.sidecars.get((same, suffix))
        if sidecar is not None and (suffix != "txt" or beside.txt):
            parts[suffix] = Part(place.path(now.of(sidecar.name)), sidecar.size)
    if beside.masks is not None:
        mask = now.masks.get((same, "png"))
        beside.masks.coverage.note_of(path, fits=mask is not None)
        if mask is not None:
            parts[MASK] = Part(beside.masks.place.path(now.of(mask.name)), mask.size)
        else:
            lacks.append("masks")
    values = [table.value(path) if table else "" for table in (beside.captions, beside.classes)]
    lacks += [kind for kind, value in zip(("captions", "classes"), values, strict=True) if value is None]
    folder = composed(readable(path.partition("/")[0])) if now.path else ""
    return Item(path, parts, values[0] or "", (values[1] or "") if beside.classes else folder, lacks=lacks)


def _masks_left(
    masks: Masks,
    now: _Folder,
    entries: Iterable[Entry],
    stems: set[str],
    folders: set[str],
    above: tuple[str, ...] = (),
) -> Iterator[Left]:
    """Masks of one folder that belong to no picture there, and all masks of folders without pictures."""
    for entry in entries:
        path, stem = now.of(entry.name), composed(stem_of(entry.name))
        if entry.is_folder:
            here = masks.place.identity(path)
            if entry.name not in folders and here not in above:
                yield from _masks_left(masks, _Folder(path), masks.inside(path), set(), set(), (*above, here))
        elif entry.is_special:
            yield Left(f"{masks.name}/{path}", NO_FILE)
        elif stem not in stems or now.masks.get((stem, "png")) != entry:
            yield Left(f"{masks.name}/{path}", NO_PICTURE_OF_MASK)


def _why_not(entry: Entry, sidecars: Files, stems: set[str]) -> str:
    """Return why a file is left out, "" when it belongs to a picture."""
    if entry.name.startswith("."):
        return "hidden"
    lower = entry.name.lower()
    kinds = [suffix for suffix in SIDECARS if lower.endswith(f".{suffix}")]
    keys = [(composed(entry.name[: -len(suffix) - 1]), suffix) for suffix in kinds]
    if not keys:
        return "not a picture by its name"
    if not any(stem in stems for stem, _ in keys):
        return "belongs to no picture"
    return "" if any(sidecars[key] == entry for key in keys) else "another spelling of it belongs to its picture"
