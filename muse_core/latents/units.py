"""Which samples go into which shard of latents: one for each shard of images, fixed before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from muse_core.data.decode import RawSample, decode
from muse_core.data.folders import FolderSource
from muse_core.data.mixing import MixedSource
from muse_core.data.sample import Sample, Skip
from muse_core.data.shards import Shard, ShardSource, read_shard
from muse_core.data.source import SceneSource, Source
from muse_core.errors import ExitCode, MuseError

SCENES_EACH = 1000
"""Scenes, or images of a folder, in one shard of latents."""


@dataclass(frozen=True)
class Unit:
    """What becomes one shard of latents: a shard, or a stretch of scenes or of a folder from number `first` on."""

    name: str
    source: Source
    shard: Shard | None = None
    first: int = 0

    def read(self) -> Iterator[Sample | Skip]:
        """Every sample in order."""
        if isinstance(self.source, FolderSource):
            yield from self.source.stretch(self.first, SCENES_EACH)
            return
        if self.shard is None:
            yield from islice(self.source.once(), self.first, self.first + SCENES_EACH)
            return
        for item in read_shard(self.shard):
            if isinstance(item, RawSample):
                yield decode(item)
            elif item is not None:
                yield item


def units_of(source: Source) -> list[Unit]:
    """Divide a source; of several that are mixed, one after the other, each whole: ratios are for training.

    Raises:
        MuseError: it is neither shards nor scenes nor a folder of images.
    """
    parts = source.sources if isinstance(source, MixedSource) else (source,)
    units = [unit for part in parts for unit in _units_of(part)]
    return [replace(unit, name=f"{number:06d}") for number, unit in enumerate(units)]


def _units_of(source: Source) -> list[Unit]:
    if isinstance(source, ShardSource):
        return [Unit(shard.name, source, shard) for shard in source.shards]
    if isinstance(source, SceneSource | FolderSource):
        return [Unit(source.name, source, first=first) for first in range(0, source.count, SCENES_EACH)]
    raise MuseError(f"{source.name} is neither shards nor scenes nor a folder of images", exit_code=ExitCode.USAGE)
