"""Begin, resume and finish runs."""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs

from muse_core.data.loader import is_death_of_reader
from muse_core.devices import Devices, devices_here
from muse_core.errors import ExitCode, MuseError, explained, lack_of_memory
from muse_core.files import naming, refuse_unwritable, undo_aside
from muse_core.model.checkpoint import DamagedCheckpointError
from muse_core.progress import Logged, Progress, Silent, time_text
from muse_core.run_checkpoints import BEST, FOLDER, pointed_at, way_around_damage
from muse_core.run_search import note_place
from muse_core.runs import FollowerFolder, RunFolder, new_path, refuse_in_the_way
from muse_core.settings.train import TrainSettings
from muse_core.stages.plan import Plan, make_plan
from muse_core.stages.setup import build_run
from muse_core.stages.way_on import next_commands, refuse_finished, settings_of
from muse_core.training.held_out import PREFIX, scores_text
from muse_core.training.identity import FILE as IDENTITY, go_on, identify, refuse_absent, with_absolute_paths
from muse_core.training.loop import train as train_loop
from muse_core.training.trackers import Trackers, ended_on_error


@dataclass(frozen=True)
class RunSummary:
    """What a finished run says of itself."""

    folder: Path
    stage: int
    size: str
    steps: int
    validation: Mapping[str, float]
    seconds: float = 0.0
    best: str | None = None
    next: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able document."""
        return {"command": "train", **asdict(self), "folder": str(self.folder)}

    def lines(self, done_before: int) -> list[str]:
        """Say what was done, how good it is, and what to type next."""
        took = f"{self.steps - done_before} steps in {time_text(self.seconds)}"
        finite = {name.removeprefix(PREFIX): value for name, value in self.validation.items() if value is not None}
        scores = scores_text(finite)
        return [
            f"finished stage {self.stage}, size {self.size}: {took}",
            *([f"held out {scores} at step {self.steps}"] if scores else []),
            *([f"best     {self.best}"] if self.best else []),
            *(f"next: {command}" for command in self.next),
        ]


def train(settings: TrainSettings, origins: Mapping[str, str], progress: Progress | None = None) -> RunSummary:
    """Train one stage in a new run folder.

    Raises:
        MuseError: something is missing, does not fit, or the loss is not finite.
        KeyboardInterrupt: the run was stopped and can be resumed.
    """
    progress = progress or Silent()
    devices = devices_here(settings.training.devices, settings.run.size)
    plan = make_plan(settings, devices=replace(devices, count=1))
    for line in plan.lines:
        progress.say(line)
    plan.refuse_if_incomplete()
    with created(settings, origins, plan) as folder:
        progress.say(f"writes   {folder.path}")
        return _train(plan.settings, folder, progress, plan)


@contextmanager
def created(settings: TrainSettings, origins: Mapping[str, str], plan: Plan) -> Iterator[RunFolder]:
    """Begin the run folder of a plan, and keep it to this process.

    Raises:
        MuseError: the folder is not empty, or another process writes to it.
    """
    settings = plan.settings
    run = settings.run
    path = Path(run.out) if run.out else new_folder(run.stage, run.size)
    refuse_in_the_way(path, run.overwrite)  # before the folder is kept, which leaves a file in it
    with RunFolder(path).held():
        folder = RunFolder.create(
            path,
            record(settings, plan),
            origins,
            {IDENTITY: identify(settings, plan.init).to_json()},
            overwrite=run.overwrite,
            stage=run.stage,
            size=run.size,
            steps=settings.training.steps,
        )
        note_place(path)
        for line in plan.lines:
            folder.log(line)
        yield folder


def new_folder(stage: int | str, size: str) -> Path:
    """Make a new run's folder; of several that ask at the same moment each gets its own."""
    refuse_unwritable(new_path(stage, size))
    while True:
        path = new_path(stage, size)
        with naming(path), suppress(FileExistsError):
            path.mkdir(parents=True)
            return path


def record(settings: TrainSettings, plan: Plan) -> dict[str, Any]:
    """Return the settings as the run folder keeps them: with the checkpoint that was found, not the rule to find one.

    By the time an early interrupted run is resumed, the newest finished previous stage may be another one.
    """
    document = settings.model_dump(mode="json")
    document["run"]["init"] = str(plan.init.absolute()) if plan.init else "none"
    return with_absolute_paths(document)


def resume(folder: RunFolder, progress: Progress | None = None) -> RunSummary:
    """Continue a run from its last checkpoint, or from its start when it has none.

    Raises:
        MuseError: the run is finished, its checkpoint cannot be read, or its data are others than it was begun with.
    """
    progress = progress or Silent()
    settings = settings_of(folder)
    refuse_finished(folder)
    with folder.held():
        progress = logged(folder, progress)
        _tidy(folder, progress)
        last = folder.last_checkpoint()
        refuse_absent(folder, settings)
        plan = plan_to_resume(folder, settings)
        plan.refuse_if_incomplete()
        same = go_on(folder, settings, plan.init)
        if same.warning:
            progress.warn(same.warning)
        begun = same.sentence(folder.path, last.name if last else "the first step")
        folder.resume()
        if not isinstance(folder, FollowerFolder):
            note_place(folder.path)
        folder.cut_metrics(int(last.name.removeprefix("step-")) if last else 0)
        return _train(settings, folder, progress, plan, begun)


def _tidy(folder: RunFolder, progress: Progress) -> None:
    """Remove checkpoints that a killed process left half-written: while the folder is held, nobody writes them."""
    left = [] if isinstance(folder, FollowerFolder) else undo_aside(folder.path / "checkpoints", "step-")
    if left:
        progress.say(f"removed  {', '.join(left)}: never completed")


def plan_to_resume(
    folder: RunFolder, settings: TrainSettings, *, cost: bool = False, devices: Devices | None = None
) -> Plan:
    """Plan how a run goes on; `cost` and `devices` as for a new one."""
    own = _from_itself(settings) if folder.last_checkpoint() else settings
    return make_plan(own, cost=cost, devices=devices, new=False)


def _from_itself(settings: TrainSettings) -> TrainSettings:
    """Plan without the run that this one started from, which may be gone: its own checkpoint holds the weights."""
    return settings.model_copy(update={"run": settings.run.model_copy(update={"init": "none"})})


def logged(folder: RunFolder, progress: Progress) -> Logged:
    """Keep what is said in log.txt; of several processes the first one keeps progress."""
    if isinstance(progress, Logged):
        return progress
    return Logged(progress, folder.log, notes=not isinstance(folder, FollowerFolder))


def _train(settings: TrainSettings, folder: RunFolder, progress: Progress, plan: Plan, begun: str = "") -> RunSummary:
    """Train in a run folder. begun: what is said once everything is loaded, and therefore true."""
    started, progress = time.monotonic(), logged(folder, progress)
    try:
        if settings.training.threads:
            torch.set_num_threads(settings.training.threads)
        run = build_run(settings, folder, progress, new_accelerator(settings), plan.init)
        if begun:
            progress.say(begun)
        run.trackers = Trackers.begin(
            settings.training.track, folder.path, settings.model_dump(mode="json"), run.accelerator, progress
        )
        run.trackers.text("plan", "\n".join(plan.lines))
        # Closing batches ends the reader processes, which an error's traceback would keep.
        with ended_on_error(run.trackers), closing(run.batches):
            done = train_loop(run)
    except KeyboardInterrupt as error:
        error.run = folder.path  # type: ignore[attr-defined]
        with suppress(OSError):
            folder.interrupt(error)
        raise
    except Exception as error:
        told = _with_way_on(error, folder.path)
        with suppress(OSError):  # a disk that is full takes no record either; the command ends with the first error
            folder.fail(told)
        if told is error:
            raise
        raise told from error
    measured = [record for record in folder.metrics() if any(key.startswith(PREFIX) for key in record)]
    validation = {key: value for key, value in (measured[-1] if measured else {}).items() if key.startswith(PREFIX)}
    folder.finish(done, **validation)
    run.trackers.finish({name.removeprefix(PREFIX): score for name, score in validation.items()})
    seconds, best = time.monotonic() - started, pointed_at(folder.path, BEST)
    summary = RunSummary(
        folder.path,
        settings.run.stage,
        settings.run.size,
        done,
        validation,
        seconds,
        str(best) if best else None,
        tuple(next_commands(settings, folder.path)),
    )
    if progress.notes:
        for line in summary.lines(run.first_step):
            progress.say(line)
    return summary


def _with_way_on(error: Exception, folder: Path) -> Exception:
    """What a run that saves its state can go on from after the cause is gone, said with how to go on."""
    way_on = f"muse train --resume {folder}"
    if is_death_of_reader(error):
        what = "a process that reads the data was killed, perhaps for lack of memory"
        return MuseError(what, f"{way_on}, with fewer --set data.workers=N", ExitCode.STOPPED)
    if isinstance(error, DamagedCheckpointError) and str(folder / FOLDER) in error.what:
        return MuseError(error.what, hint=way_around_damage(folder) or error.hint)
    known = explained(error) if isinstance(error, OSError) and not lack_of_memory(error) else None
    return MuseError(known.what, hint=f"{way_on} when that is mended", exit_code=known.exit_code) if known else error


def new_accelerator(settings: TrainSettings) -> Accelerator:
    """Return what computes, in the precision asked for.

    accelerate's fp16 is none of them: it scales the loss up, and nothing here scales the gradients down again before
    they are clipped.
    """
    precision = settings.training.precision
    if precision == "auto":
        precision = "bf16" if torch.cuda.is_available() else "fp32"
    # accelerate remembers the first precision of a Python session and refuses any other.
    AcceleratorState._reset_state()
    parallel = DistributedDataParallelKwargs(gradient_as_bucket_view=True)  # else they lie in memory twice
    return Accelerator(
        mixed_precision=precision if precision == "bf16" else "no",
        cpu=settings.training.devices == "cpu",
        kwargs_handlers=[parallel],
    )
