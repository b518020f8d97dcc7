"""Several sources read as one, mixed sample by sample."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import count as count_from
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muse_core.data.classes import Joint, changes_of, join
from muse_core.data.source import Item, Source, reader_of, remarks_of
from muse_core.data.vocabulary import Vocabulary, vocabulary_of
from muse_core.errors import ExitCode, MuseError

_STREAM = 0x313E5
_BLOCK = 1024  # choices are drawn in blocks, so that a position can be reached without drawing them one by one


class MixedSource:
    """Draws the source of every single sample, so that each batch holds all of them in proportion.

    Labels and masks mean one class each: the sources are joined by the names of their classes.

    Args:
        sources: what to mix. weights: how often each is drawn, in any unit.
    """

    def __init__(self, sources: Sequence[Source], weights: Sequence[float]) -> None:
        if len(sources) != len(weights) or not sources or min(weights) <= 0:
            raise MuseError("a mix needs one positive weight per source", exit_code=ExitCode.SETTINGS)
        self.sources = tuple(sources)
        self.is_joint = True
        self.weights = np.array(weights, dtype=np.float64) / sum(weights)
        self.name = " + ".join(f"{w:.3g} {source.name}" for w, source in zip(self.weights, sources, strict=True))
        self.fields = frozenset.intersection(*(source.fields for source in sources))
        limits = [source.max_lanes for source in sources if source.max_lanes is not None]
        self.max_lanes = min(limits) if limits else None
        self.remarks = tuple(remark for source in sources for remark in remarks_of(source))
        self._starts: list[int] = []

    @property
    def count(self) -> int | None:
        """Samples of all sources together, or None when one does not know."""
        counts = [source.count for source in self.sources]
        return None if None in counts else sum(one for one in counts if one is not None)

    @cached_property
    def _joint(self) -> Joint:
        return join([vocabulary_of(source) for source in self.sources])

    @property
    def vocabulary(self) -> Vocabulary:
        """What labels and the values of masks mean, of all sources together."""
        return self._joint.vocabulary

    @property
    def changes(self) -> list[Any] | None:
        """How numbers differ from those that are stored."""
        changes = [self._joint.changes, *(changes_of(source) for source in self.sources)]
        return changes if any(changes) else None

    def lane(self, index: int, lanes: int, *, seed: int, start: int = 0) -> Iterator[Item]:
        """The lanes of the sources, of which one is drawn for each sample."""
        block, within = divmod(start, _BLOCK)
        used = np.zeros(len(self.sources), np.int64)
        for number in range(block):
            used += self._used(self._choices(seed, index, number))
        used += self._used(self._choices(seed, index, block)[:within])
        streams = [
            source.lane(index, lanes, seed=seed, start=int(n)) for source, n in zip(self.sources, used, strict=True)
        ]
        for number in count_from(block):
            for choice in self._choices(seed, index, number)[within:]:
                yield self._joint.renumberings[choice](next(streams[choice]))
            within = 0

    def once(self, index: int = 0, readers: int = 1, run: int = 1) -> Iterator[Item]:
        """Every sample of every source, one source after the other."""
        # Nobody knows where in the whole a source begins before those in front of it are counted: read all, keep mine.
        self._starts, number = [], 0
        for source, renumbering in zip(self.sources, self._joint.renumberings, strict=True):
            self._starts.append(number)
            for item in source.once():
                if reader_of(number, readers, run) == index:
                    yield renumbering(item)
                number += 1

    def origin(self, number: int) -> int:
        """Return the index of the source that raw sample `number` of `once`, which has been read, came from."""
        return bisect_right(self._starts, number) - 1

    def _choices(self, seed: int, index: int, block: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([_STREAM, seed, index, block])
        return rng.choice(len(self.sources), _BLOCK, p=self.weights)

    def _used(self, choices: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(choices, minlength=len(self.sources))
