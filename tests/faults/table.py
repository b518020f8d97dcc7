"""Trials of all faults, and the table of what they showed."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tests.faults.scene import Scene
from tests.faults.trial import Fault, Shown

MISSES = 3
"""So many times as often as trials are wanted, a fault may come too late to count."""

HEADERS = ("fault", "trials", "what the user sees", "exit code", "what is lost", "as promised")


@dataclass(frozen=True)
class Row:
    """What the trials of one fault showed."""

    fault: Fault
    shown: tuple[Shown, ...]

    @property
    def problems(self) -> list[str]:
        """What should not have been."""
        return [one.problem for one in self.shown if one.problem]

    def cells(self) -> list[str]:
        """Lay out one line of the table."""
        steps = max((one.steps for one in self.shown), default=0)
        lost = most({one.lost + (f" (at most {steps} here)" if one.steps else "") for one in self.shown})
        kept = len(self.shown) - len(self.problems)
        lines = most(Counter(f"`{one.line}`" for one in self.shown))
        codes = ", ".join(map(str, sorted({one.code for one in self.shown})))
        return [self.fault.name, str(len(self.shown)), lines, codes, lost, f"{kept} of {len(self.shown)}"]


def most(found: Counter[str] | set[str]) -> str:
    """The most frequent texts, and how many more there are."""
    texts = [text for text, _ in found.most_common()] if isinstance(found, Counter) else sorted(found, reverse=True)
    more = f"; and {len(texts) - 3} more" if len(texts) > 3 else ""
    return "; ".join(text.replace("|", "\\|") for text in texts[:3]) + more


def tried(fault: Fault, scene: Scene, trials: int, seed: int) -> Row:
    """Try a fault until so many trials counted, or its every way was tried."""
    return Row(fault, tuple(_counting(fault, scene, trials, seed)))


def _counting(fault: Fault, scene: Scene, trials: int, seed: int) -> Iterator[Shown]:
    wanted, ways = fault.trials(trials)
    counted = 0
    for number in range(wanted * (1 + MISSES)):
        with scene.cleared():
            shown = ways[counted % len(ways)](scene, np.random.default_rng([seed, number]))
        if shown is not None:
            counted += 1
            yield shown
        if counted == wanted:
            return


def markdown(rows: Sequence[Row]) -> str:
    """Lay out the whole table."""
    lines = [HEADERS, ["---"] * len(HEADERS), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
