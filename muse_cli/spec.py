"""How a command is announced: as data, so that the help lists it without importing it."""

from dataclasses import dataclass

PANELS = ("Train", "Measure", "Look", "This installation")


@dataclass(frozen=True)
class CommandSpec:
    """A command of entry-point group `muse.commands`.

    Args:
        help: one sentence for the list of commands.
        target: "package.module:name" of a function or a typer.Typer.
        panel: the heading it is listed under.
        examples: command lines that end its help.
        api: version of this interface.
    """

    help: str
    target: str
    panel: str = "Plugins"
    examples: tuple[str, ...] = ()
    api: int = 1
