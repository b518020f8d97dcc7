"""How long work tells what it is doing, without knowing who listens."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

SETTLING_S = 0.5
"""What is counted as done this early was done before: a resumed run begins with its old steps."""

TELLING_S, TELLING_UNITS = 5.0, 3
"""After so long, and so many units, a time for the whole work is worth telling."""


class Tracker(Protocol):
    """One piece of work, of a length that is known or not."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count `amount` further units as done; `note` is shown beside them, its parts two spaces apart."""


class Progress(Protocol):
    """Where core code says things; the command line draws them, a library user may ignore them."""

    def say(self, text: str) -> None:
        """Tell one line."""

    def warn(self, text: str) -> None:
        """Tell one line that the user should not miss."""

    def track(self, what: str, total: int, unit: str = "") -> AbstractContextManager[Tracker]:
        """Begin a piece of work of `total` units, such as steps; 0 when nobody knows before it is done."""


def time_text(seconds: float) -> str:
    """Write a duration for people, as in 3 h 12 m."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} m"
    return f"{minutes} m {rest} s" if minutes else f"{rest} s"


def count_text(done: float, total: float | None) -> str:
    """Write how much is done, of how much where that is known: a total that is passed was no total."""
    return f"{done:.0f}/{total:.0f}" if total and done <= total else f"{done:.0f}"


class Timing:
    """How far a piece of work has come, how fast it goes and how long it still takes, in numbers and in words."""

    def __init__(self, what: str, total: int, unit: str = "") -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done, self.new, self._before = 0, 0, 0
        self._started, self._latest = time.monotonic(), 0.0

    def advance(self, amount: int) -> None:
        """Count further units."""
        self.done += amount
        self._latest = self.elapsed
        if self._latest < SETTLING_S:
            self._before = self.done
        self.new = self.done - self._before

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._started

    @property
    def rate(self) -> float:
        """Units a second, so far; 0 before it is known."""
        return self.new / self._latest if self._latest and self.new else 0.0

    @property
    def left(self) -> float | None:
        """Seconds that it still takes; None before that is known, or where no total is."""
        return (self.total - self.done) / self.rate if self.rate and self.done <= self.total else None

    def facts(self) -> list[str]:
        """Say count, rate and time left."""
        rate = f"{self.rate:.3g} {self.unit}/s".replace(" /", "/") if self.rate else ""
        known = self.total and self.done <= self.total
        left = "time left unknown" if self.left is None else f"{time_text(self.left)} left"
        return list(filter(None, [count_text(self.done, self.total), rate, left if known else ""]))

    def line(self, note: str = "") -> str:
        """Say all of it in one line."""
        facts = self.facts()
        return "  ".join(filter(None, [f"{self.what} {facts[0]}", *facts[1:], note]))

    def ended(self) -> str:
        """Say how long it took."""
        return f"{self.what} {count_text(self.done, self.total)} in {time_text(self.elapsed)}"


class _NoTracker:
    def advance(self, amount: int = 1, note: str = "") -> None: ...


class Silent:
    """Progress that nobody listens to."""

    def say(self, text: str) -> None:
        """Drop a line."""

    def warn(self, text: str) -> None:
        """Drop a warning."""

    @contextmanager
    def track(self, what: str, total: int, unit: str = "") -> Iterator[Tracker]:
        """Begin a piece of work without telling."""
        yield _NoTracker()


class _LoggedTracker:
    """Logs a line for each note, and tells once how long the whole work will take, by its first units."""

    def __init__(self, inner: Tracker, timing: Timing, log: Callable[[str], None], say: Callable[[str], None]) -> None:
        self._inner, self._timing, self._log, self._say = inner, timing, log, say
        self._is_told = False

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._inner.advance(amount, note)
        self._timing.advance(amount)
        if note:
            self._log(self._timing.line(note))
        self._tell()

    def _tell(self) -> None:
        timing, left = self._timing, self._timing.left
        if self._is_told or left is None or timing.new < TELLING_UNITS or timing.elapsed < TELLING_S:
            return
        self._is_told = True
        if timing.done < timing.total:
            of = f"{timing.total - timing.done} {timing.unit}".strip()
            self._say(f"expects  {time_text(left)} for the other {of}, measured over {timing.new}")


@dataclass(frozen=True)
class Logged:
    """Progress of which every line is also kept, by `log`; what is tracked with its notes, where `notes`."""

    inner: Progress
    log: Callable[[str], None]
    notes: bool = True

    def say(self, text: str) -> None:
        """Tell a line and log it."""
        self.log(text)
        self.inner.say(text)

    def warn(self, text: str) -> None:
        """Tell a warning and log it."""
        self.log(f"warning: {text}")
        self.inner.warn(text)

    @contextmanager
    def track(self, what: str, total: int, unit: str = "") -> Iterator[Tracker]:
        """Pass a piece of work on, and log its notes."""
        timing = Timing(what, total, unit)
        with self.inner.track(what, total, unit) as inner:
            yield _LoggedTracker(inner, timing, self.log, self.say) if self.notes else inner
        if self.notes:
            self.log(timing.ended())


_TOLD: WeakKeyDictionary[Progress, set[str]] = WeakKeyDictionary()


def warn_once(progress: Progress, text: str) -> None:
    """Warn of something that several passes over the same data find, unless this listener knows it already."""
    told = _TOLD.setdefault(progress, set())
    if text not in told:
        told.add(text)
        progress.warn(text)
