"""What a run measured on held-out images so far, and which checkpoint is the best by it.

The score that decides is named by whoever trains, as each task does.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

PREFIX = "val/"
"""Of the names of held-out scores in metrics.jsonl."""


@dataclass(frozen=True)
class Score:
    """A held-out score that decides: its name without the prefix, whether more of it is better, and the units of this
    and the other scores that are measured with it, by name."""

    name: str
    higher: bool
    units: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"the {'highest' if self.higher else 'lowest'} {self.name}"


@dataclass
class HeldOut:
    """Held-out scores by the step that they were measured at; `decides` says which of them makes a checkpoint best."""

    decides: Score
    measured: dict[int, dict[str, float]] = field(default_factory=dict)

    @classmethod
    def recorded(cls, decides: Score, records: Iterable[Mapping[str, Any]]) -> Self:
        """Read the records of metrics.jsonl."""
        found = cls(decides)
        for record in records:
            scores = {name.removeprefix(PREFIX): value for name, value in record.items() if name.startswith(PREFIX)}
            if scores:
                found.add(int(record["step"]), scores)
        return found

    def add(self, step: int, scores: Mapping[str, float | None]) -> None:
        """Note what was measured after a step."""
        self.measured[step] = {name: math.nan if value is None else float(value) for name, value in scores.items()}

    def best(self, steps: Sequence[int]) -> int | None:
        """Return the best of the steps that a checkpoint is kept of, each judged by the last measurement before it.

        Of equals it is the first, so that saving again without measuring changes nothing.

        Returns:
            None where nothing was measured, or nothing finite.
        """
        scored = {step: score for step in steps if (score := self._of(step)) is not None}
        if not scored:
            return None
        sign = 1 if self.decides.higher else -1
        return max(scored, key=lambda step: (sign * scored[step], -step))

    def _of(self, step: int) -> float | None:
        before = [at for at in self.measured if at <= step]
        score = self.measured[max(before)].get(self.decides.name) if before else None
        return score if score is not None and math.isfinite(score) else None

    def text(self) -> str:
        """Say what was measured last, and when; "" where nothing was."""
        if not self.measured:
            return ""
        step = max(self.measured)
        return f"held out {scores_text(self.measured[step], self.decides.units)} at step {step}"

    def best_text(self, step: int) -> str:
        """Say which of the checkpoints is the best one, and by what."""
        score = self._of(step)
        text = "" if score is None else f": {scores_text({self.decides.name: score}, self.decides.units)}"
        return f"best     step {step}{text}"


def scores_text(scores: Mapping[str, float], units: Mapping[str, str]) -> str:
    """Write held-out scores with their units, as in psnr 18.32 dB, topology 0.0712 nats."""
    return ", ".join(f"{name} {value:.4g} {units.get(name, '')}".rstrip() for name, value in scores.items())
