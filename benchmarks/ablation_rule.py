"""What is certain about the difference of two configurations, and the rule, fixed beforehand, that follows from it.

Tiny leaves the paper's default only if mIoU gains more than 2 standard errors while PSNR and zero-shot lose less
than 2. 1b and 3b keep the paper's.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ablation_factors import BY_NAME, DEFAULT, FACTORS

ENOUGH = 2.0  # standard errors
GAINS, KEEPS = "miou", ("psnr", "zeroshot")
STRUCTURE, UNTAUGHT = ("kl", "auc"), "no-topology"
Side = Literal["ahead", "behind", "level"]


@dataclass(frozen=True)
class Effect:
    """How far one configuration is ahead of another in a number, better being positive, with its standard error.

    wins: in how many of the `seeds` that both were run with it is ahead; no part of the rule.
    """

    gain: float
    error: float
    wins: int
    seeds: int

    @property
    def side(self) -> Side:
        """Say whether the difference is beyond its own uncertainty."""
        if self.gain > ENOUGH * self.error:
            return "ahead"
        return "behind" if self.gain < -ENOUGH * self.error else "level"


@dataclass(frozen=True)
class Results:
    """What was found: configuration -> seed -> quantity -> value."""

    runs: Mapping[str, Mapping[int, Mapping[str, float]]]

    def values(self, name: str, quantity: str) -> list[float]:
        """Return one number of a configuration, by seed."""
        return [run[quantity] for _, run in sorted(self.runs.get(name, {}).items())]

    def spread(self, quantity: str) -> float | None:
        """Return the standard deviation between seeds, pooled over the paper's default and all factors.

        Three seeds alone say little about a spread; eight configurations of three seeds say more. Attention that nobody
        taught is left out where attention is measured: it varies far more. None where no configuration has
        two seeds.
        """
        pooled = (name for name in (DEFAULT, *FACTORS) if not (quantity in STRUCTURE and name == UNTAUGHT))
        found = [self.values(name, quantity) for name in pooled]
        squares = sum(statistics.variance(values) * (len(values) - 1) for values in found if len(values) > 1)
        freedom = sum(len(values) - 1 for values in found if values)
        return math.sqrt(squares / freedom) if freedom else None

    def effect(self, name: str, quantity: str, against: str = DEFAULT) -> Effect | None:
        """Compare the means over seeds; None where either was not run or no spread is known."""
        ours, theirs, spread = self.values(name, quantity), self.values(against, quantity), self.spread(quantity)
        if not ours or not theirs or spread is None:
            return None
        sign = 1 if BY_NAME[quantity].higher else -1
        gain = sign * (statistics.mean(ours) - statistics.mean(theirs))
        first, second = self.runs[name], self.runs[against]
        both = [sign * (first[seed][quantity] - second[seed][quantity]) for seed in first if seed in second]
        error = spread * math.sqrt(1 / len(ours) + 1 / len(theirs))
        return Effect(gain, error, sum(each > 0 for each in both), len(both))


def qualifies(results: Results, name: str) -> bool | None:
    """Say whether a factor meets the rule; None where it cannot be judged."""
    gain, kept = results.effect(name, GAINS), [results.effect(name, quantity) for quantity in KEEPS]
    if gain is None or None in kept:
        return None
    return gain.side == "ahead" and all(effect.side != "behind" for effect in kept if effect)


def decision(results: Results, factors: Sequence[str] = FACTORS) -> str:
    """Return the configuration that tiny should train by.

    Factors were varied one at a time, so at most one is taken: of those that meet the rule, the one with most mIoU.
    """
    effects = {name: results.effect(name, GAINS) for name in factors if qualifies(results, name)}
    gains = {name: effect.gain for name, effect in effects.items() if effect}
    return max(gains, key=lambda name: gains[name], default=DEFAULT)
