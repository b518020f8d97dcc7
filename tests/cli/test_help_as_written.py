"""Rendered help equals its source: no markup is read into it, no emoji, and nothing is lost at any width."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from muse_cli.app import app
from muse_cli.commands.probe import probe_function
from muse_cli.plugins import command_of
from muse_cli.spec import CommandSpec
from muse_core.registry import discover
from tests.cli.conftest import Muse

WIDTHS = (60, 80, 120, 200)
FRAME = re.compile(r"[│╭╮╰╯─]")


def sources() -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Every command line that has a help, and the texts that its author wrote."""
    yield (), [app.registered_callback.callback.__doc__, app.registered_callback.epilog]  # type: ignore[union-attr, list-item]
    for name, plugin in discover("muse.commands").items():
        yield from texts((name,), command_of(plugin.code()), plugin.declaration.examples)
    for name, plugin in discover("muse.probes").items():
        yield from texts(("probe", name), command_of(probe_function(plugin)), ())


def texts(
    line: tuple[str, ...], command: Any, examples: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    options = [option.help for option in command.params if getattr(option, "help", None)]
    yield line, [*filter(None, [command.help]), *examples, *options]
    for name, inner in getattr(command, "commands", {}).items():
        if line != ("probe",):
            yield from texts((*line, name), inner, ())


ALL = dict(sources())


def words_of(rendered: str) -> list[str]:
    return FRAME.sub(" ", rendered).split()


def is_within(text: list[str], words: list[str]) -> bool:
    """Whether the words of a text stand in this order; those of a table's other columns may stand between."""
    rest = iter(words)
    return all(word in rest for word in text)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("line", ALL, ids=" ".join)
def test_help_is_shown_as_it_is_written(
    muse: Muse, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...], width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    ended = muse(*line, "--help")
    assert ended.code == 0
    words = words_of(ended.out)
    lost = [text for text in ALL[line] if not is_within(text.split(), words)]
    assert lost == []
    assert [letter for letter in ended.out if ord(letter) >= 0x1F000] == []


def test_a_strangers_help_is_shown_as_it_is_written(install: Any, muse: Muse) -> None:
    def greet(name: str = typer.Option("x", help="A :dog: [bold]name[/bold], [x>=1] at :10:30:.")) -> None:
        """Greet :train:96 [with] [/markup] twice."""

    spec = CommandSpec("Greet :cat:.", "greeting:greet", examples=("muse greet demo:train:96 :smile:",))
    install("muse.commands", "greet", "greeting:SPEC", SPEC=spec, greet=greet)
    said = muse("greet", "--help").out
    for text in (
        "Greet :train:96 [with] [/markup] twice.",
        "A :dog: [bold]name[/bold], [x>=1] at :10:30:.",
        "muse greet demo:train:96 :smile:",
    ):
        assert text in said
    assert "Greet :cat:." in muse("--help").out


def test_every_command_is_looked_at() -> None:
    assert {line[0] for line in ALL if line} == set(discover("muse.commands"))
    assert ("config", "keys") in ALL
    assert ("probe", "linear") in ALL
