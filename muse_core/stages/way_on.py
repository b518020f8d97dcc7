"""What to type after a run, as command lines that work where the run was started."""

import json
from pathlib import Path

from muse_core.command_lines import command_line
from muse_core.data.reach import open_readable
from muse_core.errors import MuseError
from muse_core.runs import RunFolder
from muse_core.settings.layers import resolve
from muse_core.settings.presets import STAGES, preset
from muse_core.settings.train import ModelSettings, TrainSettings
from muse_core.stages.plan import missing_captions

PLACE = "PLACE"
"""Stands in a command for what only its reader knows."""


def settings_of(folder: RunFolder) -> TrainSettings:
    """Return the settings of a run.

    Raises:
        MuseError: its config.yaml cannot be read, or holds what no run can have.
    """
    return resolve(TrainSettings, command="train", file=folder.path / "config.yaml", environ={})[0]


def refuse_finished(folder: RunFolder, steps: int | None = None, data: str | None = None) -> None:
    """Refuse to go on with a finished run: its learning rate has come to its end, so more steps are another run.

    steps: how many were asked for. data: which training data were.

    Raises:
        MuseError: it is finished; the hint begins that other run.
    """
    status = folder.status
    if status.state != "finished":
        return
    settings, gone = settings_of(folder), list[str]()
    if data is not None:
        settings = _with_data(settings, train=data)
    for split, where in (("train", settings.data.train), ("val", settings.data.val)):
        if where and not _is_there(where, split):
            gone.append(where)
            settings = _with_data(settings, **{split: PLACE})
    command = train_command(settings, settings.run.stage, folder.path, steps)
    lie = f"; {PLACE} is where the data lie now, which are gone from {' and '.join(gone)}" if gone else ""
    raise MuseError(
        f"{folder.path} is finished: its {status.step} steps are done, and its learning rate has come to its end",
        hint=f"{command} (a new run from its weights{lie})",
    )


def _is_there(where: str, split: str) -> bool:
    try:
        open_readable(where, split=split)
    except MuseError:
        return False
    return True


def _with_data(settings: TrainSettings, **places: str) -> TrainSettings:
    return settings.model_copy(update={"data": settings.data.model_copy(update=places)})


def next_commands(settings: TrainSettings, folder: Path) -> list[str]:
    """Return what to type when a run is finished: the next stage, or else its scores; and its report."""
    stage, commands = settings.run.stage, []
    later = settings.model_copy(update={"run": settings.run.model_copy(update={"stage": stage + 1})})
    if stage + 1 in STAGES and not missing_captions(_with_losses(later)):
        commands.append(train_command(settings, stage + 1, folder))
    if settings.data.val is not None:
        commands.append(command_line("muse", "eval", str(folder), "--data", settings.data.val))
    return [*commands, command_line("muse", "report", str(folder))]


def train_command(settings: TrainSettings, stage: int, init: Path, steps: int | None = None) -> str:
    """Return the command that trains a stage from a run, on its data and with its connector."""
    run, data = settings.run, settings.data
    usual = preset(run.size, stage, run.recipe)
    given = ["--stage", str(stage), "--size", run.size, "--init", str(init)]
    if data.train is not None and data.train != usual["data"].get("train"):
        given += ["--data", data.train]
    if data.val is not None and data.val != usual["data"].get("val"):
        given += ["--val-data", data.val]
    if steps:
        given += ["--steps", str(steps)]
    if run.recipe != "muse":
        given += ["--set", f"run.recipe={run.recipe}"]
    ours, theirs = settings.model.model_dump(), ModelSettings(**usual["model"]).model_dump()
    for name, value in ours.items():
        if value != theirs[name]:
            given += ["--set", f"model.{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return command_line("muse", "train", *given)


def _with_losses(settings: TrainSettings) -> TrainSettings:
    """Give settings the losses of their stage."""
    run = settings.run
    losses = settings.losses.model_copy(update=dict(preset(run.size, run.stage, run.recipe)["losses"]))
    return settings.model_copy(update={"losses": losses})
