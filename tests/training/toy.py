"""How to write a task: a small network learns to double numbers, and a rival learns to tell its answers from the truth.

docs/architecture.md shows the lines between the marks.
"""

import io
import os
import signal
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from muse_core.progress import Silent
from muse_core.runs import RunFolder
from muse_core.tensor_files import read_tensors
from muse_core.training.held_out import Score
from muse_core.training.optimization import parameter_groups
from muse_core.training.schedule import Intervals, Schedule
from muse_core.training.session import Finished, run
from muse_core.training.task import Compute, Partition, StepLosses, TensorBatch
from muse_core.training.trainer import TrainerSettings

AT_ONCE = 8


def network(compute: Compute) -> nn.Module:
    """One number to one number."""
    return nn.Sequential(nn.Linear(1, 8), nn.SiLU(), nn.Linear(8, 1)).to(compute.device, compute.dtype)


def partition_of(module: nn.Module, group: str) -> Partition:
    """All weights train, and are clipped together."""
    weights = dict(module.named_parameters())
    return Partition(parameter_groups(weights, lr=0.05, weight_decay=0.01), dict.fromkeys(weights, group))


# task: begins
class Rival:
    name, remedy, start = "rival", "a lower rate", 2

    def __init__(self, compute: Compute) -> None:
        self.module = network(compute)
        self.modules, self.partition = {"model": self.module}, partition_of(self.module, "rival")

    def losses(self, module: nn.Module, parts: Sequence[Any]) -> tuple[Tensor, dict[str, Tensor]]:
        truth, answers = (torch.cat(column) for column in zip(*parts, strict=True))
        for_truth, for_answers = module(torch.cat((truth, answers))).chunk(2)
        loss = (for_truth - 1).square().mean() + for_answers.square().mean()
        return loss, {"rival": loss.detach()}


class Doubling:
    title, loss_weights, decides = "doubling", {"error": 1.0, "adversarial": 0.1}, Score("error", higher=False)

    def __init__(self, compute: Compute, checkpoint: Path | None, parts: int = 1) -> None:
        self.compute, self.at_once = compute, AT_ONCE // parts
        self.module, self.opponent = network(compute), Rival(compute)
        self.partition = partition_of(self.module, "all")
        if checkpoint:
            self.module.load_state_dict(read_tensors(checkpoint / "model.safetensors"))

    def batches(self, cursor: Mapping[int, int]) -> Generator[TensorBatch]:
        done, own = cursor.get(0, 0), self.at_once // self.compute.world
        while True:
            numbers = done + self.compute.rank * own + torch.arange(own, dtype=torch.float64)
            done += self.at_once
            yield TensorBatch({"x": numbers.sin()[:, None]}, cursor={0: done})

    def losses(self, module: nn.Module, batch: TensorBatch, step: int) -> StepLosses:
        truth, answers = 2 * batch["x"], module(batch["x"])
        judged = (self.opponent.module(answers) - 1).square().mean()
        terms = {"error": (answers - truth).square().mean(), "adversarial": judged}
        return StepLosses(terms, seen=(truth, answers.detach()))

    def validate(self) -> Mapping[str, float]:
        return {"error": float((self.module(held_out(self.compute)) - 2 * held_out(self.compute)).abs().max())}

    def draw(self) -> bytes | None:
        return png(self.module(held_out(self.compute)))

    def stored(self) -> Mapping[str, Tensor]:
        return self.module.state_dict()

    def identity(self) -> dict[str, Any]:
        return {"task": "doubling"}


# task: ends


def held_out(compute: Compute) -> Tensor:
    """Numbers that no batch holds."""
    return torch.linspace(-0.9, 0.9, 7, device=compute.device, dtype=compute.dtype)[:, None]


def png(answers: Tensor) -> bytes:
    """A row of grey pixels."""
    pixels = answers.detach().add(2).mul(60).clamp(0, 255).to(torch.uint8).cpu()
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "PNG")
    return file.getvalue()


def train_doubling(
    folder: RunFolder,
    steps: int = 12,
    parts: int = 1,
    killed_at: int | None = None,
    track: tuple[str, ...] = (),
    decays: tuple[float, ...] = (0.9, 0.5),
    change: Callable[[Doubling], None] = lambda task: None,
) -> Finished:
    """Train the task in a run folder, on from its last checkpoint.

    killed_at: a step that nobody survives. change: spoils the task in some way.
    """

    def build(compute: Compute, checkpoint: Path | None) -> Doubling:
        task = Doubling(compute, checkpoint, parts)
        losses = task.losses

        def fatal(module: nn.Module, batch: TensorBatch, step: int) -> StepLosses:
            if step == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return losses(module, batch, step)

        task.losses = fatal  # type: ignore[method-assign]
        change(task)
        return task

    settings = TrainerSettings(
        Schedule(steps, warmup_steps=2, end_factor=0.1),
        Intervals(log=1, evaluate=4, sample=6, save=4),
        accumulation=parts,
        ema_decays=decays,
        precision="fp64",
        cpu=True,
        track=track,
    )
    return run(build, settings, folder, Silent())


def new_run(path: Path, steps: int = 12) -> RunFolder:
    """Make the folder of a run."""
    return RunFolder.create(path, {"training": {"steps": steps}}, {}, steps=steps)


if __name__ == "__main__":  # in a process of its own: FOLDER STEP, the step at which it is killed
    train_doubling(RunFolder(Path(sys.argv[1])), killed_at=int(sys.argv[2]))
