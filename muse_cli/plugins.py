"""Entry points become commands that are listed from their declarations and imported when they run."""

from collections.abc import Iterable
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from muse_cli.help import as_written, examples as example_lines, show_as_written
from muse_cli.options import add_common
from muse_cli.spec import PANELS
from muse_core.errors import ExitCode, MuseError
from muse_core.interrupts import ending_of
from muse_core.registry import Plugin, discover

BROKEN_PANEL = "Broken plugins"


class PluginGroup(TyperGroup):
    """A group whose commands are the plugins of one entry-point group; a broken one is a line in its help."""

    group: ClassVar[str] = "muse.commands"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plugins = {plugin.name: plugin for plugin in sorted(discover(self.group).values(), key=_listing)}
        for name, plugin in self.plugins.items():
            self.add_command(stub(plugin), name)
        show_as_written(self)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Import the command that is about to run; the others stay stubs."""
        name, listed, rest = super().resolve_command(ctx, args)
        plugin = self.plugins.get(name or "")
        return name, self.build(plugin) if plugin else listed, rest

    def invoke(self, ctx: Any) -> Any:
        """Run a command; being told to stop ends it with 130 or 143, whoever caught the signal."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            code = getattr(error, "exit_code", ExitCode.INTERRUPTED)
            raise MuseError(ending_of(error), hint=getattr(error, "hint", None), exit_code=code) from error

    def build(self, plugin: Plugin) -> TyperCommand | TyperGroup:
        """Turn a plugin into the command it announces.

        Raises:
            MuseError: with exit code 5, when its code cannot be imported.
        """
        command: TyperCommand | TyperGroup = finish(command_of(plugin.code()), plugin, examples_of(plugin))
        return command


def examples_of(plugin: Plugin) -> tuple[str, ...]:
    """Return the command lines that a declaration gives as examples, if it does."""
    return tuple(getattr(plugin.declaration, "examples", ()))


def stub(plugin: Plugin) -> TyperCommand:
    """Make a stand-in that help, completion and "did you mean" can list."""
    if plugin.error is not None:
        return TyperCommand(plugin.name, help=as_written(_broken_line(plugin)), rich_help_panel=BROKEN_PANEL)
    return TyperCommand(plugin.name, help=as_written(plugin.declaration.help), rich_help_panel=panel_of(plugin))


def panel_of(plugin: Plugin) -> str:
    """Return the heading a plugin is listed under."""
    return str(getattr(plugin.declaration, "panel", "Built in" if plugin.own else "Plugins"))


def command_of(target: Any) -> Any:
    """Make a command of a function or of a Typer app."""
    if isinstance(target, typer.Typer):
        return get_command(target)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(target)
    return get_command(app)


def finish(command: Any, plugin: Plugin, examples: Iterable[str]) -> Any:
    """Give a command its name, its examples, and the options that every command has."""
    command.name = plugin.name
    command.help = command.help or plugin.declaration.help
    command.epilog = epilog(examples) or command.epilog
    add_common(command)
    show_as_written(command)
    return command


def epilog(examples: Iterable[str]) -> str | None:
    """Lay out the examples that end a help text, one per line."""
    lines = list(examples)
    return example_lines(lines) if lines else None


def _broken_line(plugin: Plugin) -> str:
    return f"{plugin.package} {plugin.version}: {plugin.error}"


def _listing(plugin: Plugin) -> tuple[bool, int, str]:
    panel = None if plugin.error else panel_of(plugin)
    known = PANELS.index(panel) if panel in PANELS else len(PANELS)
    return (plugin.error is not None, known, plugin.name)
