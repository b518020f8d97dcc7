"""A task being trained: the engine's parts, and the step-shaped pieces that the loop is made of."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from torch import Tensor

from muse_core.training.learner import Learner, Opposition
from muse_core.training.optimization import refuse_dead_weights, refuse_idle_step, weighted_sum
from muse_core.training.reading import Reader
from muse_core.training.recording import Recorder
from muse_core.training.schedule import Intervals, Schedule
from muse_core.training.task import StepLosses, Task
from muse_core.training.watch import Watch


@dataclass(frozen=True)
class TrainerSettings:
    """The numbers that the engine needs, whatever trains.

    accumulation: parts that a step's batch is computed in. clip: largest gradient norm of a clip group. betas: of the
    optimizer. ema_decays: of the averages, of which the first is measured and drawn; none: no average. keep:
    checkpoints. seed: every process's random numbers follow from it. precision: of what trains, "auto", "fp32", "bf16"
    or "fp64". cpu: compute there even where there is a GPU. threads: of one process; None leaves it to torch. track:
    names of trackers.
    """

    schedule: Schedule
    intervals: Intervals = Intervals()
    accumulation: int = 1
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    ema_decays: tuple[float, ...] = (0.999,)
    keep: int = 2
    seed: int = 0
    precision: str = "auto"
    cpu: bool = False
    threads: int | None = None
    track: tuple[str, ...] = ()
    """Twelve values and no method: a list of numbers, which nothing is gained by splitting."""


@dataclass
class Trainer:
    """A task being trained, from step `first_step` on."""

    task: Task
    settings: TrainerSettings
    learner: Learner
    opposition: Opposition | None
    reader: Reader
    recorder: Recorder
    guard: Watch
    first_step: int = 0

    def losses(self, step: int) -> StepLosses:
        """Read a part of a batch, compute its losses and add their gradients; returns them without their graph."""
        batch = self.reader.next(self.recorder.progress)
        with self.opposition.resting() if self.opposition else nullcontext():
            losses = self.task.losses(self.learner.module, batch, step)
        refuse_idle_step(losses.terms, step)
        self.guard.see(losses.terms, step, "loss")
        self.learner.backward(weighted_sum(losses.terms, self.task.loss_weights) / self.settings.accumulation)
        return losses.detached()

    def update(self, step: int) -> dict[str, Tensor]:
        """Clip each group, take the optimizer's step, move the averages; returns the norms before clipping."""
        if step == self.first_step:
            refuse_dead_weights(self.learner.optimization.weights)
        norms = self.learner.optimization.clip_gradients()
        self.guard.see(norms, step, "gradient")
        self.learner.step()
        return norms

    def set_lr(self, step: int) -> None:
        """Set the learning rates of a step; the opponent follows the same schedule."""
        factor = self.settings.schedule.factor(step)
        self.learner.optimization.set_lr(factor)
        if self.opposition:
            self.opposition.learner.optimization.set_lr(factor)

    def oppose(self, parts: Sequence[StepLosses], step: int) -> dict[str, Tensor]:
        """Let the opponent take its step on all parts of the batch; returns its losses."""
        if not self.opposition or step < self.opposition.opponent.start:
            return {}
        terms, guarded = self.opposition.judge([part.seen for part in parts])
        self.guard.see({**terms, **guarded}, step, self.opposition.opponent.name)
        self.opposition.learner.step()
        return terms
