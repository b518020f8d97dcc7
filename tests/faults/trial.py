"""What a fault is, and what one trial of it shows."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.faults.scene import Scene


@dataclass(frozen=True)
class Shown:
    """One trial.

    line: what the user reads. code: the exit code, as a shell has it. lost: what is gone, in words. steps: optimizer
    steps that had to be done again. problem: what should not have been; nothing when all is as promised.
    """

    line: str
    code: int
    lost: str
    steps: int = 0
    problem: str = ""


Trial = Callable[[Scene, np.random.Generator], Shown | None]
"""None: the command had ended before the fault came; it does not count."""


@dataclass(frozen=True)
class Fault:
    """A row of the table: one trial that chance varies, or several ways in which chance has no part."""

    name: str
    trial: Trial | tuple[Trial, ...]

    def trials(self, wanted: int) -> tuple[int, tuple[Trial, ...]]:
        """Return how many have to count, and what to try in turn."""
        if isinstance(self.trial, tuple):
            return min(wanted, len(self.trial)), self.trial
        return wanted, (self.trial,)


def again(told: int, saved: int) -> str:
    """Say what a resumed run does again."""
    return "the steps since the last save" if told > saved else "nothing"
