"""The smallest runs that still go through everything: four steps of eight scenes through two narrow blocks."""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from muse_core.model.checkpoint import read_tensors
from muse_core.progress import Progress, Silent
from muse_core.runs import RunFolder
from muse_core.settings.layers import resolve
from muse_core.settings.presets import preset
from muse_core.settings.train import TrainSettings
from muse_core.stages.setup import build_run
from muse_core.stages.start import RunSummary, train
from muse_core.training.run import Run

Changes = Mapping[str, Any]

LEAN: Changes = {
    "run.init": "none",
    "model.width": 32,
    "model.resolution": 32,
    "model.heads": 4,
    "model.blocks": 2,
    "training.steps": 4,
    "training.batch_size": 8,
    "training.reconstruct": 4,
    "training.save_every": 100,
    "training.eval_every": 100,
    "training.sample_every": 100,
    "training.log_every": 1,
    "training.track": ("none",),
    "training.threads": 1,
    "training.devices": "cpu",
    "optim.lr": 1e-3,
    "optim.average_decay": 0.9,
    "data.lanes": 4,
    "data.workers": 0,
    "data.val": None,
    "data.val_images": 6,
}
"""What is never 0 in them: every stage has all of its losses, and three encoder-sized networks look at every batch."""

CLOCK = {"images_per_s", "steps_images_per_s", "data_images_per_s", "waited"}
"""What a line of metrics says of the machine's speed."""


def lean(stage: int = 1, changes: Changes | None = None) -> TrainSettings:
    """Settings of a stage of size tiny, made lean; variables of this machine do not count."""
    flags = {"run.stage": stage, "run.size": "tiny", **LEAN, **(changes or {})}
    chosen, _ = resolve(
        TrainSettings,
        command="train",
        flags={key: value for key, value in flags.items() if value is not None},
        preset=without(preset("tiny", stage), [key for key, value in flags.items() if value is None]),
        environ={},
    )
    return chosen


def without(sections: Mapping[str, Mapping[str, Any]], keys: list[str]) -> dict[str, dict[str, Any]]:
    """The preset less the dotted keys that a test sets to None."""
    return {
        section: {key: value for key, value in values.items() if f"{section}.{key}" not in keys}
        for section, values in sections.items()
    }


def train_lean(
    stage: int, folder: Path, changes: Changes | None = None, progress: Progress | None = None
) -> RunSummary:
    """Train a stage into a folder."""
    return train(lean(stage, {**(changes or {}), "run.out": str(folder)}), {}, progress)


def begin(stage: int, folder: Path, changes: Changes | None = None, init: Path | None = None) -> Run:
    """Build a run in a folder without taking a step; a folder with a checkpoint is continued."""
    settings = lean(stage, changes)
    torch.set_num_threads(1)
    run = RunFolder(folder)
    if not folder.exists():
        run = RunFolder.create(folder, settings.model_dump(mode="json"), {}, stage=stage, size="tiny")
    return build_run(settings, run, Silent(), Accelerator(cpu=True), init)


def last_weights(summary: RunSummary, file: str = "model") -> dict[str, Tensor]:
    """The tensors of the newest checkpoint."""
    checkpoint = RunFolder(summary.folder).last_checkpoint()
    assert checkpoint is not None
    return read_tensors(checkpoint / f"{file}.safetensors")


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two sets of tensors have the same names and the same bits."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class StopAt:
    """Progress that sends this process a signal when a step is done, as a user or a scheduler would."""

    def __init__(self, step: int, number: int = signal.SIGTERM) -> None:
        self.step, self.number, self.done = step, number, 0
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.said.append(text)

    @contextmanager
    def track(self, what: str, total: int, unit: str = "") -> Iterator["StopAt"]:
        yield self

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done += amount
        if amount and self.done == self.step:
            os.kill(os.getpid(), self.number)
