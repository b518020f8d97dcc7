"""The `muse` command: every way of ending becomes words and an exit code.

Typer and the commands are imported inside: an interrupt, or a variable that only they read, then ends as all else does.
"""

import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from types import FrameType
from typing import Any, TextIO, cast

from muse_cli.output import out
from muse_cli.pulse import beating
from muse_cli.terminal import Stream, prepared
from muse_core.errors import ExitCode, MuseError, MuseWarning, explained
from muse_core.interrupts import Terminated, ending_of
from muse_core.offline import tell_libraries
from muse_core.suggestions import did_you_mean
from muse_core.switches import is_on

DEBUG, LOG_LEVEL, COMPLETION = "MUSE_DEBUG", "MUSE_LOG_LEVEL", "_MUSE_COMPLETE"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line, that of the process unless given, and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    out.reset(json="--json" in arguments, typed=arguments)
    with prepared(plain="--no-color" in arguments) as stdout:
        out.stdout = cast(TextIO, stdout)
        # With --json whatever a library prints goes to stderr: stdout carries one document.
        with (
            beating(out) if out.is_program else nullcontext(),
            _ending_on_sigterm(),
            redirect_stdout(sys.stderr if out.json else cast(TextIO, stdout)),
        ):
            code = _run(arguments)
        try:
            return _closed(stdout, code)
        except KeyboardInterrupt as error:  # once more, while the first one was told
            return int(getattr(error, "exit_code", ExitCode.INTERRUPTED))


def _run(arguments: Sequence[str]) -> int:
    try:
        with _warnings_told():
            settle_variables()
            if not {"--help", "-h", "--version"} & set(arguments):
                os.getcwd()  # in a folder that is gone, oneMKL ends the process while torch is imported
            from typer.main import get_command

            from muse_cli.app import app

            returned = get_command(app).main(arguments, prog_name="muse", standalone_mode=False)
    except SystemExit as ended:  # by a library or a plugin, or by completion when it is done
        returned = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException as error:
        if COMPLETION in os.environ:  # the shell would print what we say into the line being typed
            return int(ExitCode.BUG)
        if is_debugging():
            traceback.print_exc()
        what, hint, code = describe(error)
        out.fail(what, hint, code)
        return code
    return returned if isinstance(returned, int) else int(ExitCode.DONE)


def settle_variables() -> None:
    """Do what the variables ask that hold for every command.

    Raises:
        MuseError: one of them is a switch, and neither on nor off.
    """
    is_on(DEBUG)
    tell_libraries()
    asked = os.environ.get(LOG_LEVEL, "").strip()
    if asked:
        import logging

        level = int(asked) if asked.isdecimal() else logging.getLevelNamesMapping().get(asked.upper())
        if level is None:
            out.warn(f"{LOG_LEVEL}={asked}: unknown level; choose debug, info, warning, error, critical or a number")
        else:
            logging.basicConfig(level=level)


def is_debugging() -> bool:
    """Return whether tracebacks are asked for."""
    try:
        return is_on(DEBUG)
    except MuseError:
        return False


def describe(error: BaseException) -> tuple[str, str | None, int]:
    """Return what happened, what to type next, and how the command ends."""
    import typer

    if isinstance(error, typer.TyperException):
        path = getattr(getattr(error, "ctx", None), "command_path", "muse")
        return usage_words(error.format_message()), f"{path} --help", int(error.exit_code)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return ending_of(error), getattr(error, "hint", None), int(getattr(error, "exit_code", ExitCode.INTERRUPTED))
    known = explained(error, out.memory_hint)
    if known is not None:
        return known.what, known.hint, known.exit_code
    from muse_core.plugin_errors import culprit

    found = culprit(error)
    if found is not None:
        plugin, line = found
        what = f"{plugin.package} {plugin.version} failed in {line}: {type(error).__name__}: {error}"
        return what, f"{DEBUG}=1 shows the traceback, for the makers of {plugin.package}", ExitCode.PLUGIN
    return f"this is a bug in muse: {type(error).__name__}: {error}", f"{DEBUG}=1 shows where", ExitCode.BUG


def usage_words(message: str) -> str:
    """Return what is wrong with a command line without the words of the library that found it, and what was meant."""
    what = message.replace("Value error, ", "")
    typed, refused, known = what.partition(" is not one of ")
    meant = did_you_mean(typed.rpartition(" ")[2].strip("'"), re.findall(r"'([^']*)'", known)) if refused else ""
    return f"{what} {meant}" if meant else what


def _closed(stdout: Stream, code: int) -> int:
    """Print what is left, and return the exit code: another one where a result of work well done did not arrive."""
    out.close(cast(TextIO, stdout), code)
    if stdout.error is None:
        return code
    if isinstance(stdout.error, BrokenPipeError):  # whoever read our result had enough of it
        return code or int(ExitCode.UNREAD)
    known = explained(stdout.error) or MuseError(f"the result could not be printed: {stdout.error}")
    out.fail(known.what, "the command itself went well" if not code else None, known.exit_code)
    return code or known.exit_code


@contextmanager
def _warnings_told() -> Iterator[None]:
    """Tell warnings of our own as every command tells them, each once."""
    told: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", MuseWarning)
        shown = warnings.showwarning

        def tell(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if not issubclass(category, MuseWarning):
                shown(message, category, *place, **more)
            elif str(message) not in told:
                told.add(str(message))
                out.warn(str(message))

        warnings.showwarning = tell
        yield


def _on_sigterm(signum: int, frame: FrameType | None) -> None:
    raise Terminated


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
