"""Stopping between two steps: Ctrl-C and SIGTERM are remembered, and obeyed where the state is whole."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from muse_core.runs import Terminated


class StopRequest:
    """What was asked for, if anything."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def note(self, number: int, frame: FrameType | None) -> None:
        """Remember a signal; a second Ctrl-C does not wait."""
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def error(self) -> KeyboardInterrupt:
        """Return the exception that ends the command with the right code."""
        return Terminated() if self.signal == signal.SIGTERM else KeyboardInterrupt()


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Listen for Ctrl-C and SIGTERM; only a main thread can."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, request.note) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if request.signal is not None:
        # Asked for while the last step was being saved: this run is whole, but what would follow it must not begin.
        raise request.error()
