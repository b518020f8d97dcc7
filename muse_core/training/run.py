"""A run in progress: everything the loop touches, and the step-shaped pieces it is made of."""

from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.optim import Optimizer

from muse_core.data.sample import Batch
from muse_core.image_files import noted
from muse_core.losses.processes import mean_over_processes
from muse_core.model.build import ConnectorSpec
from muse_core.model.checkpoint import CheckpointState, read_state, read_unchanged, save_network, write_tensors
from muse_core.model.network import MuseNetwork
from muse_core.model.numbers import full
from muse_core.progress import Progress, Tracker
from muse_core.run_checkpoints import BEST, pointed_at, step_name
from muse_core.runs import RunFolder
from muse_core.stages.adversary import Adversary
from muse_core.stages.objective import Objective, StepOutput
from muse_core.stages.validation import Validation
from muse_core.training.average import Average
from muse_core.training.held_out import PREFIX, HeldOut
from muse_core.training.optimizers import (
    clip_streams,
    refuse_dead_weights,
    refuse_idle_step,
    set_rate,
)
from muse_core.training.sharing import Sharing
from muse_core.training.speed import Speed
from muse_core.training.state import optimizer_state, random_state, restore_optimizer, restore_random
from muse_core.training.trackers import Trackers
from muse_core.training.watch import Watch


@dataclass(frozen=True)
class Pace:
    """How long, how fast the rate moves, and what happens how often (in optimizer steps)."""

    steps: int
    warmup_steps: int
    end_factor: float
    accumulation: int
    clip: float
    log_every: int
    eval_every: int
    sample_every: int
    save_every: int
    keep: int


@dataclass(frozen=True)
class Identity:
    """What a checkpoint of this run says it is."""

    size: str
    stage: int
    spec: ConnectorSpec
    encoder_trained: bool
    frozen: Mapping[str, str]


@dataclass
class Run:
    """One stage being trained."""

    identity: Identity
    pace: Pace
    network: MuseNetwork
    trainee: nn.Module
    objective: Objective
    weights: Mapping[str, nn.Parameter]
    optimizer: Optimizer
    average: Average
    adversary: Adversary | None
    batches: Generator[Batch]
    validation: Validation | None
    folder: RunFolder
    accelerator: Accelerator
    progress: Progress
    watch: Watch
    held_out: HeldOut
    dtype: torch.dtype = torch.float32
    trackers: Trackers = field(default_factory=Trackers)
    first_step: int = 0
    cursor: dict[int, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    skipped_before: dict[str, int] = field(default_factory=dict)
    notes: set[str] = field(default_factory=set)
    negatives: Tensor | None = None
    speed: Speed = field(default_factory=Speed)
    sharing: Sharing = field(default_factory=Sharing)

    def set_rate(self, step: int) -> None:
        """Set the learning rates of step `step`."""
        schedule = {"steps": self.pace.steps, "warmup_steps": self.pace.warmup_steps, "end": self.pace.end_factor}
        set_rate(self.optimizer, step, **schedule)  # type: ignore[arg-type]
        if self.adversary:
            self.adversary.set_rate(step, **schedule)  # type: ignore[arg-type]

    def next_batch(self) -> Batch:
        """Read a batch and remember how far each lane has come."""
        batch = self.speed.wait_for(self.batches).to(self.accelerator.device, self.dtype)
        self.cursor |= batch.cursor
        self._count_skipped(batch)
        return batch

    def _count_skipped(self, batch: Batch) -> None:
        """Add what was passed over since reading began to what was before, and tell of each reason once."""
        skipped = Counter(self.skipped_before) + Counter(batch.skipped)
        for reason in skipped.keys() - self.skipped.keys():
            first = batch.examples.get(reason, "?")
            self.progress.warn(f"samples are passed over: {reason} (first: {first}); state.json counts them")
        self.skipped = dict(skipped)
        for note in noted({note: batch.notes[note] for note in batch.notes.keys() - self.notes}):
            self.progress.warn(f"so far {note}")
        self.notes |= batch.notes.keys()

    def losses(self, output: StepOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the active losses of a batch, unweighted."""
        terms, negatives = self.objective.terms(output, batch, self.network.connector.logit_scale)
        self.negatives = self.negatives if negatives is None else negatives
        if self.adversary and self.adversary.plays_at(step):
            terms["adversarial"] = self.adversary.term(output.reconstruction, output.decoded.share)
        refuse_idle_step(terms, step)
        self.watch.see(terms, step, "loss")
        return terms

    def part(self, index: int) -> AbstractContextManager[object]:
        """Compute one part of a step's batch; processes share their gradients at the last part only."""
        last = index == self.pace.accumulation - 1
        return nullcontext() if last else self.accelerator.no_sync(self.trainee)

    def backward(self, terms: Mapping[str, Tensor]) -> None:
        """Add the gradients of the weighted terms."""
        self.accelerator.backward(self.objective.total(terms) / self.pace.accumulation)

    def update(self, step: int) -> dict[str, Tensor]:
        """Clip each stream, take the optimizer's step, move the average; returns the norms before clipping."""
        if step == self.first_step:
            refuse_dead_weights(self.weights)
        norms = clip_streams(self.weights, self.pace.clip)
        self.watch.see(norms, step, "gradient")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update()
        return norms

    def oppose(self, output: StepOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Give the discriminator its turn."""
        if not self.adversary or not self.adversary.plays_at(step):
            return {}
        real = batch.images.index_select(0, output.decoded.rows)
        terms = self.adversary.turn(real, output.reconstruction, output.decoded.share)
        self.watch.see(terms, step, "discriminator")
        return terms

    def is_due(self, done: int, every: int) -> bool:
        """Say whether something that happens every so often is due after `done` steps; the last step always is.

        Raises:
            MuseError: it is, and numbers that are not finite were seen since the last time.
        """
        due = done % every == 0 or done == self.pace.steps
        if due:
            self.watch.look()
        return due

    def log(self, done: int, terms: Mapping[str, Tensor], norms: Mapping[str, Tensor], tracker: Tracker) -> None:
        """Write one line of metrics; reading the numbers waits for the device, so this is not done every step.

        The losses are those of the whole batch: all processes have to come here.
        """
        losses = read_means(terms)
        record = {f"loss/{name}": loss for name, loss in losses.items()}
        record |= {f"grad_norm/{stream}": norm for stream, norm in read(norms).items()}
        record["lr"] = float(self.optimizer.param_groups[0]["lr"])
        speed = self.speed.read(self.accelerator.num_processes)
        record |= speed.record()
        if self.negatives is not None:
            record["negatives"] = float(self.negatives)
        self.record(done, record)
        said = [*(f"{name} {loss:.3f}" for name, loss in losses.items()), speed.said(), self.held_out.text()]
        tracker.advance(0, note="  ".join(filter(None, said)))

    def record(self, done: int, numbers: Mapping[str, float]) -> None:
        """Append numbers of a step to metrics.jsonl, and tell the trackers."""
        if not self.accelerator.is_main_process:
            return
        self.folder.append_metrics({"step": done, **numbers})
        self.trackers.log(done, numbers)

    def evaluate(self, done: int) -> None:
        """Measure the averaged weights on held-out images."""
        if self.validation is None or not self.accelerator.is_main_process:
            return
        with self.average.swapped_in():
            scores = self.validation.measure(self.network, self.objective)
        self.record(done, {f"{PREFIX}{name}": score for name, score in scores.items()})
        self.held_out.add(done, scores)
        self.progress.say(self.held_out.text())

    def sample(self, done: int) -> None:
        """Draw held-out images, their reconstructions and attention with the averaged weights."""
        if self.validation is None or not self.accelerator.is_main_process:
            return
        with self.average.swapped_in():
            self.validation.draw(self.network, self.objective, self.folder.sample_path(done))
        self.trackers.figure(done, "samples", self.folder.sample_path(done))

    def anywhere(self, flag: bool) -> bool:
        """Say whether a flag is up in any process; all of them have to ask."""
        return self.sharing.any(flag)

    def whole_cursor(self) -> dict[int, int]:
        """Collect how far each lane has come from the processes that read them; all of them have to ask."""
        whole: dict[int, int] = {}
        for part in gather_object([self.cursor]):
            # After a resume, a process still holds old positions of lanes that it does not read.
            whole |= {lane: max(position, whole.get(lane, 0)) for lane, position in part.items()}
        return whole

    def save(self, done: int) -> None:
        """Write a checkpoint aside and rename it."""
        self.watch.look()
        cursor = self.whole_cursor()
        if not self.accelerator.is_main_process:
            return
        tensors, optimizer_rest = optimizer_state(self.optimizer, "optimizer")
        tensors |= random_state()
        training: dict[str, object] = {
            "optimizer": optimizer_rest,
            "cursor": {str(lane): position for lane, position in cursor.items()},
            "average": {"updates": self.average.updates, "cap": self.average.cap},
            "skipped": self.skipped,
        }
        if self.adversary:
            adversary_tensors, training["adversary"] = self.adversary.state()
            tensors |= adversary_tensors
        identity = self.identity
        state = CheckpointState(
            size=identity.size,
            stage=identity.stage,
            step=done,
            spec=identity.spec,
            encoder_trained=identity.encoder_trained,
            frozen=identity.frozen,
            training=training,
        )
        with self.folder.checkpoint(done, keep=self.pace.keep, best=self.held_out.best) as folder:
            write_tensors(tensors, folder / "training.safetensors")
            save_network(folder, self.network, self.average.shadow, state)
        self.folder.update(step=done)
        self.folder.log(f"saved    step {done}")
        if pointed_at(self.folder.path, BEST) == folder.with_name(step_name(done)):
            self.progress.say(self.held_out.best_text(done))

    def restore(self, folder: Path) -> None:
        """Continue exactly from a checkpoint of this run; the network holds its current weights already."""
        state = read_state(folder)
        tensors = read_unchanged(folder / "training.safetensors", state)
        restore_optimizer(self.optimizer, "optimizer", tensors, state.training["optimizer"])
        restore_random(tensors)
        saved = state.training["average"]
        self.average.restore(read_unchanged(folder / "average.safetensors", state), saved["updates"], saved["cap"])
        if self.adversary:
            self.adversary.restore(tensors, state.training["adversary"])
        self.first_step = state.step
        self.skipped = dict(state.training["skipped"])
        self.skipped_before = dict(self.skipped)


def read(scalars: Mapping[str, Tensor]) -> dict[str, float]:
    """Read scalars at one wait for the device."""
    values = torch.stack([full(scalar.detach()) for scalar in scalars.values()])
    return dict(zip(scalars, values.tolist(), strict=True))


def read_means(scalars: Mapping[str, Tensor]) -> dict[str, float]:
    """Read the means of scalars over all processes."""
    return read({name: mean_over_processes(full(scalar.detach())) for name, scalar in scalars.items()})


def cursor_of(state: CheckpointState) -> dict[int, int]:
    """Read how far each lane had come."""
    return {int(lane): int(position) for lane, position in state.training["cursor"].items()}


def seed_everything(seed: int, rank: int) -> None:
    """Seed this process's generator; data order has its own seed, the same on all ranks."""
    torch.manual_seed(seed + rank)
