"""Begin, resume and finish runs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from muse_core.devices import Devices, devices_here
from muse_core.model.identity import identity_of_weights
from muse_core.progress import Progress, Silent, time_text
from muse_core.runs import CHAIN, RunFolder
from muse_core.settings.train import TrainSettings
from muse_core.stages.chain import Stage, chain_document, stages_after, take_up
from muse_core.stages.plan import TokenizerPlan, make_plan
from muse_core.stages.setup import build_task, trainer_settings
from muse_core.stages.stage import UNITS
from muse_core.stages.task import TokenizerTask
from muse_core.stages.way_on import next_commands, refuse_finished, settings_of
from muse_core.training.beginning import Record, begun, logged, new_folder, tidied
from muse_core.training.held_out import PREFIX, scores_text
from muse_core.training.identity import FILE as IDENTITY, Weights, go_on, identify, refuse_absent, with_absolute_paths
from muse_core.training.plan import Plan
from muse_core.training.session import Shown, run
from muse_core.training.task import Compute


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
        scores = scores_text(finite, UNITS)
        return [
            f"finished stage {self.stage}, size {self.size}: {took}",
            *([f"held out {scores} at step {self.steps}"] if scores else []),
            *([f"best     {self.best}"] if self.best else []),
            *(f"next: {command}" for command in self.next),
        ]


def train(
    settings: TrainSettings,
    origins: Mapping[str, str],
    progress: Progress | None = None,
    later: Sequence[Stage] = (),
) -> RunSummary:
    """Train one stage in a new run folder; `later` are the stages that whoever resumes it goes on with.

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
    with created(settings, origins, plan, later) as folder:
        progress.say(f"writes   {folder.path}")
        return _train(plan.settings, folder, progress, plan)


@contextmanager
def created(
    settings: TrainSettings, origins: Mapping[str, str], plan: TokenizerPlan, later: Sequence[Stage] = ()
) -> Iterator[RunFolder]:
    """Begin the run folder of a plan, and keep it to this process.

    Raises:
        MuseError: the folder is not empty, or another process writes to it.
    """
    settings = plan.settings
    run = settings.run
    path = Path(run.out) if run.out else new_folder(run.stage, run.size)
    documents = {IDENTITY: identify(settings, weights_of(plan.init)).to_json()}
    documents |= {CHAIN: chain_document(later)} if later else {}
    record = Record(
        settings_to_keep(settings, plan),
        origins,
        documents,
        plan.lines,
        stage=run.stage,
        size=run.size,
        steps=settings.training.steps,
    )
    with begun(path, record, overwrite=run.overwrite) as folder:
        take_up(plan.init)
        yield folder


def weights_of(init: Path | None) -> Weights | None:
    """Return what tells the identity of the checkpoint that a run starts from."""
    return None if init is None else partial(identity_of_weights, init)


def settings_to_keep(settings: TrainSettings, plan: TokenizerPlan) -> dict[str, Any]:
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
        last = tidied(folder, progress)
        refuse_absent(folder, settings)
        plan = plan_to_resume(folder, settings)
        plan.refuse_if_incomplete()
        same = go_on(folder, settings, weights_of(plan.init))
        if same.warning:
            progress.warn(same.warning)
        words = same.sentence(folder.path, last.name if last else "the first step")
        return _train(settings, folder, progress, plan, words)


def plan_to_resume(
    folder: RunFolder, settings: TrainSettings, *, cost: bool = False, devices: Devices | None = None
) -> TokenizerPlan:
    """Plan how a run goes on; `cost` and `devices` as for a new one."""
    own = _from_itself(settings) if folder.last_checkpoint() else settings
    return make_plan(own, cost=cost, devices=devices, new=False)


def _from_itself(settings: TrainSettings) -> TrainSettings:
    """Plan without the run that this one started from, which may be gone: its own checkpoint holds the weights."""
    return settings.model_copy(update={"run": settings.run.model_copy(update={"init": "none"})})


def _train(settings: TrainSettings, folder: RunFolder, progress: Progress, plan: Plan, words: str = "") -> RunSummary:
    """Train in a run folder. words: what is said once everything is loaded, and therefore true."""
    progress = logged(folder, progress)

    def build(compute: Compute, checkpoint: Path | None) -> TokenizerTask:
        return build_task(settings, plan.init, progress, compute, checkpoint)

    shown = Shown(settings.model_dump(mode="json"), "\n".join(plan.lines), words)
    finished = run(build, trainer_settings(settings), folder, progress, shown)
    summary = RunSummary(
        folder.path,
        settings.run.stage,
        settings.run.size,
        finished.steps,
        finished.validation,
        finished.seconds,
        str(finished.best) if finished.best else None,
        () if stages_after(folder.path) else tuple(next_commands(settings, folder.path)),
    )
    if progress.notes:
        for line in summary.lines(finished.first_step):
            progress.say(line)
    return summary
