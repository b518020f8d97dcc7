"""The one error a user sees: what happened, what to type, and how the command ends."""

import errno
import os
from enum import IntEnum

_FULL = (errno.ENOSPC, errno.EDQUOT)


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


class BadMemberError(Exception):
    """A file, or a member of a sample, that cannot be used; its text is the reason that is counted."""


def explained(error: BaseException) -> MuseError | None:
    """Say what the machine refused: a package, memory, or a file. None for an error that only a bug explains."""
    if isinstance(error, MuseError):
        return error
    if isinstance(error, ModuleNotFoundError):
        what, hint = f"the package {error.name} is not installed", f"pip install {error.name}"
        return MuseError(what, hint, ExitCode.MACHINE)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        first = (str(error).splitlines() or ["out of memory"])[0]
        hint = "a smaller --batch-size or --size; muse doctor"
        return MuseError(f"not enough memory: {first}", hint, ExitCode.MACHINE)
    return _refused_file(error) if isinstance(error, OSError) else None


def _refused_file(error: OSError) -> MuseError | None:
    if error.filename is not None:
        return MuseError(f"{os.fsdecode(error.filename)}: {error.strerror}")
    if error.errno in _FULL:
        return MuseError("the disk is full")
    return MuseError(f"a file could not be read or written: {error.strerror}") if error.errno else None
