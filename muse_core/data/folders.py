"""Plain folders of image files as a source: what `muse shard` would store of them, read file by file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count as count_from
from pathlib import Path

import numpy as np

from muse_core.command_lines import quote
from muse_core.data.decode import BadMemberError, RawSample, decode
from muse_core.data.labels import BadLabelError
from muse_core.data.sample import Sample, Skip
from muse_core.data.sharding.classes import LOOK_LIKE_SPLITS, FolderClasses
from muse_core.data.sharding.items import Item, Left, Part, listed_from, to_line
from muse_core.data.sharding.members import part_bytes
from muse_core.data.sharding.places import Place
from muse_core.data.sharding.tree import MADE, Beside, tree
from muse_core.data.shards import fields_of
from muse_core.data.source import reader_of
from muse_core.data.vocabulary import Vocabulary, classes_of_names, counted
from muse_core.errors import MuseError
from muse_core.file_names import NO_FILE, is_clutter, is_picture, is_special, special_in_words
from muse_core.home import expanded
from muse_core.text_files import readable

_STREAM = 0xF01DE2  # keeps these random numbers apart from any other use of the same seed
_SPELLINGS = {"train": ("train", "training"), "val": ("val", "valid", "validation")}


class FolderSource:
    """The image files under a folder, sorted by their paths, with what lies beside each (.txt, .json, .cls, .seg.png).

    Folders are classes where `muse shard` takes them for classes. Files that are no images, hidden ones and what
    desktops leave behind are passed over; a folder that cannot be listed counts as one damaged sample.

    Args:
        where: a folder.
        split: read alone where all that lies in the folder are folders called as splits are.

    Raises:
        MuseError: there are folders of splits, and none of this one; or names of classes are one number.
    """

    lane_unit = "image file"

    def __init__(self, where: str, *, split: str = "train") -> None:
        self.name = where
        self.folder, self.remarks = _of_split(where, expanded(where), split)
        place, seen, self.left = Place(str(self.folder)), FolderClasses(), list[Left]()
        self.root, self._lines = place.root, list[str]()  # as lines, which take a fifth of the memory of items
        for entry in tree(place, Beside()):
            seen.note(entry)
            if isinstance(entry, Item) or entry.error:
                self._lines.append(to_line(entry))
            else:
                self.left.append(entry)
        self.remarks = (*self.remarks, *_left_out(where, self.left))
        self.images, self.sidecars = seen.items, bool(seen.captioned)
        try:
            self.classes = seen.folders("auto")
        except BadLabelError as problem:
            raise MuseError(f"folders of {where}: {problem}", hint="rename one of them") from None
        self._numbers = {name: number for number, name in enumerate(self.classes)}

    @property
    def count(self) -> int:
        """Images, and what is damaged."""
        return len(self._lines)

    @property
    def max_lanes(self) -> int:
        """As many as there are files."""
        return len(self._lines)

    @property
    def vocabulary(self) -> Vocabulary:
        """What labels mean: the names of folders."""
        return Vocabulary(classes_of_names(self.classes))

    @property
    def fields(self) -> frozenset[str]:
        """What the first readable sample carries."""
        raws = (self.raw(number) for number in range(self.count))
        return next((fields_of(raw) for raw in raws if isinstance(raw, RawSample)), frozenset())

    def lane(self, index: int, lanes: int, *, seed: int, start: int = 0) -> Iterator[Sample | Skip]:
        """The files `index`, `index + lanes`, ..., in an order drawn anew for every pass; none before `start` is read.

        Raises:
            MuseError: there is no such file, or a whole pass had no usable image.
        """
        mine = range(index, self.count, lanes)
        if not mine:
            raise MuseError(
                f"{lanes} lanes cannot be fed by {self.count} image files: {self.name}",
                hint=f"--set data.lanes={self.count}",
            )
        first_pass, done = divmod(start, len(mine))
        for number in count_from(first_pass):
            order = np.random.default_rng([_STREAM, seed, index, number]).permutation(len(mine))
            usable = bool(done)
            for position in order[done:].tolist():
                item = self._decoded(mine[position])
                usable = usable or isinstance(item, Sample)
                yield item
            if not usable:
                raise MuseError(
                    f"no usable image among {len(mine)} of {self.name}", hint=f"muse inspect {quote(self.name)}"
                )
            done = 0

    def once(self, index: int = 0, readers: int = 1, run: int = 1) -> Iterator[Sample | Skip]:
        """Every image in the order of paths; of the others' images nothing is read."""
        for number in range(self.count):
            if reader_of(number, readers, run) == index:
                yield self._decoded(number)

    def stretch(self, first: int, count: int) -> Iterator[Sample | Skip]:
        """The images from number `first` on, at most `count`."""
        yield from map(self._decoded, range(first, min(first + count, self.count)))

    def raw(self, number: int, *, image: bool = True) -> RawSample | Skip:
        """The undecoded members of an image, or why there are none; image: with those of the image itself."""
        entry = listed_from(self._lines[number])
        if isinstance(entry, Left):
            return Skip(entry.reason, entry.name)
        suffixes = {"image": entry.name.lower().rpartition(".")[2]}
        try:
            wanted = {kind: part for kind, part in entry.parts.items() if image or kind != "image"}
            members = {suffixes.get(kind, kind): part_bytes(part) for kind, part in wanted.items()}
        except BadMemberError as problem:
            return Skip(str(problem), entry.name)
        if entry.label in self._numbers:
            members["cls"] = str(self._numbers[entry.label]).encode()
        return RawSample(entry.name, members)

    def files(self) -> Iterator[tuple[str, Path]]:
        """Every file that is read, as it is called inside the folder, and where it is."""
        for line in self._lines:
            entry = listed_from(line)
            for part in entry.parts.values() if isinstance(entry, Item) else ():
                yield self._inside(part), Path(part.path)

    def _inside(self, part: Part) -> str:
        return part.path.removeprefix(self.root).lstrip("/")

    def _decoded(self, number: int) -> Sample | Skip:
        raw = self.raw(number)
        return decode(raw) if isinstance(raw, RawSample) else raw


def _left_out(where: str, left: Sequence[Left]) -> Iterator[str]:
    """Say of what has the name of data and is left out how many there are, and which is the first."""
    made = [one.name for one in left if one.reason == MADE]
    if made:
        said = f"{counted(len(made), 'image')} of {where} that muse made of others are left out (first: {made[0]})"
        yield readable(said)
    special = [one.name for one in left if one.reason == NO_FILE]
    if special:
        yield readable(special_in_words(where, special))


def open_folder(where: str, split: str = "train") -> FolderSource | None:
    """Open the image files under a folder here; None where it holds tars, or no image, or is no folder."""
    path = expanded(where)
    if not path.is_dir() or any(_names(path / part, ".tar") for part in (split, "")):
        return None
    source = FolderSource(where, split=split)
    return source if source.images else None


def images_beside_tars(where: str, split: str) -> tuple[str, ...]:
    """Return what has to be said of a folder that holds tars and images: the tars are read."""
    path = expanded(where)
    folder = path / split if _names(path / split, ".tar") else path
    images = sum(map(is_picture, _names(folder, ""))) if path.is_dir() else 0
    said = (f"{where} holds tars and {images:,} image files: the tars are read",) if images else ()
    special = [Left(name, NO_FILE) for name in _names(folder, "") if is_special(folder / name)]
    return (*said, *_left_out(where, special))


def _names(folder: Path, suffix: str) -> list[str]:
    """Names of the files in a folder, nothing where it cannot be listed."""
    try:
        return [one.name for one in folder.iterdir() if one.name.endswith(suffix) and not is_clutter(one.name)]
    except OSError:
        return []


def _of_split(where: str, path: Path, split: str) -> tuple[Path, tuple[str, ...]]:
    """Return the folder of a split where all there is are such folders, else the whole, and what is to be said."""
    inside = [one for one in sorted(path.iterdir()) if not one.name.startswith(".") and not is_clutter(one.name)]
    folders = [one.name for one in inside if one.is_dir()]
    if not folders or not _are_splits(folders) or any(is_picture(one.name) for one in inside):
        return path, ()
    chosen = [name for name in folders if name.lower() in _SPELLINGS.get(split, (split,))]
    if not chosen:
        raise MuseError(
            f"{where} holds the splits {', '.join(folders)}, and no {split}", hint=f"name one: {where}/{folders[0]}"
        )
    said = f"{where} holds the splits {', '.join(folders)}: {chosen[0]} is read"
    return path / chosen[0], (said,) if len(folders) > 1 else ()


def _are_splits(names: Sequence[str]) -> bool:
    return LOOK_LIKE_SPLITS.issuperset(name.lower() for name in names)
