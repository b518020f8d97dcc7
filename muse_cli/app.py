"""The command line itself: what is typed after `muse`, before any command has its say."""

from typing import Annotated

import typer

from muse_cli.output import out
from muse_cli.plugins import PluginGroup
from muse_core.errors import ExitCode

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
        out.result({}, ctx.get_help())
        raise typer.Exit(ExitCode.USAGE)
