"""How many samples of a source have a caption: its index says so, or some of them are looked at, undecoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from muse_core.data.decode import BadMemberError, RawSample, read_caption, read_record
from muse_core.data.folders import FolderSource
from muse_core.data.mixing import MixedSource
from muse_core.data.places import folder_of, is_address
from muse_core.data.sample import Sample
from muse_core.data.shards import Shard, ShardSource, read_index, read_shard
from muse_core.data.source import SceneSource, Source
from muse_core.data.vocabulary import counted

SHORT_LOOK = (4, 256)
"""Shards, and samples in all: enough where captions are among them to say about how many are without."""
LONG_LOOK = (16, 4096)
"""The same before data are said to hold no caption."""
REMOTE_SHARDS = 3  # each has to be fetched whole


@dataclass(frozen=True)
class Census:
    """Of one source: how many of the samples seen have a caption. whole: all were seen."""

    name: str
    captioned: int
    seen: int
    whole: bool

    def __str__(self) -> str:
        looked = "" if self.whole else " looked at"
        return f"{self.captioned:,} of {counted(self.seen, 'image')}{looked} in {self.name}"


def caption_census(source: Source) -> list[Census]:
    """Count captions, for each part of a mix by itself."""
    if isinstance(source, MixedSource):
        return [census for part in source.sources for census in caption_census(part)]
    if isinstance(source, SceneSource):
        return [Census(source.name, source.count, source.count, whole=True)]
    if isinstance(source, ShardSource):
        return [_indexed(source) or _looked_at(source)]
    if isinstance(source, FolderSource):
        return [_in_files(source)]
    items = list(islice(source.once(), LONG_LOOK[1]))
    captions = [bool(item.caption.strip()) for item in items if isinstance(item, Sample)]
    return [Census(source.name, sum(captions), len(captions), whole=len(items) == source.count)]


def _indexed(source: ShardSource) -> Census | None:
    """What index.json counted, where it describes these very shards. It knows nothing of captions inside json."""
    folders = {folder_of(shard.where) for shard in source.shards}
    index = (read_index(folders.pop()) or {}) if len(folders) == 1 and source.count else {}
    captioned = (index.get("field_counts") or {}).get("txt", 0)
    if not captioned or source.count is None or source.count != index.get("count"):
        return None
    return Census(source.name, captioned, source.count, whole=True)


def _in_files(source: FolderSource) -> Census:
    """Count captions of a folder; of a large one look at images that stand evenly apart."""
    if not source.sidecars:
        return Census(source.name, 0, source.count, whole=True)
    for _, most in (SHORT_LOOK, LONG_LOOK):
        numbers = [number * source.count // min(most, source.count) for number in range(min(most, source.count))]
        raws = (source.raw(number, image=False) for number in numbers)
        captions = [has for raw in raws if isinstance(raw, RawSample) for has in _has_caption(raw)]
        if any(captions):
            break
    return Census(source.name, sum(captions), len(captions), whole=len(numbers) == source.count)


def _looked_at(source: ShardSource) -> Census:
    short = _look(source, *SHORT_LOOK)
    return short if short.captioned or short.whole else _look(source, *LONG_LOOK)


def _look(source: ShardSource, most_shards: int, samples: int) -> Census:
    """Look at the first samples of shards that stand evenly apart."""
    if any(is_address(shard.where) for shard in source.shards):
        most_shards = min(most_shards, REMOTE_SHARDS)
    shards = _evenly(source.shards, most_shards)
    each = -(-samples // len(shards))
    captions, whole = list[bool](), len(shards) == len(source.shards)
    for shard in shards:
        for item in read_shard(shard, lambda number: number < each):
            whole = whole and item is not None
            if isinstance(item, RawSample):
                captions += _has_caption(item)
    return Census(source.name, sum(captions), len(captions), whole)


def _evenly(shards: Sequence[Shard], most: int) -> list[Shard]:
    count = min(most, len(shards))
    return [shards[number * len(shards) // count] for number in range(count)]


def _has_caption(raw: RawSample) -> list[bool]:
    """Whether a sample has a caption, once; nothing for one that cannot be read."""
    try:
        return [bool(read_caption(raw.members, read_record(raw.members)).strip())]
    except BadMemberError:
        return []
