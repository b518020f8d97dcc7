"""How long a planned run will take, by a run of the same size that went on this machine before; never a guess."""

from statistics import median
from typing import Any

import yaml

from muse_core.errors import MuseError
from muse_core.files import read_json
from muse_core.machine import hardware
from muse_core.progress import time_text
from muse_core.run_search import list_runs
from muse_core.runs import RunFolder
from muse_core.settings.train import TrainSettings

_SAME = (
    *("devices", "batch_size", "accumulation", "reconstruct"),
    *("precision", "frozen_precision", "compile", "checkpointing"),
)
"""Of the settings of training: what decides how fast it goes."""


def expected_line(settings: TrainSettings, world: int) -> str:
    """Say how long a run will take, and by what that is known."""
    now = hardware()
    for run in list_runs():
        try:
            speed = _speed(run, settings, world, now)
        except (MuseError, OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
            continue  # a run that cannot be read tells nothing of this one
        if speed:
            seconds = settings.training.steps * settings.training.batch_size / speed
            return f"time     {time_text(seconds)}, as {run.path} ran here at {speed:.3g} images/s"
    return "time     known after the first steps: no run of this stage, size and batch was made here before"


def _speed(run: RunFolder, settings: TrainSettings, world: int, machine: dict[str, Any]) -> float | None:
    """Return the images a second of a run that did the same work on the same machine; None for any other run."""
    if (run.status.stage, run.status.size) != (settings.run.stage, settings.run.size):
        return None
    theirs, ours = run.settings(), settings.model_dump(mode="json")
    kept = read_json(run.path / "environment.json")
    alike = theirs["model"] == ours["model"] and all(theirs["training"][key] == ours["training"][key] for key in _SAME)
    if not alike or any(kept[key] != value for key, value in machine.items()):
        return None
    if read_json(run.path / "identity.json")["computed"]["processes"] != world:
        return None
    speeds = [record["images_per_s"] for record in run.metrics() if "images_per_s" in record]
    return float(median(speeds)) if speeds else None
