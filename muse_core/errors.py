"""The one error a user sees: what happened, what to type, and how the command ends."""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ends; the meaning of each number is part of the interface."""

    DONE = 0
    BUG = 1
    USAGE = 2
    SETTINGS = 3
    FILE = 4
    PLUGIN = 5
    MACHINE = 6
    STOPPED = 7
    PROBLEMS = 8
    INTERRUPTED = 130
    TERMINATED = 143


class MuseError(Exception):
    """Something a user can mend.

    Args:
        what: one or more sentences: the value seen and where it came from.
        hint: what to type next.
        exit_code: how the command ends; files and data unless said otherwise.
    """

    def __init__(self, what: str, hint: str | None = None, exit_code: int = ExitCode.FILE) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.exit_code = int(exit_code)
