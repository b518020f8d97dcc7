"""The samples that a number is measured on: read once, in order, counted.

Letters: B images, S side of an image.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from muse_core.errors import MuseError
from muse_core.evaluation.protocol import Counts, Value
from muse_core.progress import Progress

if TYPE_CHECKING:
    from muse_core.data.sample import Batch
    from muse_core.data.source import Source


@dataclass(frozen=True)
class EvalData:
    """A source, and how it is read for measuring: shorter side to `size`, centre crop, every sample once.

    Args:
        source: from `muse_core.data.open_source`.
        size: S in pixels.
        batch_size: images at a time; changes no number.
        limit: stop after so many images; the result says that it is partial.
        device: where batches are put.
    """

    source: "Source"
    size: int
    batch_size: int = 64
    limit: int | None = None
    device: str = "cpu"

    @property
    def name(self) -> str:
        """What the data was asked for as."""
        return self.source.name

    @property
    def total(self) -> int:
        """Images to expect, 0 when nobody knows before reading."""
        count = self.source.count
        if count is None:
            return self.limit or 0
        return count if self.limit is None else min(count, self.limit)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes that labels index, where the data says them."""
        return classes_of(self.source)

    def describe(self) -> dict[str, Value]:
        """Return what of the reading belongs into a protocol; the number of images is added once it is known."""
        return {
            "data": self.name,
            "size": self.size,
            "resize": "shorter side, bicubic, antialiased",
            "crop": "centre",
            "partial": self.limit is not None,
        }


def classes_of(source: "Source") -> tuple[str, ...] | None:
    """What the labels of a source mean: shards as their index says, built-in scenes as phrases with their article."""
    from muse_core.data.scenes import CLASSES
    from muse_core.data.shards import ShardSource, read_index
    from muse_core.data.source import SceneSource

    if isinstance(source, SceneSource):
        return tuple(one.phrase for one in CLASSES)
    if isinstance(source, ShardSource):
        index = read_index(source.shards[0].path.parent) or {}
        names = tuple(index.get("classes", ()))
        scenes = names == tuple(one.name for one in CLASSES)  # written from built-in scenes: "icecream" is no word
        return tuple(one.phrase for one in CLASSES) if scenes else names or None
    own: tuple[str, ...] | None = getattr(source, "classes", None)
    return own


@dataclass
class Tally:
    """Counts while reading."""

    seen: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    by_reader: Mapping[str, int] = field(default_factory=dict)

    def skip(self, reason: str, amount: int) -> None:
        """Count samples that were read but cannot be used."""
        if amount:
            self.skipped[reason] = self.skipped.get(reason, 0) + amount

    def counts(self) -> Counts:
        """Return what is written beside a result."""
        skipped = dict(self.by_reader)
        for reason, amount in self.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + amount
        return {"seen": self.seen, "skipped": skipped}


def read(data: EvalData, progress: Progress, what: str, tally: Tally) -> Iterator["Batch"]:
    """Read the data once, on its device, with progress; `tally` counts what is seen and what readers skip.

    Raises:
        MuseError: after the last batch, when not a single image came.
    """
    from muse_core.data.loader import eval_batches

    with progress.track(what, data.total) as tracker:
        for batch in eval_batches(data.source, batch_size=data.batch_size, size=data.size, limit=data.limit):
            tally.seen += len(batch)
            tally.by_reader = batch.skipped
            yield batch.to(data.device)
            tracker.advance(len(batch))
    if tally.seen == 0:
        raise MuseError(f"not one image could be read from {data.name}", hint=f"muse inspect {data.name}")


def named(tokenizer: object) -> str:
    """Name of a tokenizer for results: from its `info` where it has one, else its class."""
    from muse_core.model.abilities import Described

    return tokenizer.info.name if isinstance(tokenizer, Described) else type(tokenizer).__name__
