"""What is damaged, which commands it goes through, and what they must not accept.

Every kind takes a folder of its own and a range of cases, and yields the bugs that it finds. Damage that a group of
files shares a command with is looked for again file by file when the group ends wrongly.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.fuzz.judge import Ended

Rng = np.random.Generator


@dataclass(frozen=True)
class Bug:
    """What should not have been, in which case of which kind."""

    kind: str
    case: int
    what: str
    command: tuple[str, ...] = ()

    def line(self) -> str:
        """Say it."""
        return f"{self.kind} {self.case}: {self.what}   [muse {' '.join(self.command)}]"


@dataclass(frozen=True)
class Kind:
    """name; share: of all cases; group: cases that share commands; run: tries a group in a folder."""

    name: str
    share: float
    group: int
    run: "Callable[[Path, list[int], Cases], Iterator[Bug]]"


@dataclass(frozen=True)
class Cases:
    """Random numbers of each case, which do not depend on the others."""

    seed: int
    kind: str

    def rng(self, case: int) -> Rng:
        """Return the generator of one case."""
        return np.random.default_rng([self.seed, *self.kind.encode(), case])

    def bug(self, case: int, ended: Ended, what: str = "") -> Bug:
        """Make the bug of a command."""
        return Bug(self.kind, case, what or ended.bug, ended.arguments)
