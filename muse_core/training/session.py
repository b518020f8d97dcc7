"""One sitting of a run: everything is built, the loop runs, and the run folder says how it ended."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from muse_core.data.loader import is_death_of_reader
from muse_core.distributed import rank, world
from muse_core.errors import ExitCode, MuseError, explained, lack_of_memory
from muse_core.progress import Progress
from muse_core.run_checkpoints import BEST, FOLDER, pointed_at, way_around_damage
from muse_core.runs import RunFolder, resume_command
from muse_core.tensor_files import DamagedCheckpointError
from muse_core.training.beginning import taken_up, tidied
from muse_core.training.checkpointing import cursor_of, refuse_damaged, restore
from muse_core.training.held_out import PREFIX, HeldOut
from muse_core.training.learner import Learner, Opposition, wrapped
from muse_core.training.loop import train
from muse_core.training.optimization import Optimization, apply_partition
from muse_core.training.reading import Reader
from muse_core.training.recording import Recorder
from muse_core.training.task import Compute, Opponent, Partition, Task
from muse_core.training.trackers import Trackers, ended_on_error
from muse_core.training.trainer import Trainer, TrainerSettings
from muse_core.training.watch import Watch

BuildTask = Callable[[Compute, Path | None], Task]
"""Builds a task for where it is to compute, with the weights of a checkpoint of the same run where there is one."""


@dataclass(frozen=True)
class Finished:
    """How a run ended: steps done in all and before this sitting, the last held-out scores by their names in
    metrics.jsonl, seconds of this sitting, and the best checkpoint."""

    steps: int
    first_step: int
    validation: Mapping[str, float]
    seconds: float
    best: Path | None


@dataclass(frozen=True)
class Shown:
    """What people see of a run besides its numbers: all settings, in sections, and the plan, which trackers keep; and
    words that are said once everything is loaded, and therefore true."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    plan: str = ""
    words: str = ""


def run(
    build: BuildTask, settings: TrainerSettings, folder: RunFolder, progress: Progress, shown: Shown | None = None
) -> Finished:
    """Train in a run folder that this process holds, from its last checkpoint where it has one, to the end.

    Args:
        build: makes the task. settings: the engine's numbers.
        folder: takes metrics, figures, checkpoints and, whatever happens, how it ended.
        progress: hears of it. shown: what else is told of it.

    Raises:
        MuseError: something is missing or does not fit, a loss is not finite, or the machine gave out.
        KeyboardInterrupt: the run was stopped and can be resumed.
    """
    started, shown = time.monotonic(), shown or Shown()
    try:
        taken_up(folder, tidied(folder, progress))
        if settings.threads:
            torch.set_num_threads(settings.threads)
        trainer = build_trainer(build, settings, folder, progress, new_accelerator(settings))
        if shown.words:
            progress.say(shown.words)
        trackers = Trackers.begin(settings.track, folder.path, shown.settings, progress)
        trackers.text("plan", shown.plan)
        trainer.recorder.trackers = trackers
        # Closing batches ends the reader processes, which an error's traceback would keep.
        with ended_on_error(trackers), closing(trainer.reader.batches):
            done = train(trainer)
    except KeyboardInterrupt as error:
        error.run = folder.path  # type: ignore[attr-defined]
        with suppress(OSError):
            folder.interrupt(error)
        raise
    except Exception as error:
        explanation = _with_way_on(error, folder.path)
        with suppress(OSError):  # a disk that is full takes no record either; the command ends with the first error
            folder.fail(explanation)
        if explanation is error:
            raise
        raise explanation from error
    validation = _last_validation(folder)
    folder.finish(done, **validation)
    trackers.finish({name.removeprefix(PREFIX): score for name, score in validation.items()})
    seconds = time.monotonic() - started
    return Finished(done, trainer.first_step, validation, seconds, pointed_at(folder.path, BEST))


def _last_validation(folder: RunFolder) -> dict[str, float]:
    measured = [record for record in folder.metrics() if any(key.startswith(PREFIX) for key in record)]
    last = measured[-1] if measured else {}
    return {key: value for key, value in last.items() if key.startswith(PREFIX)}


def build_trainer(
    build: BuildTask, settings: TrainerSettings, folder: RunFolder, progress: Progress, accelerator: Accelerator
) -> Trainer:
    """Build all that a run needs; it continues where the folder has a checkpoint."""
    torch.manual_seed(settings.seed + rank())  # the order of data has its own seed, the same in all processes
    checkpoint = folder.last_checkpoint()
    dtype = torch.float64 if settings.precision == "fp64" else torch.float32
    compute = Compute(accelerator.device, dtype, accelerator.mixed_precision, rank(), world())
    if checkpoint:
        refuse_damaged(checkpoint)
    task = build(compute, checkpoint)
    guard = _guard(task.opponent, folder, compute.device)
    found_inf = None if guard.at_once else guard.spoilt
    cursor, held_out = cursor_of(checkpoint), HeldOut.recorded(task.decides, folder.metrics())
    trainer = Trainer(
        task=task,
        settings=settings,
        learner=_learner(task.module, task.partition, settings, accelerator, settings.ema_decays, found_inf),
        opposition=_opposition(task.opponent, settings, accelerator),
        reader=Reader(task.batches(cursor), compute.device, dtype, cursor),
        recorder=Recorder(folder, progress, held_out),
        guard=guard,
    )
    if checkpoint:
        restore(trainer, checkpoint)
    return trainer


def _guard(opponent: Opponent | None, folder: RunFolder, device: torch.device) -> Watch:
    remedies = {opponent.name: opponent.remedy} if opponent else {}
    return Watch(str(folder.path), device, at_once=device.type == "cpu", remedies=remedies)


def _learner(
    module: nn.Module,
    partition: Partition,
    settings: TrainerSettings,
    accelerator: Accelerator,
    decays: Sequence[float] = (),
    found_inf: Tensor | None = None,
) -> Learner:
    apply_partition(module, partition)
    shared = wrapped(module, accelerator)  # first: weights of which each process holds a part are others
    optimization = Optimization(module, partition, betas=settings.betas, clip=settings.clip, found_inf=found_inf)
    return Learner(shared, optimization, accelerator, decays)


def _opposition(opponent: Opponent | None, settings: TrainerSettings, accelerator: Accelerator) -> Opposition | None:
    if opponent is None:
        return None
    return Opposition(opponent, _learner(opponent.module, opponent.partition, settings, accelerator))


def _with_way_on(error: Exception, folder: Path) -> Exception:
    """Return what a run that saves its state can go on from after the cause is gone, with how to go on."""
    way_on = resume_command(folder)
    if is_death_of_reader(error):
        what = "a process that reads the data was killed, perhaps for lack of memory"
        return MuseError(what, f"{way_on}, with fewer --set data.workers=N", ExitCode.STOPPED)
    if isinstance(error, DamagedCheckpointError) and str(folder / FOLDER) in error.what:
        return MuseError(error.what, hint=way_around_damage(folder) or error.hint)
    known = explained(error) if isinstance(error, OSError) and not lack_of_memory(error) else None
    return MuseError(known.what, hint=f"{way_on} when that is mended", exit_code=known.exit_code) if known else error


def new_accelerator(settings: TrainerSettings) -> Accelerator:
    """Return what computes, in the precision asked for.

    accelerate's fp16 is none of them: it scales the loss up, and nothing here scales the gradients down again before
    they are clipped.
    """
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if torch.cuda.is_available() else "fp32"
    # accelerate remembers the first precision of a Python session and refuses any other.
    AcceleratorState._reset_state()
    parallel = DistributedDataParallelKwargs(gradient_as_bucket_view=True)  # else they lie in memory twice
    return Accelerator(
        mixed_precision=precision if precision == "bf16" else "no", cpu=settings.cpu, kwargs_handlers=[parallel]
    )
