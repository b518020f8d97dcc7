"""How long work tells what it is doing, without knowing who listens."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Tracker(Protocol):
    """One piece of work with a known length."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count `amount` further units as done; `note` is shown beside the bar."""


class Progress(Protocol):
    """Where core code says things; the command line draws them, a library user may ignore them."""

    def say(self, text: str) -> None:
        """Tell one line."""

    def warn(self, text: str) -> None:
        """Tell one line that the user should not miss."""

    def track(self, what: str, total: int) -> AbstractContextManager[Tracker]:
        """Begin a piece of work of `total` units."""


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
