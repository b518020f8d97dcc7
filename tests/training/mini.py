"""The smallest runs that still go through everything: four steps of eight scenes through two narrow blocks."""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from muse_core.data.sample import Batch
from muse_core.model.checkpoint import read_tensors
from muse_core.model.network import MuseNetwork
from muse_core.progress import Progress, Silent
from muse_core.runs import RunFolder
from muse_core.settings.layers import resolve
from muse_core.settings.presets import preset
from muse_core.settings.train import TrainSettings
from muse_core.stages.adversary import Adversary
from muse_core.stages.objective import Objective, Trainee
from muse_core.stages.setup import build_task, trainer_settings
from muse_core.stages.start import RunSummary, train
from muse_core.stages.task import TokenizerTask
from muse_core.training.ema import Average
from muse_core.training.learner import Opposition
from muse_core.training.session import build_trainer, new_accelerator
from muse_core.training.task import Compute, StepLosses
from muse_core.training.trainer import Trainer

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


@dataclass
class Begun:
    """A trainer of a stage of the tokenizer, with short ways to what tests look at."""

    trainer: Trainer

    @property
    def task(self) -> TokenizerTask:
        assert isinstance(self.trainer.task, TokenizerTask)
        return self.trainer.task

    @property
    def network(self) -> MuseNetwork:
        return self.task.network

    @property
    def trainee(self) -> Trainee:
        return self.task.module

    @property
    def objective(self) -> Objective:
        return self.task.objective

    @property
    def adversary(self) -> Adversary | None:
        return self.task.opponent

    @property
    def opposition(self) -> Opposition:
        assert self.trainer.opposition is not None
        return self.trainer.opposition

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        return self.trainer.learner.optimization.weights

    @property
    def optimizer(self) -> Optimizer:
        return self.trainer.learner.optimization.optimizer

    @property
    def average(self) -> Average:
        return self.trainer.learner.averages[0]

    @property
    def folder(self) -> RunFolder:
        return self.trainer.recorder.folder

    def next_batch(self) -> Batch:
        batch: Batch = self.trainer.reader.next(Silent())
        return batch

    def computed(self, batch: Batch, step: int = 0) -> StepLosses:
        """What the task computes of a batch, with its graph."""
        with self.opposition.resting() if self.trainer.opposition else nullcontext():
            return self.task.losses(self.trainer.learner.module, batch, step)

    def losses(self, batch: Batch, step: int = 0) -> dict[str, Tensor]:
        return self.computed(batch, step).terms

    def oppose(self, batch: Batch, step: int = 0) -> dict[str, Tensor]:
        """The opponent's step on a batch."""
        return self.trainer.oppose([self.computed(batch, step).detached()], step)

    def backward(self, terms: Mapping[str, Tensor]) -> None:
        self.trainer.learner.backward(self.objective.total(terms) / self.trainer.settings.accumulation)


def begin(stage: int, folder: Path, changes: Changes | None = None, init: Path | None = None) -> Begun:
    """Build a run in a folder without taking a step; a folder with a checkpoint is continued."""
    settings = lean(stage, changes)
    torch.set_num_threads(1)
    run = RunFolder(folder)
    if not folder.exists():
        run = RunFolder.create(folder, settings.model_dump(mode="json"), {}, stage=stage, size="tiny")
    return Begun(trainer_of(settings, run, init))


def trainer_of(settings: TrainSettings, run: RunFolder, init: Path | None = None) -> Trainer:
    """Build the trainer of a run, as it is built for a command."""

    def build(compute: Compute, checkpoint: Path | None) -> TokenizerTask:
        return build_task(settings, init, Silent(), compute, checkpoint)

    values = trainer_settings(settings)
    return build_trainer(build, values, run, Silent(), new_accelerator(values))


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
