"""WebDataset shards as a source: tars of samples, in lanes that own disjoint shards."""

from __future__ import annotations

import glob
import io
import json
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count as count_from, groupby, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from webdataset.shardlists import expand_urls
from webdataset.tariterators import base_plus_ext, tar_file_iterator

from muse_core.data.decode import CAPTION_SUFFIXES, IMAGE_SUFFIXES, MASK_SUFFIX, RawSample, ShapeFilter, decode
from muse_core.data.sample import Sample, Skip
from muse_core.errors import MuseError

INDEX_NAME = "index.json"

_STREAM = 0x54A2D5  # keeps these random numbers apart from any other use of the same seed


@dataclass(frozen=True)
class Shard:
    """One tar. count: samples in it, when its folder's index.json says so and the file has the size it recorded.

    shortened: the file is not the one the index describes.
    """

    path: Path
    count: int | None = None
    shortened: bool = False


class ShardSource:
    """WebDataset tars: a folder, a tar, a glob or a brace pattern.

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
        self._lengths = {shard.path: shard.count for shard in self.shards if shard.count is not None}

    @property
    def count(self) -> int | None:
        """Samples in all shards, or None when some shard has no index."""
        counts = [shard.count for shard in self.shards]
        return None if None in counts else sum(one for one in counts if one is not None)

    @property
    def fields(self) -> frozenset[str]:
        """What the first readable sample carries."""
        for shard in self.shards:
            for item in read_shard(shard):
                if isinstance(item, RawSample):
                    return _fields(item)
        return frozenset()

    def lane(self, index: int, lanes: int, *, seed: int, start: int = 0) -> Iterator[Sample | Skip]:
        """The shards `index`, `index + lanes`, ..., in an order drawn anew for every pass over them."""
        mine = self.shards[index::lanes]
        if not mine:
            raise MuseError(
                f"{lanes} lanes cannot be fed by {len(self.shards)} shards: {self.name}",
                hint=f"--set data.lanes={len(self.shards)}",
            )
        first_pass, done = divmod(start, self._length(mine)) if start else (0, 0)
        for number in count_from(first_pass):
            rng = np.random.default_rng([_STREAM, seed, index, number])
            read = done
            for item in islice(_shuffled(self._one_pass(mine, rng), self.shuffle, rng), done, None):
                read += 1
                yield self._decoded(item)
            if not read:
                raise MuseError(f"no samples in {', '.join(shard.path.name for shard in mine)}: {self.name}")
            done = 0

    def once(self, index: int = 0, readers: int = 1) -> Iterator[Sample | Skip]:
        """Every sample of every shard in the order of their names; only this reader's are decoded."""
        everything = (item for shard in self.shards for item in read_shard(shard))
        for item in islice(everything, index, None, readers):
            yield self._decoded(item)

    def _one_pass(self, mine: Sequence[Shard], rng: np.random.Generator) -> Iterator[RawSample | Skip]:
        for position in rng.permutation(len(mine)):
            yield from read_shard(mine[position])

    def _length(self, mine: Iterable[Shard]) -> int:
        """Raw samples in one pass; shards without an index are read through once to know."""
        for shard in mine:
            if shard.path not in self._lengths:
                self._lengths[shard.path] = sum(1 for _ in read_shard(shard))
        total = sum(self._lengths[shard.path] for shard in mine)
        if not total:
            raise MuseError(f"no samples to continue with: {self.name}")
        return total

    def _decoded(self, item: RawSample | Skip) -> Sample | Skip:
        return item if isinstance(item, Skip) else decode(item, self.shape_filter)


def _shuffled(items: Iterator[RawSample | Skip], size: int, rng: np.random.Generator) -> Iterator[RawSample | Skip]:
    """Hold `size` items and release one drawn among them for each that comes in; at the end release the rest."""
    held: list[RawSample | Skip] = []
    for item in items:
        held.append(item)
        if len(held) >= size:
            yield _drawn(held, rng)
    while held:
        yield _drawn(held, rng)


def _drawn(held: list[RawSample | Skip], rng: np.random.Generator) -> RawSample | Skip:
    chosen = int(rng.integers(len(held)))
    held[chosen], held[-1] = held[-1], held[chosen]
    return held.pop()


def _fields(raw: RawSample) -> frozenset[str]:
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


def read_shard(shard: Shard) -> Iterator[RawSample | Skip]:
    """Every raw sample of a tar in order; what cannot be read becomes a `Skip`.

    A shard with a trusted count always yields exactly that many items, so that positions keep their meaning.
    """
    read = 0
    for item in _read_tar(shard.path):
        read += 1
        yield item
    for missing in range(read, shard.count or 0):
        yield Skip("sample missing from its shard", f"{shard.path.name}#{missing}")
    if shard.shortened:
        yield Skip("shard differs from its index", shard.path.name)


def _read_tar(path: Path) -> Iterator[RawSample | Skip]:
    seen: set[str] = set()
    last: RawSample | Skip | None = None
    try:
        with _open(path) as stream:
            for name, group in groupby(tar_file_iterator(stream), lambda member: base_plus_ext(member["fname"])[0]):
                members = [(str(member["fname"]), bytes(member["data"])) for member in group]
                if last is not None:
                    yield last
                last = None if name is None else _grouped(f"{path.stem}/{name}", name in seen, members)
                seen.add(name)  # None is a file without a suffix, which belongs to no sample
        if last is not None:
            yield last if _has_end_mark(path) else Skip("cut off by the end of its shard", last.key)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as problem:
        if last is not None:  # whole, because what could not be read came after it
            yield last
        if _is_empty_file(path):
            yield Skip("shard is empty", path.name)
        else:
            yield Skip(f"shard cannot be read to its end ({type(problem).__name__})", path.name)


def _grouped(key: str, repeated: bool, members: list[tuple[str, bytes]]) -> RawSample | Skip:
    by_suffix = {base_plus_ext(name)[1].lower(): content for name, content in members}
    if repeated:
        return Skip("key occurs again later in its shard", key)
    if len(by_suffix) < len(members):
        return Skip("key holds the same suffix twice", key)
    return RawSample(key, by_suffix)


def _open(path: Path) -> BinaryIO:
    """The one place that opens a shard, so that other file systems need to be known here only."""
    return path.open("rb")


def _has_end_mark(path: Path) -> bool:
    """Whether a tar ends as tars do. One that was cut between members reads without an error, so this must be asked.

    A compressed tar has no such mark, but cannot be cut without an error either.
    """
    with _open(path) as stream:
        compressed = stream.read(2) in (b"\x1f\x8b", b"BZ", b"\xfd7")
        stream.seek(-1024, io.SEEK_END)
        return compressed or not any(stream.read())


def _is_empty_file(path: Path) -> bool:
    return path.exists() and path.stat().st_size == 0


def find_shards(where: str, split: str) -> list[Shard]:
    """The tars that `where` names, in the order of their names."""
    _refuse_address(where)
    paths = [path for pattern in expand_urls(where) for path in _matching(pattern, split)]
    if not paths:
        raise MuseError(
            f"no shards (.tar) found: {where}", hint="muse shard IMAGES --out DIR makes them; --data demo needs none"
        )
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise MuseError(f"{len(missing)} of {len(paths)} shards do not exist: {', '.join(missing[:3])}{more}")
    indexes = {folder: read_index(folder) for folder in {path.parent for path in paths}}
    return [_shard(path, indexes[path.parent]) for path in dict.fromkeys(paths)]


def _refuse_address(where: str) -> None:
    if re.search(r"(^|::|\{|,)\s*pipe:", where):
        raise MuseError(f"'pipe:' would run a command of the data's choosing, and is refused: {where}")
    address = re.match(r"([a-z][a-z0-9+.-]*)://", where)
    if address:
        raise MuseError(
            f"shards are read from local paths; '{address[1]}' addresses are not supported: {where}",
            hint="copy the shards to a local folder first",
        )


def _matching(pattern: str, split: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.is_dir():
        return sorted((path / split).glob("*.tar")) or sorted(path.glob("*.tar"))
    if glob.has_magic(pattern):
        return [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if name.endswith(".tar")]
    return [path]


def _shard(path: Path, index: dict[str, Any] | None) -> Shard:
    entry = next((one for one in (index or {}).get("shards", []) if one.get("name") == path.name), None)
    if entry is None:
        return Shard(path)
    same = entry.get("bytes") == path.stat().st_size
    return Shard(path, count=int(entry["count"]) if same else None, shortened=not same)


def read_index(folder: Path) -> dict[str, Any] | None:
    """The index.json of a folder of shards, or None when there is none."""
    path = folder / INDEX_NAME
    if not path.is_file():
        return None
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise MuseError(f"{path} is not valid JSON: {problem}", hint="write the shards again") from problem
    return index if isinstance(index, dict) else None
