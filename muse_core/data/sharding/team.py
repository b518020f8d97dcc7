"""Who does the work: processes of this command, and the other commands that a launcher started for the same shards."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from muse_core.data.sharding.places import Place
from muse_core.errors import ExitCode, MuseError
from muse_core.progress import Progress

Job = TypeVar("Job")
Result = TypeVar("Result")

_STOPS = {signal.SIGINT, signal.SIGTERM}
_POLL_S = 0.2
_TELL_S = 30.0


def wait_for(
    place: Place, names: Sequence[str], what: str, progress: Progress, unless: Callable[[], bool] = lambda: False
) -> bool:
    """Wait until other commands have written all of some files, telling now and then for what.

    Returns whether they are there: False as soon as they are not and `unless` holds.
    """
    missing, told = list(names), time.monotonic()
    while missing := [name for name in missing if not place.exists(name)]:
        if unless():
            return False
        if time.monotonic() - told > _TELL_S:
            told = time.monotonic()
            progress.say(f"waiting for {len(missing)} x {what} by other processes (next: {place.path(missing[0])})")
        time.sleep(_POLL_S)
    return True


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(work: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """Do jobs in `workers` processes, and yield results as they come.

    With one worker, or one job, everything is done in this process.

    Raises:
        MuseError: a process was killed, or what a job raised.
    """
    if workers <= 1 or len(jobs) <= 1:
        yield from map(work, jobs)
        return
    # Forked processes need no import of the caller's script; elsewhere forking is not safe.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(min(workers, len(jobs)), context, _end_with, (os.getpid(),))
    try:
        with _stops_held_back():
            submitted = [pool.submit(work, job) for job in jobs]
        for done in as_completed(submitted):
            yield done.result()
    except BrokenProcessPool:
        raise MuseError(
            "a process was killed, perhaps for lack of memory", "fewer --workers, then --resume", ExitCode.STOPPED
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _stops_held_back() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait: what they raise while a process is being forked would be dropped."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with(parent: int) -> None:
    """Leave signals to the parent, and end when it does, even if it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
