"""How long work tells what it is doing, without knowing who listens."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary


class Tracker(Protocol):
    """One piece of work, of a length that is known or not."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count `amount` further units as done; `note` is shown beside the bar."""


class Progress(Protocol):
    """Where core code says things; the command line draws them, a library user may ignore them."""

    def say(self, text: str) -> None:
        """Tell one line."""

    def warn(self, text: str) -> None:
        """Tell one line that the user should not miss."""

    def track(self, what: str, total: int) -> AbstractContextManager[Tracker]:
        """Begin a piece of work of `total` units; 0 when nobody knows before it is done."""


class _NoTracker:
    def advance(self, amount: int = 1, note: str = "") -> None: ...


class Silent:
    """Progress that nobody listens to."""

    def say(self, text: str) -> None:
        """Drop a line."""

    def warn(self, text: str) -> None:
        """Drop a warning."""

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Tracker]:
        """Begin a piece of work without telling."""
        yield _NoTracker()


@dataclass(frozen=True)
class Logged:
    """Progress of which every line is also kept, by `log`."""

    inner: Progress
    log: Callable[[str], None]

    def say(self, text: str) -> None:
        """Tell a line and log it."""
        self.log(text)
        self.inner.say(text)

    def warn(self, text: str) -> None:
        """Tell a warning and log it."""
        self.log(f"warning: {text}")
        self.inner.warn(text)

    def track(self, what: str, total: int) -> AbstractContextManager[Tracker]:
        """Pass a piece of work on; its ticks are not logged."""
        return self.inner.track(what, total)


_TOLD: WeakKeyDictionary[Progress, set[str]] = WeakKeyDictionary()


def warn_once(progress: Progress, text: str) -> None:
    """Warn of something that several passes over the same data find, unless this listener knows it already."""
    told = _TOLD.setdefault(progress, set())
    if text not in told:
        told.add(text)
        progress.warn(text)
