"""What a run tells while it trains: lines of metrics, held-out scores, figures, and words for whoever watches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from muse_core.distributed import is_first, mean_over_ranks
from muse_core.files import write_atomically
from muse_core.progress import Progress, Tracker
from muse_core.runs import RunFolder
from muse_core.training.held_out import PREFIX, HeldOut
from muse_core.training.speed import Rates
from muse_core.training.task import StepLosses
from muse_core.training.trackers import Trackers


@dataclass
class Recorder:
    """Writes what is measured to metrics.jsonl and to the trackers, and says it; only the first process writes."""

    folder: RunFolder
    progress: Progress
    held_out: HeldOut
    trackers: Trackers = field(default_factory=Trackers)

    def step(
        self, done: int, losses: StepLosses, norms: Mapping[str, Tensor], lr: float, rates: Rates, tracker: Tracker
    ) -> None:
        """Write one line of metrics; reading the numbers waits for the device, so this is not done every step.

        The losses are those of the whole batch: all processes have to come here.
        """
        terms = read_means(losses.terms)
        record = {f"loss/{name}": loss for name, loss in terms.items()}
        record |= {f"grad_norm/{group}": norm for group, norm in read(norms).items()}
        record["lr"] = lr
        record |= rates.record()
        record |= read_means(losses.numbers)
        self.numbers(done, record)
        words = [*(f"{name} {loss:.3f}" for name, loss in terms.items()), rates.said(), self.held_out.text()]
        tracker.advance(0, note="  ".join(filter(None, words)))

    def numbers(self, done: int, numbers: Mapping[str, float]) -> None:
        """Append numbers of a step to metrics.jsonl and to the trackers."""
        if not is_first():
            return
        self.folder.append_metrics({"step": done, **numbers})
        self.trackers.log(done, numbers)

    def scores(self, done: int, scores: Mapping[str, float]) -> None:
        """Note what was measured on held-out data, and say it."""
        self.numbers(done, {f"{PREFIX}{name}": score for name, score in scores.items()})
        self.held_out.add(done, scores)
        self.progress.say(self.held_out.text())

    def figure(self, done: int, png: bytes) -> None:
        """Keep a figure of held-out data."""
        path = self.folder.sample_path(done)
        write_atomically(path, png)
        self.trackers.figure(done, "samples", path)


def mean_losses(parts: Sequence[StepLosses]) -> StepLosses:
    """Return the losses of a whole batch: the means over its parts, which hold equally many samples."""
    if len(parts) == 1:
        return parts[0]
    terms = {name: _mean([part.terms[name] for part in parts]) for name in parts[0].terms}
    return StepLosses(terms, {name: _mean([part.numbers[name] for part in parts]) for name in parts[0].numbers})


def _mean(scalars: Sequence[Tensor]) -> Tensor:
    return torch.stack([_widened(scalar) for scalar in scalars]).mean()


def read(scalars: Mapping[str, Tensor]) -> dict[str, float]:
    """Read scalars at one wait for the device."""
    if not scalars:
        return {}
    values = torch.stack([_widened(scalar) for scalar in scalars.values()])
    return dict(zip(scalars, values.tolist(), strict=True))


def read_means(scalars: Mapping[str, Tensor]) -> dict[str, float]:
    """Read the means of scalars over all processes."""
    return read({name: mean_over_ranks(_widened(scalar)) for name, scalar in scalars.items()})


def _widened(scalar: Tensor) -> Tensor:
    scalar = scalar.detach()
    return scalar if scalar.dtype == torch.float64 else scalar.float()
