"""Ctrl-C and SIGTERM end a measurement within two seconds, wherever it is.

Python acts on a signal between two of its own instructions. One kernel on a large image takes a minute, and a signal
waits for it. A thread therefore watches: where the main thread has not left its work soon after a signal, nothing of
that work is worth waiting for (files appear complete or not at all), and the process ends.
"""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from muse_cli import terminal
from muse_cli.output import out
from muse_core.errors import ExitCode
from muse_core.files import remove_scratch

PATIENCE_S = 1.0
"""Between a signal and the end of the work it was meant for; the rest of two seconds is for telling."""

TELLING_S = 0.5
"""For telling, where nobody may read what is told."""

SIGNALS = {signal.SIGINT: ("interrupted", ExitCode.INTERRUPTED), signal.SIGTERM: ("terminated", ExitCode.TERMINATED)}


@contextmanager
def ending_soon() -> Iterator[None]:
    """Do work that a signal ends soon, if this process is a command line of its own."""
    if not out.is_program or threading.current_thread() is not threading.main_thread():
        yield
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    left = threading.Event()
    threading.Thread(target=_watch, args=(receiver, left), daemon=True).start()
    try:
        yield
    finally:
        left.set()
        with suppress(ValueError):
            signal.set_wakeup_fd(before)
        sender.close()


def _watch(receiver: socket.socket, left: threading.Event) -> None:
    """Wait for signals, which Python's handler in C hands on at once; an end of them is the end of the work."""
    with receiver:
        while numbers := receiver.recv(64):
            for number in numbers:
                if number in SIGNALS and not left.wait(PATIENCE_S):
                    abandon(number)


def abandon(number: int) -> None:
    """End this process in the middle of its work, with the words and the exit code of a signal."""
    what, code = SIGNALS[signal.Signals(number)]
    telling = threading.Thread(target=_tell, args=(what, int(code)), daemon=True)
    telling.start()
    telling.join(TELLING_S)
    remove_scratch()
    os._exit(int(code))


def _tell(what: str, code: int) -> None:
    if terminal.is_live():
        out.tell("\r\x1b[K\x1b[?25h")  # what a bar that is being drawn has hidden
    out.fail(what, None, code)
    out.finish(code)


def _forget_in_child() -> None:
    """Keep signals of processes that are forked off from those of this one."""
    with suppress(ValueError):
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_forget_in_child)
