"""`muse train`: one stage, all three, or going on with a run."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from muse_cli.options import ConfigFile, Data, Precision, Seed, Sets, ValData
from muse_cli.planning import devices_for, say_first, stages_of, tell
from muse_core.errors import ExitCode, MuseError

if TYPE_CHECKING:
    from muse_core.settings import Origins
    from muse_core.settings.train import TrainSettings
    from muse_core.training.plan import Plan

PACE = "Pace and records"


Stage = Annotated[
    str | None,
    typer.Option("--stage", metavar="1|2|3|1-3", help="1 topology, 2 semantics, 3 synergy; 1-3 runs all three."),
]
Size = Annotated[
    str | None, typer.Option("--size", metavar="tiny|1b|3b", help="Networks and recipe.", show_default="1b")
]
Init = Annotated[
    str | None,
    typer.Option(
        "--init",
        metavar="CHECKPOINT|none",
        help="Weights to start from.",
        show_default="newest finished previous stage of the same size",
    ),
]
Resume = Annotated[
    str | None,
    typer.Option(
        "--resume",
        metavar="[RUN]",
        help="Go on exactly with this run, or with the one last at work; --data where its data moved.",
    ),
]
OutDir = Annotated[
    str | None, typer.Option("--out", metavar="DIR", help="Run folder.", show_default="runs/SIZE-stageN-TIME")
]
Overwrite = Annotated[bool | None, typer.Option("--overwrite", help="Empty --out first.")]
Team = Annotated[
    str | None,
    typer.Option(
        "--devices", metavar="auto|cpu|cuda|mps|N|0,2", help="A number of GPUs, or which.", show_default="auto"
    ),
]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Optimizer steps.", rich_help_panel=PACE)]
Batch = Annotated[
    int | None, typer.Option("--batch-size", min=1, help="Images per step, over all devices.", rich_help_panel=PACE)
]
Rate = Annotated[float | None, typer.Option("--lr", help="Peak learning rate.", rich_help_panel=PACE)]
Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="NAME",
        help="tensorboard, wandb, mlflow, trackio or none; repeatable.",
        rich_help_panel=PACE,
    ),
]
SaveEvery = Annotated[
    int | None, typer.Option("--save-every", min=1, help="Steps between checkpoints.", rich_help_panel=PACE)
]
EvalEvery = Annotated[
    int | None, typer.Option("--eval-every", min=1, help="Steps between measurements.", rich_help_panel=PACE)
]
Keep = Annotated[
    int | None, typer.Option("--keep", min=1, help="Checkpoints kept, beside the best.", rich_help_panel=PACE)
]
Compile = Annotated[
    bool | None,
    typer.Option("--compile", help="Let torch compile the networks: a slow start, faster steps.", rich_help_panel=PACE),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and what is missing, and stop; exit 8 if anything is.")
]
Assume = Annotated[
    str | None,
    typer.Option("--assume", metavar="NxSIZE", help="With --dry-run: plan for 8x80GB, or cpu:32GB, instead of here."),
]


class TrainCommand(TyperCommand):
    """The command line of `train`, in which --resume may stand alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; a --resume that names no run means the newest one that is not finished."""
        alone = [option == "--resume" and following[:1] in ("", "-") for option, following in pairwise([*args, ""])]
        full = [word for word, adds in zip(args, alone, strict=True) for word in ([word, "latest"] if adds else [word])]
        return super().parse_args(ctx, full)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(cls=TrainCommand)
def train(
    stage: Stage = None,
    size: Size = None,
    data: Data = None,
    val_data: ValData = None,
    init: Init = None,
    resume: Resume = None,
    out_dir: OutDir = None,
    overwrite: Overwrite = None,
    steps: Steps = None,
    batch_size: Batch = None,
    lr: Rate = None,
    devices: Team = None,
    precision: Precision = None,
    seed: Seed = None,
    track: Track = None,
    save_every: SaveEvery = None,
    eval_every: EvalEvery = None,
    keep: Keep = None,
    compiled: Compile = None,
    dry_run: DryRun = False,
    assume: Assume = None,
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Train a tokenizer: one stage, or all three."""
    flags = {
        "run.size": size,
        "run.init": init,
        "run.overwrite": overwrite,
        "run.seed": seed,
        "data.train": data,
        "data.val": val_data,
        "training.steps": steps,
        "training.batch_size": batch_size,
        "optim.lr": lr,
        "training.devices": devices,
        "training.precision": precision,
        "training.track": tuple(track) if track else None,
        "training.save_every": save_every,
        "training.eval_every": eval_every,
        "training.keep": keep,
        "training.compile": compiled,
    }
    refuse_contradicting(assume, devices, dry_run)
    if resume is not None:
        asked_again = {**flags, "run.stage": stage, "run.out": out_dir}
        from muse_cli.going_on import go_on

        go_on(resume, asked_again, sets or [], config, dry_run, assume)
        return
    stages = stages_of(stage)
    asked = [Request(flags, number, out_dir, chained=len(stages) > 1) for number in stages]
    if dry_run:
        show_plans(asked, sets, config, assume)
    else:
        run_stages(asked, sets, config)


def refuse_contradicting(assume: str | None, devices: str | None, dry_run: bool) -> None:
    """Refuse a machine that is assumed where something is to be done, or beside devices of this one.

    Raises:
        MuseError: with exit code 2.
    """
    if assume and not dry_run:
        raise MuseError("--assume plans for another machine", hint="--dry-run with it", exit_code=ExitCode.USAGE)
    if assume and devices:
        what = "--assume and --devices both say what to plan for"
        raise MuseError(what, hint="--assume 8x80GB alone", exit_code=ExitCode.USAGE)


class Request:
    """One stage as it was asked for on the command line."""

    def __init__(self, flags: Mapping[str, Any], stage: int | None, folder: str | None, *, chained: bool) -> None:
        inside = str(Path(folder) / f"stage{stage}") if folder and chained else folder
        self.flags = {**flags, "run.stage": stage, "run.out": inside}

    def settings(
        self, sets: list[str] | None, config: Path | None, after: str | None = None
    ) -> "tuple[TrainSettings, Origins]":
        """Resolve the settings; `after` is what a stage of a chain starts from.

        Raises:
            MuseError: no layer says which stage.
        """
        from muse_cli.settings import resolve_as
        from muse_core.settings.train import TrainSettings

        flags = {**self.flags, "run.init": after} if after else self.flags
        settings, origins = resolve_as(TrainSettings, "train", flags, sets, config)
        if origins["run.stage"] == "default":
            raise MuseError("which stage?", hint="muse train --stage 1-3 --size tiny", exit_code=ExitCode.USAGE)
        return settings, origins


def run_stages(asked: list[Request], sets: list[str] | None, config: Path | None) -> None:
    """Train the stages, each from the result of the one before it."""
    from muse_cli.going_on import tell_done, train_chain
    from muse_cli.launch import devices_in

    first = asked[0].settings(sets, config)
    announce(first[0], len(asked))
    from muse_core.stages.chain import Stage
    from muse_core.stages.plan import make_plan

    later = [request.settings(sets, config, "none") for request in asked[1:]]
    for settings, _ in later:  # what a later stage lacks is told before the first one trains
        make_plan(settings, devices=devices_in(settings)).refuse_if_incomplete()
    tell_done(train_chain([Stage(*stage) for stage in (first, *later)]))


def announce(settings: "TrainSettings", stages: int = 1, verb: str = "") -> None:
    """Say in one line what is trained on what, before anything slow, and refuse what is no data.

    Raises:
        MuseError: a picture, another file or a folder of latents was named as data.
    """
    from muse_core.data.source import refuse_no_data

    run = settings.run
    named = f"stage {run.stage}" if stages == 1 else f"stages {run.stage} to {run.stage + stages - 1}"
    data = settings.data.train or "data not named yet"
    say_first(f"train: {verb}{named}, size {run.size}, on {data}; {settings.training.steps:,} steps")
    for where in filter(None, (settings.data.train, settings.data.val)):
        refuse_no_data(where)


def show_plans(asked: list[Request], sets: list[str] | None, config: Path | None, assume: str | None) -> None:
    """Print what would be done, and everything that is missing for it.

    Raises:
        MuseError: with exit code 8, when something is missing.
    """
    plans: list[Plan] = []
    for number, request in enumerate(asked):
        settings, _ = request.settings(sets, config, "none" if number else None)
        if not number:
            announce(settings, len(asked), "the plan of ")
        from muse_core.stages.plan import make_plan

        plan = make_plan(settings, cost=True, devices=devices_for(settings, assume))
        before = f"starts   from the result of stage {settings.run.stage - 1}"
        lines = [before if number and line.startswith("starts ") else line for line in plan.lines]
        plans.append(replace(plan, lines=lines))
    tell(plans)
