"""A command run in this process, and what may not happen in it whatever it is given."""

import io
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from types import FrameType
from typing import Any, TextIO

from muse_cli.main import main
from muse_core.errors import ExitCode

GUARD_S = 20.0
"""Seconds of work that one command may take; it counts while this process computes, whoever else does."""


class HangError(BaseException):
    """A command took longer than its guard."""


@dataclass(frozen=True)
class Ended:
    """How a command line ended. bug: why that is not allowed; nothing when it is."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str
    bug: str = ""

    @property
    def json(self) -> dict[str, Any]:
        """The document of --json."""
        document: dict[str, Any] = json.loads(self.out)
        return document


def muse(*arguments: str, stdout: TextIO | None = None) -> Ended:
    """Run a command line; a traceback, a hang and exit code 1 are bugs, and so is an error without a sentence."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with guarded(), redirect_stdout(stdout or out), redirect_stderr(err):
            code = main(arguments)
    except HangError:
        return Ended(arguments, -1, out.getvalue(), err.getvalue(), f"hangs for more than {GUARD_S:.0f} s")
    except BaseException as error:
        return Ended(arguments, -1, out.getvalue(), err.getvalue(), f"{type(error).__name__}: {error}")
    return Ended(arguments, code, out.getvalue(), err.getvalue(), _bug(code, err.getvalue()))


def _bug(code: int, err: str) -> str:
    if code == ExitCode.BUG or "Traceback" in err:
        return next((line for line in err.splitlines() if line.startswith("error: ")), "a traceback")[:300]
    if code and "error: " not in err:
        return f"exit code {code} without a word"
    return ""


@contextmanager
def guarded() -> Iterator[None]:
    """End a block that computes for too long."""

    def end(number: int, frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, GUARD_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
