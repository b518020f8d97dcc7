"""How fast data are read and how fast steps are taken: the slower of the two is how fast a run is."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from muse_core.training.task import Batch

B = TypeVar("B", bound=Batch)


@dataclass(frozen=True)
class Rates:
    """Images per second, over all processes: as it went; if data were always there; if only data were read.

    waited: the share of the time that went into waiting for data.
    """

    images: float
    steps: float
    data: float
    waited: float

    def record(self) -> dict[str, float]:
        """Return what a line of metrics holds."""
        return {
            "images_per_s": self.images,
            "steps_images_per_s": self.steps,
            "data_images_per_s": self.data,
            "waited": self.waited,
        }

    def said(self) -> str:
        """Say how fast it went, and which of the two is the limit."""
        limit = "data" if self.data < self.steps else "steps"
        return f"{self.images:.3g} images/s: data {self.data:.3g}, steps {self.steps:.3g}, limit {limit}"


class Speed:
    """Counts images and seconds between two looks."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._images, self._waited_s, self._read_s, self._since = 0, 0.0, 0.0, time.monotonic()

    def wait_for(self, batches: Iterator[B]) -> B:
        """Take the next batch."""
        started = time.monotonic()
        batch = next(batches)
        self._waited_s += time.monotonic() - started
        self._read_s += batch.read_s
        self._images += len(batch)
        return batch

    def read(self, processes: int) -> Rates:
        """Return the rates since the last look, of `processes` that are alike, and begin anew."""
        images, spent = self._images * processes, time.monotonic() - self._since
        rates = Rates(
            images=images / max(spent, 1e-9),
            steps=images / max(spent - self._waited_s, 1e-9),
            data=images / max(self._read_s, 1e-9),
            waited=self._waited_s / max(spent, 1e-9),
        )
        self._begin()
        return rates
