"""No command is silent for longer than ten seconds, whatever it does: it imports, loads, counts, hashes or computes.

A thread looks twice a second when something was last told. After too long it says what is being done: the piece of
work that is tracked, with what is known of it, and else the command.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from muse_core.progress import time_text

if TYPE_CHECKING:
    from muse_cli.output import Output

SILENT_S, LOOK_S = 9.0, 0.5
"""With the time between two looks, ten seconds are never passed."""


class Pulse:
    """When something was last told, and what is being done."""

    def __init__(self) -> None:
        self.heard_at = self.began_at = time.monotonic()
        self._doing: list[tuple[Callable[[], str], float]] = []

    def heard(self) -> None:
        """Note that something was told just now."""
        self.heard_at = time.monotonic()

    @contextmanager
    def doing(self, words: Callable[[], str]) -> Iterator[None]:
        """Say this while the block lasts and nothing else is told; an empty text stands for nothing to say."""
        entry = (words, time.monotonic())
        self._doing.append(entry)
        try:
            yield
        finally:
            self._doing.remove(entry)

    def words(self, otherwise: str) -> str:
        """Return what is being done, and for how long already; "" where that is told elsewhere."""
        words, since = self._doing[-1] if self._doing else ((lambda: otherwise), self.began_at)
        text = words()
        return f"{text}  {time_text(time.monotonic() - since)} so far" if text else ""


def beat(out: "Output") -> None:
    """Look once: say what is being done if nothing was told for too long."""
    if time.monotonic() - out.pulse.heard_at < SILENT_S:
        return
    command = next((word for word in out.typed if not word.startswith("-")), "muse")
    text = out.pulse.words(f"{command}: at work")
    if text:
        out.say(text)
    else:
        out.pulse.heard()


@contextmanager
def beating(out: "Output") -> Iterator[None]:
    """Keep this process from being silent while the block lasts."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(LOOK_S):
            beat(out)

    watcher = threading.Thread(target=watch, daemon=True, name="pulse")
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
