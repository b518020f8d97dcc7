"""The `muse` command: finds the commands, and turns every way of ending into words and an exit code."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from types import FrameType
from typing import Annotated

import typer
from typer.main import get_command

from muse_cli.output import out
from muse_cli.plugins import PluginGroup
from muse_core.errors import ExitCode, explained
from muse_core.interrupts import Terminated
from muse_core.offline import tell_libraries

app = typer.Typer(
    name="muse",
    cls=PluginGroup,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True, epilog="`muse demo` shows all of it on made data, in minutes, on a CPU.")
def muse(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show versions and the device, and stop.")] = False,
) -> None:
    """Train and measure unified visual tokenizers."""
    if version:
        from muse_cli.commands.doctor import show_version

        show_version()
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(ExitCode.USAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line, that of the process unless given, and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    completing = "_MUSE_COMPLETE" in os.environ
    out.reset(json="--json" in arguments)
    if "--no-color" in arguments:
        os.environ["NO_COLOR"] = "1"
    tell_libraries()
    if "MUSE_LOG_LEVEL" in os.environ:
        import logging

        logging.basicConfig(level=os.environ["MUSE_LOG_LEVEL"].upper())
    stdout = sys.stdout
    try:
        # With --json whatever a library prints goes to stderr: stdout carries one document.
        with _ending_on_sigterm(), redirect_stdout(sys.stderr if out.json else stdout):
            code = _run(arguments)
    except Exception:
        if completing:  # the shell would print what we say into the line being typed
            return ExitCode.BUG
        raise
    try:
        out.close(stdout)
    except BrokenPipeError:  # whoever read our result had enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
    return code


def _run(arguments: Sequence[str]) -> int:
    try:
        returned = get_command(app).main(arguments, prog_name="muse", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        if "_MUSE_COMPLETE" in os.environ:
            raise
        if os.environ.get("MUSE_DEBUG") == "1":
            traceback.print_exc()
        what, hint, code = describe(error)
        out.fail(what, hint, code)
        return code
    except SystemExit as ended:  # by a library or a plugin, or by completion when it is done
        returned = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        out.document = {**(out.document or {}), "exit_code": returned}
    return returned if isinstance(returned, int) else int(ExitCode.DONE)


def describe(error: BaseException) -> tuple[str, str | None, int]:
    """Say what happened, what to type next, and how the command ends."""
    if isinstance(error, typer.TyperException):
        path = getattr(getattr(error, "ctx", None), "command_path", "muse")
        return error.format_message(), f"{path} --help", int(error.exit_code)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "interrupted", None, getattr(error, "exit_code", ExitCode.INTERRUPTED)
    known = explained(error)
    if known is not None:
        return known.what, known.hint, known.exit_code
    what = f"this is a bug, in muse or in a plugin: {type(error).__name__}: {error}"
    return what, "MUSE_DEBUG=1 shows where", ExitCode.BUG


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
