"""The whole job, on one device or on several: each process takes every n-th shard that is left."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from muse_core.errors import ExitCode, MuseError
from muse_core.image_files import noted
from muse_core.latents.units import Unit
from muse_core.latents.write import LatentJob, LatentReport, finish, prepare, write_units
from muse_core.machine import cores
from muse_core.model.load import load_tokenizer
from muse_core.progress import Progress, Silent

_LOOK_EVERY_S = 0.5


def write_latents(
    job: LatentJob,
    out: Path,
    *,
    devices: Sequence[str] = ("cpu",),
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> LatentReport:
    """Encode all images of a source and write latents, index and statistics to a folder.

    Args:
        job: what decides the latents.
        out: a folder; each shard appears in it when it is whole.
        devices: one process each; how many there are changes nothing of what is written.
        resume: go on with a folder of the same job, on the same data and weights.
        overwrite: empty a folder of latents first.
        progress: told of every shard.

    Raises:
        MuseError: the folder cannot be used, the tokenizer cannot encode, or a process ended.
    """
    progress = progress or Silent()
    alone = devices[0] if len(devices) == 1 else None
    # A tokenizer that cannot be loaded leaves nothing behind, and costs no latents that were to be overwritten.
    tokenizer = load_tokenizer(job.tokenizer, alone) if alone and not resume else None
    job, left = prepare(job, out, resume=resume, overwrite=overwrite, progress=progress)
    total = len(job.units())
    with progress.track("shards of latents", total) as tracker:
        tracker.advance(total - len(left))
        if left and alone:
            write_units(job, left, out, tokenizer or load_tokenizer(job.tokenizer, alone), alone, tracker.advance)
        elif left:
            _run_team(job, out, left, devices[: len(left)], tracker.advance)
    report = finish(job, out)
    for reason, count in report.skipped.items():
        progress.warn(f"{count} left out: {reason}")
    for note in noted(report.notes):
        progress.warn(note)
    return report


def _run_team(job: LatentJob, out: Path, left: list[Unit], devices: Sequence[str], done: Any) -> None:
    context = multiprocessing.get_context("spawn")
    said = context.Queue()
    names = [unit.name for unit in left]
    threads = int(os.environ.get("OMP_NUM_THREADS") or max(cores() // len(devices), 1))
    workers: list[BaseProcess] = [
        context.Process(target=_work, args=(job, out, names[rank :: len(devices)], device, threads, said), daemon=True)
        for rank, device in enumerate(devices)
    ]
    try:
        for worker in workers:
            worker.start()
        _listen(workers, said, len(left), done)
    finally:
        for worker in workers:
            if worker.pid is not None:
                worker.terminate()
                worker.join()


def _listen(workers: Sequence[BaseProcess], said: Any, amount: int, done: Any) -> None:
    """Count shards until all are done; what went wrong in a process goes wrong here."""
    while amount:
        ended = [worker.exitcode for worker in workers if worker.exitcode]
        try:
            error = said.get(timeout=_LOOK_EVERY_S)
        except queue.Empty:
            if ended:  # and whatever it had to say was heard before
                what = f"a process that wrote latents ended with code {ended[0]}"
                raise MuseError(what, hint="the same command with --resume", exit_code=ExitCode.STOPPED) from None
            continue
        if error is not None:
            what, hint, exit_code = error
            raise MuseError(what, hint=hint, exit_code=exit_code)
        amount -= 1
        done()


def _work(job: LatentJob, out: Path, names: list[str], device: str, threads: int, said: Any) -> None:
    torch.set_num_threads(threads)
    try:
        units = [unit for unit in job.units() if unit.name in names]
        write_units(job, units, out, load_tokenizer(job.tokenizer, device), device, lambda: said.put(None))
    except MuseError as error:
        said.put((error.what, error.hint, error.exit_code))
    except Exception as error:  # told in words, because a traceback of this process would be lost
        said.put((f"{type(error).__name__}: {error}", None, int(ExitCode.BUG)))
    said.close()
    said.join_thread()
