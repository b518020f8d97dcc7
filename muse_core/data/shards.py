"""WebDataset shards as a source: tars of samples, in lanes that own disjoint shards."""

from __future__ import annotations

import glob
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count as count_from, islice, repeat
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from muse_core.command_lines import quote
from muse_core.data.classes import Joint, join
from muse_core.data.decode import CAPTION_SUFFIXES, IMAGE_SUFFIXES, MASK_SUFFIX, RawSample, ShapeFilter, decode
from muse_core.data.places import (
    folder_of,
    is_address,
    is_here,
    joined,
    matching,
    name_of,
    open_place,
    read_place,
    refuse_pipe,
)
from muse_core.data.sample import Sample, Skip
from muse_core.data.shard_names import expand_urls
from muse_core.data.source import reader_of
from muse_core.data.tars import read_tar
from muse_core.data.vocabulary import Vocabulary, vocabulary_of_index
from muse_core.errors import MuseError
from muse_core.file_names import is_clutter, is_special, matches, parted
from muse_core.home import expanded

INDEX_NAME = "index.json"
DIFFERS = "shard differs from its index"
REPLACED = "shard was replaced while reading"

_STREAM = 0x54A2D5  # keeps these random numbers apart from any other use of the same seed

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """One tar, at a path or an address.

    count: samples in it, when its folder's index.json says so and the file has the size it recorded. size: bytes it had
    when it was found, or that its index says it has. shortened: the file is not the one the index describes. changed:
    when a file was last written, in nanoseconds, as it was found. sha256: as its index says, under the same condition
    as count.
    """

    where: str
    count: int | None = None
    size: int | None = None
    shortened: bool = False
    changed: int | None = None
    sha256: str | None = None

    @property
    def path(self) -> Path:
        """Where it is, for those that are files here."""
        return Path(self.where)

    @property
    def name(self) -> str:
        """The last part of its path or address."""
        return name_of(self.where)


class ShardSource:
    """WebDataset tars: a folder, a tar, a glob or a brace pattern; of paths or of addresses.

    Args:
        where: what to read.
        split: a folder of this name inside `where` is preferred when it holds tars.
        shuffle: undecoded samples held to draw from, per lane; 1 keeps the order within a shard.
        shape_filter: drops samples by the size their json records.
    """

    def __init__(
        self, where: str, *, split: str = "train", shuffle: int = 256, shape_filter: ShapeFilter | None = None
    ) -> None:
        self.name = where
        self.shards = find_shards(where, split)
        self.max_lanes = len(self.shards)
        self.shuffle = shuffle
        self.shape_filter = shape_filter
        self.remarks: tuple[str, ...] = ()
        self._lengths = {shard.where: shard.count for shard in self.shards if shard.count is not None}

    @property
    def count(self) -> int | None:
        """Samples in all shards, or None when some shard has no index."""
        counts = [shard.count for shard in self.shards]
        return None if None in counts else sum(one for one in counts if one is not None)

    @property
    def vocabulary(self) -> Vocabulary:
        """What labels and the values of masks mean, as far as the index of each folder says it."""
        return self._joint.vocabulary

    @property
    def changes(self) -> list[Any] | None:
        """How numbers differ from those that are stored."""
        return self._joint.changes

    @property
    def is_joint(self) -> bool:
        """Whether several folders are read as one."""
        return len(self._folders) > 1

    @cached_property
    def _folders(self) -> tuple[str | None, ...]:
        return tuple(dict.fromkeys(_folder(shard) for shard in self.shards))

    @cached_property
    def _joint(self) -> Joint:
        return join([vocabulary_of_index(read_index(folder) if folder else None) for folder in self._folders])

    def _renumbering(self, shard: Shard) -> Callable[[Sample | Skip], Sample | Skip] | None:
        """What the numbers of a shard need where several folders are read as one."""
        return self._joint.renumberings[self._folders.index(_folder(shard))] if self.is_joint else None

    def _read(self, shard: Shard, wanted: Callable[[int], bool]) -> Iterator[RawSample | Skip | None]:
        renumber = self._renumbering(shard)
        for item in read_shard(shard, wanted):
            yield replace(item, renumber=renumber) if renumber and isinstance(item, RawSample) else item

    @property
    def fields(self) -> frozenset[str]:
        """What the first readable sample carries."""
        for shard in self.shards:
            for item in read_shard(shard):
                if isinstance(item, RawSample):
                    return fields_of(item)
        return frozenset()

    def lane(self, index: int, lanes: int, *, seed: int, start: int = 0) -> Iterator[Sample | Skip]:
        """The shards `index`, `index + lanes`, ..., in an order drawn anew for every pass over them.

        Before `start` nothing is decoded, and of local shards nothing but headers is read.
        """
        mine = self.shards[index::lanes]
        if not mine:
            raise MuseError(
                f"{lanes} lanes cannot be fed by {len(self.shards)} shards: {self.name}",
                hint=f"--set data.lanes={len(self.shards)}",
            )
        first_pass, done = divmod(start, self._length(mine)) if start else (0, 0)
        for number in count_from(first_pass):
            rng = np.random.default_rng([_STREAM, seed, index, number])
            order = [mine[position] for position in rng.permutation(len(mine))]
            before = self._drawn_first(order, rng, done)
            usable = bool(done)
            for item in islice(_shuffled(self._one_pass(order, before), self.shuffle, rng), done, None):
                decoded = self._decoded(item)
                usable = usable or isinstance(decoded, Sample)
                yield decoded
            if not usable:
                raise MuseError(
                    f"no samples in {', '.join(shard.name for shard in mine)}: {self.name}",
                    hint=f"muse inspect {quote(self.name)}",
                )
            done = 0

    def once(self, index: int = 0, readers: int = 1, run: int = 1) -> Iterator[Sample | Skip]:
        """Every sample of every shard in the order of their names; of the others' samples nothing is read."""
        number = 0
        for shard in self.shards:

            def mine(within: int, before: int = number) -> bool:
                return reader_of(before + within, readers, run) == index

            for item in self._read(shard, mine):
                if reader_of(number, readers, run) == index:
                    yield self._decoded(item)
                number += 1

    def _one_pass(self, order: Sequence[Shard], skipped: set[int]) -> Iterator[RawSample | Skip | None]:
        """Every sample of some shards; None for those whose number in the pass is among the skipped."""
        number = 0
        for shard in order:
            before, known = number, self._lengths.get(shard.where, 0)
            if known and skipped and skipped.issuperset(range(before, before + known)):
                yield from repeat(None, known)
                number += known
                continue
            for item in self._read(shard, lambda within, before=before: before + within not in skipped):  # type: ignore[misc]
                yield item
                number += 1

    def _drawn_first(self, order: Sequence[Shard], rng: np.random.Generator, done: int) -> set[int]:
        """The numbers of the samples that the first `done` draws of a pass take."""
        if not done:
            return set()
        numbers = iter(range(self._length(order)))
        return set(islice(_shuffled(numbers, self.shuffle, deepcopy(rng)), done))

    def _length(self, mine: Iterable[Shard]) -> int:
        """Raw samples in one pass; of shards without an index the headers are read through once to know."""
        for shard in mine:
            if shard.where not in self._lengths:
                self._lengths[shard.where] = sum(1 for _ in read_shard(shard, lambda number: False))
        total = sum(self._lengths[shard.where] for shard in mine)
        if not total:
            raise MuseError(f"no samples to continue with: {self.name}")
        return total

    def _decoded(self, item: RawSample | Skip | None) -> Sample | Skip:
        if item is None:
            raise AssertionError("a sample that was not wanted is never drawn")
        if isinstance(item, Skip):
            return item
        sample = decode(item, self.shape_filter)
        return item.renumber(sample) if item.renumber else sample


def _folder(shard: Shard) -> str | None:
    """The folder whose index says what numbers mean; a command has none."""
    return None if shard.where.startswith("pipe:") else folder_of(shard.where)


def _shuffled(items: Iterator[T], size: int, rng: np.random.Generator) -> Iterator[T]:
    """Hold `size` items and release one drawn among them for each that comes in; at the end release the rest.

    Which of them comes when depends on their number only, not on what they are.
    """
    held: list[T] = []
    for item in items:
        held.append(item)
        if len(held) >= size:
            yield _drawn(held, rng)
    while held:
        yield _drawn(held, rng)


def _drawn(held: list[T], rng: np.random.Generator) -> T:
    chosen = int(rng.integers(len(held)))
    held[chosen], held[-1] = held[-1], held[chosen]
    return held.pop()


def fields_of(raw: RawSample) -> frozenset[str]:
    """Return what a sample carries, of image, caption, label, mask."""
    has = {
        "image": any(suffix in raw.members for suffix in IMAGE_SUFFIXES),
        "caption": any(suffix in raw.members for suffix in CAPTION_SUFFIXES),
        "label": "cls" in raw.members,
        "mask": MASK_SUFFIX in raw.members,
    }
    sample = decode(raw)
    if isinstance(sample, Sample):  # json may carry caption and label too
        has["caption"] |= bool(sample.caption)
        has["label"] |= sample.label >= 0
    return frozenset(name for name, present in has.items() if present)


def read_shard(shard: Shard, wanted: Callable[[int], bool] = lambda number: True) -> Iterator[RawSample | Skip | None]:
    """Every raw sample of a tar in order, None for those that are not `wanted`; what cannot be read becomes a `Skip`.

    A shard with a trusted count always yields exactly that many items, so that positions keep their meaning.
    """
    read = 0
    for item in islice(_read_tar(shard, wanted), shard.count):
        read += 1
        yield item
    for missing in range(read, shard.count or 0):
        yield Skip("sample missing from its shard", f"{shard.name}#{missing}")
    if shard.shortened:
        yield Skip(DIFFERS, shard.name)


def _read_tar(shard: Shard, wanted: Callable[[int], bool]) -> Iterator[RawSample | Skip | None]:
    try:
        with open_place(shard.where) as stream:
            if _is_other(shard, stream):
                yield Skip(DIFFERS if is_address(shard.where) else REPLACED, shard.name)
            else:
                yield from read_tar(stream, shard.name, wanted)
    except OSError as problem:
        yield Skip(f"shard cannot be read to its end ({type(problem).__name__})", shard.name)


def _is_other(shard: Shard, stream: BinaryIO) -> bool:
    """Whether a shard is not the file that was found."""
    if is_address(shard.where):
        return shard.size not in (None, stream.seek(0, io.SEEK_END))
    now = shard.path.stat()  # of the file itself, which may be packed
    return shard.size not in (None, now.st_size) or shard.changed not in (None, now.st_mtime_ns)


def find_shards(where: str, split: str) -> list[Shard]:
    """The tars that `where` names, in the order of their names."""
    refuse_pipe(where)
    found = [one for pattern in _patterns(where) for one in _matching(pattern, split)]
    if not found:
        images = " and no images" if expanded(where).is_dir() else ""
        hint = "muse shard IMAGES --out DIR makes them; --data demo needs none"
        raise MuseError(f"no shards (.tar){images} found: {where}", hint=hint)
    places = list(dict.fromkeys(found))
    missing = [one for one in places if not is_address(one) and not Path(one).is_file()]
    if missing and len(places) == 1:
        raise MuseError(f"{places[0]} does not exist", hint="a folder, pattern or address of shards, or demo")
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise MuseError(f"{len(missing)} of {len(places)} shards do not exist: {', '.join(missing[:3])}{more}")
    folders = {folder_of(one) for one in places if not one.startswith("pipe:")}
    said = {folder: _entries(read_index(folder)) for folder in folders}
    return [_shard(one, said.get(folder_of(one), {}).get(name_of(one))) for one in places]


def _entries(index: dict[str, Any] | None) -> dict[Any, dict[str, Any]]:
    """What an index says of each shard, by its name: there may be many thousands."""
    return {one.get("name"): one for one in reversed((index or {}).get("shards", []))}


def _patterns(where: str) -> list[str]:
    if where.startswith("pipe:") or is_here(where):  # one address, or one name, whatever signs are in it
        return [where]
    try:
        return [name for part in where.split("::") for name in _expanded(part)]
    except ValueError as problem:
        raise MuseError(f"{where} is no pattern: {problem}", hint="data/{000000..000127}.tar, in quotes") from None


def _expanded(part: str) -> list[str]:
    """Expand braces and variables of a path behind the folder that is here, or of an address."""
    if is_address(part) or is_here(part):
        return expand_urls(part) if is_address(part) else [part]
    folder, rest = parted(os.path.expanduser(part))
    names = expand_urls(rest) if "{" in rest or "$" in rest else [rest]
    return [f"{folder}{name}" for name in names]


def _matching(pattern: str, split: str) -> list[str]:
    if is_address(pattern):
        return _at_address(pattern, split)
    path = expanded(pattern)
    if path.is_dir():
        return _tars_in(path / split) or _tars_in(path)
    if glob.has_magic(parted(str(path))[1]) and not is_here(pattern):
        return [name for name in matches(str(path)) if name.endswith(".tar") and not is_clutter(Path(name).name)]
    return [str(path)]


def _tars_in(folder: Path) -> list[str]:
    return [str(one) for one in sorted(folder.glob("*.tar")) if not is_clutter(one.name) and not is_special(one)]


def _at_address(pattern: str, split: str) -> list[str]:
    if pattern.startswith("pipe:") or name_of(pattern).endswith((".tar", ".tar.gz", ".tgz")):
        return matching(pattern) if "*" in pattern else [pattern]
    for folder in (joined(pattern, split), pattern):
        index = read_index(folder)
        if index is not None:  # one small request, where listing may not be possible at all
            return [joined(folder, _inside(entry["name"], folder)) for entry in index.get("shards", [])]
    return matching(joined(pattern, f"{split}/*.tar")) or matching(joined(pattern, "*.tar"))


def _inside(name: Any, folder: str) -> str:
    """Refuse a name that leads elsewhere: whoever serves an index does not choose what else is opened."""
    parts = str(name).split("/")
    if not {"", ".", ".."}.isdisjoint(parts) or ":" in str(name) or "\\" in str(name):
        raise MuseError(f"the index of {folder} names a shard outside it: {name}", hint="name the shards one by one")
    return str(name)


def _shard(where: str, entry: dict[str, Any] | None) -> Shard:
    found = None if is_address(where) else Path(where).stat()
    here, changed = (found.st_size, found.st_mtime_ns) if found else (None, None)
    if entry is None:
        return Shard(where, size=here, changed=changed)
    same = here in (None, entry.get("bytes"))
    count, sha256 = (int(entry["count"]), entry.get("sha256")) if same else (None, None)
    return Shard(where, count, here or entry.get("bytes"), shortened=not same, changed=changed, sha256=sha256)


def read_index(folder: str | Path) -> dict[str, Any] | None:
    """The index.json of a folder of shards, or None when there is none."""
    path = joined(str(folder), INDEX_NAME)
    content = read_place(path)
    if content is None:
        return None
    try:
        index = json.loads(content)
    except ValueError as problem:
        raise MuseError(f"{path} is not valid JSON: {problem}", hint="write the shards again") from problem
    return index if isinstance(index, dict) else None
