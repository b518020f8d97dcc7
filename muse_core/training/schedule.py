"""How long a run is, how its learning rate moves, and what happens how often; all counted in optimizer steps."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """steps of the run; warmup_steps of them raise the rate; end_factor: what is left of the peak rate at the end."""

    steps: int
    warmup_steps: int = 0
    end_factor: float = 0.0

    def factor(self, step: int) -> float:
        """Return the factor on the peak rate at optimizer step `step` (0-based)."""
        return cosine_multiplier(step, self.steps, self.warmup_steps, self.end_factor)


@dataclass(frozen=True)
class Intervals:
    """Steps between two lines of metrics, two measurements, two sample figures, two checkpoints."""

    log: int = 50
    evaluate: int = 5_000
    sample: int = 2_000
    save: int = 5_000

    def due(self, done: int, steps: int) -> frozenset[str]:
        """Return which of them are due after `done` of `steps`; after the last step all are."""
        return frozenset(name for name, every in vars(self).items() if done % every == 0 or done == steps)


def cosine_multiplier(step: int, steps: int, warmup_steps: int, end: float) -> float:
    """Return the factor on the peak rate at optimizer step `step` (0-based): linear warm-up, then a cosine.

    Warm-up gives (step + 1) / warmup_steps, so that the first step already learns; afterwards the factor falls
    from 1 to `end` along half a cosine, reaching `end` at `steps`.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * progress))
