"""From a source to batches: the same global batches for any number of processes and workers.

A global batch takes `batch_size / lanes` samples from each lane, in the order of the lanes. A process owns a block of
neighbouring lanes, and each of its workers a block of those, so concatenating what the processes have, in the order of
their ranks, gives the batch that one process would have had.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
import weakref
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing import parent_process
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from muse_core.data.sample import Batch, Sample, Skip, Skips, collate
from muse_core.data.source import Item, Source
from muse_core.data.transforms import Transform, eval_transform
from muse_core.data.vocabulary import counted
from muse_core.errors import ExitCode, MuseError

MOST_LANES = 8
"""Lanes where nobody says how many, unless more processes have to be fed: one shuffle never holds all of the data."""

_STREAM = 0x7A4F


@dataclass(frozen=True)
class LanePlan:
    """Who reads which lanes; refuses what cannot be shared out evenly."""

    batch_size: int
    lanes: int
    world: int = 1

    @classmethod
    def of(cls, batch_size: int, lanes: int | None, world: int, source: Source) -> LanePlan:
        """Return the plan with as many lanes as are asked for, or else as `chosen_lanes` says.

        Raises:
            MuseError: they do not divide, or the source cannot feed them.
        """
        plan = cls(batch_size, lanes or chosen_lanes(batch_size, world, source), world)
        plan.check(source, chosen=lanes is None)
        return plan

    def check(self, source: Source, *, chosen: bool = False) -> None:
        """Refuse a plan that does not divide, or that the source cannot feed, naming a number of lanes that would.

        chosen: nobody asked for this number of lanes, so that the reason is another one.
        """
        if min(self.batch_size, self.lanes, self.world) < 1:
            raise MuseError(
                f"batch size {self.batch_size}, {self.lanes} lanes and {self.world} processes must all be positive",
                exit_code=ExitCode.SETTINGS,
            )
        if chosen:
            self._check_processes(source)
        fits = self.fitting(source.max_lanes)
        hint = f"--set data.lanes={fits}" if fits else self._without_fit(source)
        if source.max_lanes is not None and self.lanes > source.max_lanes:
            what = f"{self.lanes} lanes need as many {lane_unit(source)}s; {source.name} has {source.max_lanes}"
            raise MuseError(what, hint=hint)
        if self.batch_size % self.lanes or self.lanes % self.world:
            raise MuseError(
                f"a batch of {self.batch_size} over {self.lanes} lanes and {self.world} processes does not divide:"
                " lanes must divide the batch, and processes the lanes",
                hint=hint,
                exit_code=ExitCode.SETTINGS,
            )

    def fitting(self, most: int | None) -> int | None:
        """The number of lanes nearest to the one wanted that divides the batch, is shared evenly, and can be fed."""
        top = min(self.batch_size, most or self.batch_size)
        able = [n for n in range(1, top + 1) if self.batch_size % n == 0 and n % self.world == 0]
        return min(able, key=lambda n: (abs(n - self.lanes), n)) if able else None

    def _check_processes(self, source: Source) -> None:
        """Refuse processes that cannot all have a lane of their own."""
        if source.max_lanes is not None and source.max_lanes < self.world:
            what = f"{self.world} processes need as many {lane_unit(source)}s; {source.name} has {source.max_lanes}"
            raise MuseError(what, hint=f"--devices {source.max_lanes} at most; or {self._without_fit(source)}")
        if self.batch_size % self.world:
            raise MuseError(
                f"{self.batch_size} images that are read at once cannot be shared by {self.world} processes",
                hint=self._without_fit(source),
                exit_code=ExitCode.SETTINGS,
            )

    def _without_fit(self, source: Source) -> str:
        if source.max_lanes is not None and source.max_lanes < self.world:
            return f"write at least {self.world} {lane_unit(source)}s, one per process"
        return f"make the batch a multiple of the {self.world} processes"

    def describe(self, source: Source, workers: int) -> str:
        """Who reads what, in words."""
        each, per_process = self.batch_size // self.lanes, self.lanes // self.world
        readers = max(1, min(workers, per_process)) * self.world
        words = (
            f"{counted(self.lanes, 'lane')}, {per_process} per process, {each} sample(s) of each per batch; "
            f"{readers} reader(s)"
        )
        if source.max_lanes is None:
            return words
        low, high = source.max_lanes // self.lanes, -(-source.max_lanes // self.lanes)
        shards = f"{low}" if low == high else f"{low} or {high}"
        unit, whole = lane_unit(source), source.count == source.max_lanes
        known = f" of {counted(source.count, 'sample')}" if source.count is not None and not whole else ""
        return f"{counted(source.max_lanes, unit)}{known}, {shards} in each of {words}"

    def of_rank(self, rank: int) -> range:
        """The lanes of one process."""
        each = self.lanes // self.world
        return range(rank * each, (rank + 1) * each)

    def of_workers(self, rank: int, workers: int) -> list[range]:
        """The lanes of each worker of a process; never more workers than lanes."""
        mine, workers = self.of_rank(rank), max(1, min(workers, self.lanes // self.world))
        edges = [len(mine) * worker // workers for worker in range(workers + 1)]
        return [mine[low:high] for low, high in zip(edges, edges[1:], strict=False)]


def lane_unit(source: Source) -> str:
    """Return the noun of what lanes share out: each lane of a source needs one."""
    return getattr(source, "lane_unit", "shard")


def chosen_lanes(batch_size: int, world: int, source: Source) -> int:
    """Return the number of lanes where nobody says one: the most up to `MOST_LANES` that everything allows.

    It divides the batch, each process gets equally many, and the source can feed it. More processes than `MOST_LANES`
    get one each. Where no number is allowed, it is that of the processes, for `LanePlan.check` to refuse.
    """
    top = min(MOST_LANES, batch_size, source.max_lanes or MOST_LANES)
    return next((n for n in range(top, 0, -1) if batch_size % n == 0 and n % world == 0), world)


@dataclass
class _Part:
    """What one worker contributes to a batch and the seconds it took, or the error that ended it."""

    samples: list[Sample] = field(default_factory=list)
    cursor: dict[int, int] = field(default_factory=dict)
    skips: Skips = field(default_factory=Skips)
    read_s: float = 0.0
    error: tuple[str, str | None, int] | None = None


class Batches:
    """The endless batches of one process.

    Args:
        source: what to read.
        batch_size: samples in a global batch, over all processes.
        lanes: logical readers; a property of the run, not of the machine.
        transform: makes every picture (S, S).
        seed: decides order and transforms.
        rank, world: this process and how many there are.
        workers: reader processes of this process; 0 reads in place. Never changes what is read.
        cursor: `Batch.cursor` to continue behind; lanes it does not name start at their beginning.
        limit_errors: fraction of damaged samples that stops the run, counted over all workers of this process, and by
            each of them, from 1000 samples on.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int,
        transform: Transform,
        lanes: int = 8,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        cursor: dict[int, int] | None = None,
        limit_errors: float = 0.01,
    ) -> None:
        self.plan = LanePlan(batch_size, lanes, world)
        self.plan.check(source)
        self.source, self.transform, self.seed = source, transform, seed
        self.rank, self.workers, self.limit_errors = rank, workers, limit_errors
        self.cursor = {int(lane): int(position) for lane, position in (cursor or {}).items()}

    @property
    def local_size(self) -> int:
        """Samples in a batch of this process."""
        return self.plan.batch_size // self.plan.world

    def __iter__(self) -> Generator[Batch]:
        blocks = self.plan.of_workers(self.rank, self.workers)
        parts = _Parts(self, blocks)
        loader: DataLoader[_Part] = DataLoader(
            parts,
            batch_size=None,
            num_workers=len(blocks) if self.workers else 0,
            collate_fn=_unchanged,
            worker_init_fn=_Reader(os.getpid()),
            generator=torch.Generator().manual_seed(self.seed),  # else it draws from the generator of the training
        )
        stream = _joined(iter(loader), len(blocks), self.limit_errors)
        if self.workers:
            # Registered after the loader's own clean-up, so it runs before that: it sends SIGTERM, which our readers
            # leave to us, and would wait for ever.
            atexit.register(_close, weakref.ref(stream))
        return stream


def _close(stream: weakref.ref[Generator[Batch]]) -> None:
    found = stream()
    if found is not None:
        found.close()


def is_death_of_reader(error: BaseException) -> bool:
    """Whether an error says that a reader process was killed: torch raises it wherever the training happens to be."""
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid")


def _unchanged(part: Any) -> Any:
    return part


@dataclass(frozen=True)
class _Reader:
    """How a reader process ends: when its parent tells it, or is gone."""

    parent: int

    def __call__(self, worker: int) -> None:
        # Ctrl-C and a scheduler's SIGTERM reach the whole group. A reader that obeyed would end the training as a
        # crash, before it could save.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        threading.Thread(target=self._end_with_parent, daemon=True).start()

    def _end_with_parent(self) -> None:
        # The loader's own watch ends in waiting for a full pipe to be read, by nobody: a killed training would leave
        # its readers behind for ever.
        parent = parent_process()
        if os.getppid() != self.parent and parent is not None and parent.pid == self.parent:
            parent.join()  # another process forked this one on behalf of its parent
        while os.getppid() == self.parent:
            time.sleep(1)
        os._exit(ExitCode.BUG)


def _checked(part: _Part) -> _Part:
    if part.error is not None:
        what, hint, exit_code = part.error
        raise MuseError(what, hint=hint, exit_code=exit_code)
    return part


def _joined(parts: Iterator[_Part], workers: int, limit_errors: float) -> Generator[Batch]:
    """Join what the workers contribute; the loader deals their parts in turn."""
    try:
        while True:
            yield _batch([_checked(next(parts)) for _ in range(workers)], limit_errors)
    finally:
        # The loader ends its readers when nobody holds its iterator any more, which the traceback of an error may do
        # until the program ends: it would wait for them then, for ever.
        end_readers = getattr(parts, "_shutdown_workers", None)  # missing where it reads in place
        if end_readers is not None:
            end_readers()


def _batch(parts: list[_Part], limit_errors: float) -> Batch:
    skips = Skips()
    for part in parts:
        skips.merge(part.skips)
    skips.refuse_many(limit_errors)
    samples = [sample for part in parts for sample in part.samples]
    batch = collate(samples, {lane: position for part in parts for lane, position in part.cursor.items()}, skips)
    return replace(batch, read_s=max(part.read_s for part in parts))


class _Parts(IterableDataset[_Part]):
    """The parts of one worker: its share of every batch, for ever."""

    def __init__(self, batches: Batches, blocks: list[range]) -> None:
        self.batches = batches
        self.blocks = blocks

    def __iter__(self) -> Iterator[_Part]:
        info = get_worker_info()
        lanes = self.blocks[info.id if info else 0]
        try:
            yield from self._parts(lanes)
        except MuseError as error:  # carried as a value, because a worker's exceptions arrive as bare text
            yield _Part(error=(error.what, error.hint, error.exit_code))

    def _parts(self, lanes: range) -> Iterator[_Part]:
        batches = self.batches
        readers = [_LaneReader(batches, lane) for lane in lanes]
        each = batches.plan.batch_size // batches.plan.lanes
        while True:
            started = time.perf_counter()
            samples = [reader.take() for reader in readers for _ in range(each)]
            skips = Skips()
            for reader in readers:
                skips.merge(reader.skips)
            skips.refuse_many(batches.limit_errors)
            yield _Part(
                samples, {reader.lane: reader.position for reader in readers}, skips, time.perf_counter() - started
            )


class _LaneReader:
    """One lane with its position and its count of skipped samples."""

    def __init__(self, batches: Batches, lane: int) -> None:
        self.lane = lane
        self.position = batches.cursor.get(lane, 0)
        self.skips = Skips()
        self._batches = batches
        self._items: Iterator[Item] = batches.source.lane(
            lane, batches.plan.lanes, seed=batches.seed, start=self.position
        )

    def take(self) -> Sample:
        """The next usable sample, transformed."""
        while True:
            item = next(self._items)
            self.position += 1
            self.skips.note(item)
            if not isinstance(item, Skip):
                rng = np.random.default_rng([_STREAM, self._batches.seed, self.lane, self.position])
                return self._batches.transform(item, rng)
            self.skips.refuse_many(self._batches.limit_errors)


def eval_batches(
    source: Source,
    *,
    batch_size: int,
    size: int,
    limit: int | None = None,
    rank: int = 0,
    world: int = 1,
    limit_errors: float = 0.01,
) -> Iterator[Batch]:
    """Every sample once, resized and centre cropped to (size, size); the last batch may be smaller.

    limit: raw samples over all processes, from the first. batch_size: samples per batch of this process.
    """
    transform, skips, waiting = eval_transform(size), Skips(), list[Sample]()
    for number, item in enumerate(source.once(rank, world)):
        if limit is not None and rank + number * world >= limit:
            break
        skips.note(item)
        skips.refuse_many(limit_errors)
        if isinstance(item, Sample):
            if len(waiting) == batch_size:  # only now: the last batch has to count what was skipped behind it
                yield collate(waiting, skips=skips)
                waiting = []
            waiting.append(transform(item))
    if waiting:
        yield collate(waiting, skips=skips)
    if skips.seen == skips.reasons.total() and rank == 0:
        raise MuseError(f"no usable sample in {source.name}: {skips.in_words() or 'it is empty'}")
