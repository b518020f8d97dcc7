"""How the engine reads: batches on their device, how far each lane has come, and what was passed over."""

from collections import Counter
from collections.abc import Generator, Mapping
from typing import Any

import torch

from muse_core.distributed import gather_objects
from muse_core.errors import MuseError
from muse_core.image_files import noted
from muse_core.progress import Progress
from muse_core.training.speed import Speed
from muse_core.training.task import Batch


class Reader:
    """The batches of one process.

    cursor: samples that each lane had given, for this process's lanes as they are now. skipped: samples passed over
    since the run began, by reason.
    """

    def __init__(
        self, batches: Generator[Any], device: torch.device, dtype: torch.dtype, cursor: Mapping[int, int]
    ) -> None:
        self.batches = batches
        self.speed = Speed()
        self.cursor = dict(cursor)
        self.skipped: dict[str, int] = {}
        self._place = (device, dtype)
        self._skipped_before: dict[str, int] = {}
        self._notes: set[str] = set()

    def next(self, progress: Progress) -> Any:
        """Read a batch, remember how far each lane has come, and tell of what was passed over for the first time."""
        try:
            batch = self.speed.wait_for(self.batches).to(*self._place)
        except StopIteration:
            raise MuseError("the batches of the task ended; they have to go on without end") from None
        self.cursor |= batch.cursor
        self._count_skipped(batch, progress)
        return batch

    def _count_skipped(self, batch: Batch, progress: Progress) -> None:
        """Add what was passed over since reading began to what was before, and tell of each reason once."""
        skipped = Counter(self._skipped_before) + Counter(batch.skipped)
        for reason in skipped.keys() - self.skipped.keys():
            first = batch.examples.get(reason, "?")
            progress.warn(f"samples are passed over: {reason} (first: {first}); state.json counts them")
        self.skipped = dict(skipped)
        for note in noted({note: batch.notes[note] for note in batch.notes.keys() - self._notes}):
            progress.warn(f"so far {note}")
        self._notes |= batch.notes.keys()

    def whole_cursor(self) -> dict[int, int]:
        """Collect how far each lane has come from the processes that read them; all of them have to ask."""
        whole: dict[int, int] = {}
        for part in gather_objects(self.cursor):
            # After a resume, a process still holds old positions of lanes that it does not read.
            whole |= {lane: max(position, whole.get(lane, 0)) for lane, position in part.items()}
        return whole

    def restore(self, skipped: Mapping[str, int]) -> None:
        """Go on counting what is passed over."""
        self.skipped, self._skipped_before = dict(skipped), dict(skipped)
