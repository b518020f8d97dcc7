"""Can data be read at all? Asked before anything is written: what is named and not there would cost a run folder."""

from __future__ import annotations

from muse_core.data.mixing import MixedSource
from muse_core.data.places import folder_of, refuse_unreadable
from muse_core.data.shards import ShardSource
from muse_core.data.source import Source, open_source


def open_readable(where: str, *, split: str = "train", size: int | None = None) -> Source:
    """Open a source as `open_source` does, and ask for the first and the last shard of each of its folders.

    A pattern that counts too far is then told as well as one that is wrong from its beginning; the shards between are
    not asked for, of which there may be many thousands.

    Raises:
        MuseError: it cannot be opened, or such a shard is not there or may not be read.
    """
    source = open_source(where, split=split, size=size)
    refuse_unreadable_shards(source)
    return source


def refuse_unreadable_shards(source: Source) -> None:
    """Refuse a source of which such a shard cannot be read, each part of a mix by itself.

    Raises:
        MuseError: naming the shard.
    """
    if isinstance(source, MixedSource):
        for part in source.sources:
            refuse_unreadable_shards(part)
    for where in _ends(source) if isinstance(source, ShardSource) else ():
        refuse_unreadable(where)


def _ends(source: ShardSource) -> list[str]:
    ends: dict[str, list[str]] = {}
    for shard in source.shards:
        folder = ends.setdefault(folder_of(shard.where), [shard.where, shard.where])
        folder[1] = shard.where
    return list(dict.fromkeys(where for pair in ends.values() for where in pair))
