"""The one place of these tests that knows the training engine and its stages: a run built, a few of its steps taken.

When they move, this file moves with them; nothing else here imports them.
"""

from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import torch
from torch import Tensor

from muse_core.data.sample import Batch
from muse_core.losses.adversarial import LeCam, hinge_generator
from muse_core.losses.topology import topology_loss
from muse_core.model.connector import Connector
from muse_core.model.discriminator import PatchDiscriminator
from muse_core.progress import Silent
from muse_core.runs import RunFolder
from muse_core.settings.layers import resolve
from muse_core.settings.presets import preset
from muse_core.settings.train import TrainSettings
from muse_core.stages import objective, setup
from muse_core.stages.adversary import Adversary
from muse_core.stages.task import TokenizerTask
from muse_core.training.loop import train
from muse_core.training.session import build_trainer, new_accelerator
from muse_core.training.task import Compute
from muse_core.training.trainer import Trainer
from tests.gpu.parts import random_parts
from tests.gpu.waits import Record

Size = Literal["tiny", "1b"]


@dataclass
class Taken:
    """What some steps left behind: the trainer, and number format and device of what its guard saw, by "kind/name"."""

    trainer: Trainer
    seen: dict[str, str] = field(default_factory=dict)
    marks: list[int] = field(default_factory=list)
    """How many waits there were when each batch was asked for, and after the last step."""


class _EnoughError(Exception):
    """Ends the loop when all batches are used up."""


def take_steps(size: Size, stage: int, folder: Path, record: Record, *, images: int, steps: int) -> Taken:
    """Build a run of a stage with random weights, and let the loop of the product take its first steps."""
    settings = settings_of(size, stage, images)
    place = RunFolder.create(folder, settings.model_dump(mode="json"), {}, stage=stage, size=size)
    values = setup.trainer_settings(settings)

    def build(compute: Compute, checkpoint: Path | None) -> TokenizerTask:
        return setup.build_task(settings, None, Silent(), compute, checkpoint)

    with random_parts(), mock.patch.object(setup, "frozen_parts", return_value={}):  # there are no bytes to hash
        taken = Taken(build_trainer(build, values, place, Silent(), new_accelerator(values)))
    _listen(taken)
    taken.trainer.reader.batches = _batches(taken, record, images, settings.model.resolution, steps)
    try:
        train(taken.trainer)
    except _EnoughError:
        return taken
    raise AssertionError("the loop ended by itself")


def settings_of(size: Size, stage: int, images: int) -> TrainSettings:
    """The preset of a stage with a small batch; nothing is logged, measured, drawn or saved in the first steps."""
    flags: dict[str, Any] = {
        "run.stage": stage,
        "run.size": size,
        "run.init": "none",
        "data.train": "demo",
        "data.val": None,
        "data.workers": 0,
        "data.lanes": images,
        "training.batch_size": images,
        "training.reconstruct": images // 2,
        "training.precision": "bf16",
        "training.track": ("none",),
        "training.steps": 1000,
        "training.log_every": 1000,
        "training.eval_every": 1000,
        "training.sample_every": 1000,
        "training.save_every": 1000,
        "losses.adversarial_start": 0,
    }
    chosen, _ = resolve(TrainSettings, command="train", flags=flags, preset=preset(size, stage), environ={})
    return chosen


def _batches(taken: Taken, record: Record, images: int, side: int, steps: int) -> Generator[Batch]:
    """Batches of the host, with a caption for all but the last image."""
    for step in range(steps):
        taken.marks.append(len(record.waits))
        yield Batch(
            images=torch.rand(images, 3, side, side),
            captions=[*(f"picture {image} of step {step}" for image in range(images - 1)), ""],
            labels=torch.zeros(images, dtype=torch.int64),
            masks=None,
            keys=[str(image) for image in range(images)],
        )
    taken.marks.append(len(record.waits))
    raise _EnoughError


def _listen(taken: Taken) -> None:
    """Remember format and device of the scalars that the guard against numbers that are not finite is shown."""
    watch = taken.trainer.guard
    see = watch.see

    def listening(numbers: dict[str, Tensor], step: int, what: str) -> None:
        taken.seen |= {f"{what}/{name}": f"{str(number.dtype)[6:]} {number.device}" for name, number in numbers.items()}
        see(numbers, step, what)

    setattr(watch, "see", listening)  # noqa: B010


def state_of(trainer: Trainer) -> dict[str, Any]:
    """What steps have to change, and where it lies: trained weights, optimizers, moving average."""
    learners = [trainer.learner, *([trainer.opposition.learner] if trainer.opposition else [])]
    weights, average = trainer.learner.optimization.weights, trainer.learner.averages[0]
    tensors = [*weights.values(), *average.shadow.values(), *trainer.task.module.state_dict().values()]
    optimizers = [learner.optimization.optimizer for learner in learners]
    for optimizer in optimizers:
        tensors += [value for state in optimizer.state.values() for value in state.values() if value.ndim]
    return {
        "weights": len(weights),
        "moments": len(optimizers[0].state),
        "averaged": average.updates,
        "opponents": len(optimizers) - 1,
        "opponent_moments": sum(len(optimizer.state) for optimizer in optimizers[1:]),
        "devices": sorted({str(tensor.device) for tensor in tensors}),
        "precision": str(trainer.learner.mixed_precision),
    }


@contextmanager
def planted(bug: str) -> Iterator[None]:
    """Plant a bug in the product for a while; "clean" plants none."""
    with ExitStack() as stack:
        for owner, name, value in PLANTED[bug]:
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


def _rotary_on_the_host(self: Connector, grid: tuple[int, int], device: torch.device) -> Any:
    return _ROTARY(self, grid, torch.device("cpu"))


def _loss_that_is_read(student: Tensor, target: Tensor) -> Tensor:
    loss = _TOPOLOGY(student, target)
    assert float(loss.detach()) >= 0
    return loss


def _term_without_autocast(self: Adversary, reconstruction: Tensor, share: float = 1.0) -> Tensor:
    """Judge what the decoder made in bf16 by a discriminator in float32."""
    assert isinstance(self.module, PatchDiscriminator)
    return share * hinge_generator(PatchDiscriminator.forward(self.module, reconstruction.bfloat16()))


def _left_behind(self: LeCam, *args: object, **options: object) -> LeCam:
    return self


_ROTARY, _TOPOLOGY = Connector.rotary, topology_loss
PLANTED: dict[str, list[tuple[Any, str, Any]]] = {
    "clean": [],
    "cpu_rotary": [(Connector, "rotary", _rotary_on_the_host)],
    "item_in_loss": [(objective, "topology_loss", _loss_that_is_read)],
    "mixed_precision": [(Adversary, "term", _term_without_autocast)],
    "cpu_buffer": [(LeCam, "to", _left_behind)],
}
"""Bugs that only a GPU shows, by name: what is replaced to plant them."""
