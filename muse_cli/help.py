"""Help as it was written: what rich would read as markup or as the name of an emoji stays text."""

import re
from typing import Any

from rich.markup import escape

_EMOJI = re.compile(r":(?=\S+?:)")
"""A colon that may begin a name such as :train:, which rich turns into a picture."""

_NOTHING = "[none][/none]"
"""Ends the name before it is read, and is not seen."""


class AsWritten(str):
    """A help text that rich shows letter by letter."""

    __slots__ = ()


def as_written(text: str | None) -> str | None:
    """Return the help text that is shown as `text` is written."""
    if text is None or isinstance(text, AsWritten):
        return text
    return AsWritten(_EMOJI.sub(f":{_NOTHING}", escape(text)))


def examples(lines: list[str]) -> str:
    """Return the end of a help text: command lines under a heading."""
    return AsWritten("\n".join(["[bold]Examples[/bold]", *(str(as_written(line)) for line in lines)]))


def show_as_written(command: Any) -> None:
    """Let all texts of a command, of its options and of the commands inside it be shown as they are written."""
    for inner in getattr(command, "commands", {}).values():
        show_as_written(inner)
    for name in ("help", "short_help", "epilog"):
        setattr(command, name, as_written(getattr(command, name, None)))
    for option in command.params:
        if hasattr(option, "help"):
            option.help = as_written(option.help)
