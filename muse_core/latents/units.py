"""Which samples go into which shard of latents: one for each shard of images, fixed before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from muse_core.data.decode import RawSample, decode
from muse_core.data.sample import Sample, Skip
from muse_core.data.shards import Shard, ShardSource, read_shard
from muse_core.data.source import SceneSource, Source
from muse_core.errors import ExitCode, MuseError

SCENES_EACH = 1000


@dataclass(frozen=True)
class Unit:
    """What becomes one shard of latents: a shard, or a stretch of scenes from number `first` on."""

    name: str
    source: Source
    shard: Shard | None = None
    first: int = 0

    def read(self) -> Iterator[Sample | Skip]:
        """Every sample in order."""
        if self.shard is None:
            yield from islice(self.source.once(), self.first, self.first + SCENES_EACH)
            return
        for item in read_shard(self.shard):
            if isinstance(item, RawSample):
                yield decode(item)
            elif item is not None:
                yield item


def units_of(source: Source) -> list[Unit]:
    """Divide a source.

    Raises:
        MuseError: it is neither shards nor scenes.
    """
    if isinstance(source, ShardSource):
        return [Unit(f"{number:06d}", source, shard) for number, shard in enumerate(source.shards)]
    if isinstance(source, SceneSource):
        starts = range(0, source.count, SCENES_EACH)
        return [Unit(f"{number:06d}", source, first=first) for number, first in enumerate(starts)]
    raise MuseError(
        f"latents are written of one source at a time, not of a mix: {source.name}", exit_code=ExitCode.USAGE
    )
