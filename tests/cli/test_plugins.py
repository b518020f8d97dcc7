"""Strangers' commands and probes: listed without being imported, and harmless when they are broken."""

from collections.abc import Callable
from pathlib import Path

import pytest

from muse_cli.spec import CommandSpec
from muse_core import registry
from muse_core.errors import ExitCode, MuseError
from muse_core.registry import discover, find
from tests.cli.conftest import Muse

Install = Callable[..., None]

GOOD = """
from muse_cli.spec import CommandSpec
HELLO = CommandSpec("Say hello.", "good:hello", examples=("muse hello",))
def hello(name: str = "you") -> None:
    "Say hello."
    from muse_cli.output import out
    out.result({"hello": name}, f"hello {name}")
"""
ENTRY = "[muse.commands]\n{name} = {module}:{attribute}\n"


@pytest.fixture
def site(distribution: Callable[..., Path]) -> Path:
    """One good plugin, and three that are broken in the ways plugins break."""
    distribution(
        "raises", "raise RuntimeError('no luck [here]')", ENTRY.format(name="raiser", module="raises", attribute="A")
    )
    distribution("exits", "import sys; sys.exit(3)", ENTRY.format(name="exiter", module="exits", attribute="A"))
    old = "from muse_cli.spec import CommandSpec\nA = CommandSpec('Old.', 'old:run', api=99)"
    distribution("old", old, ENTRY.format(name="older", module="old", attribute="A"))
    return distribution("good", GOOD, ENTRY.format(name="hello", module="good", attribute="HELLO"))


@pytest.mark.parametrize("file", ["entry_points.txt", "METADATA"])
def test_a_package_whose_metadata_cannot_be_read_takes_down_nothing(
    muse: Muse, distribution: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    site = distribution("odd", "", "[muse.probes]\nodd = odd:PROBE\n")
    path = site / "odd-2.5.dist-info" / file
    path.write_bytes(path.read_bytes() + b"x\xff = y\n")
    monkeypatch.syspath_prepend(site)
    registry.forget()
    assert "linear" in muse("ls", "probes").out
    assert muse("plugins", "--json").json["unreadable"] == [str(site / "odd-2.5.dist-info")]


def test_three_broken_plugins_are_three_lines_of_a_help_that_works(shell: Muse, site: Path) -> None:
    ended = shell("--help", plugins=site)
    assert ended.code == 0
    assert ended.err == ""
    broken = ended.out.partition("Broken plugins")[2]
    assert "raises 2.5: RuntimeError: no luck [here]" in broken
    assert "exits 2.5: SystemExit: 3" in broken
    assert "old 2.5: it was written for plugin interface 99, this muse has 1" in broken
    assert "Say hello." in ended.out.partition("Plugins")[2]


@pytest.mark.parametrize("name", ["raiser", "exiter", "older"])
def test_a_broken_plugin_ends_only_its_own_command(shell: Muse, site: Path, name: str) -> None:
    ended = shell(name, plugins=site)
    assert ended.code == ExitCode.PLUGIN
    assert f"hint: muse plugins check {name}" in ended.err
    assert "Traceback" not in ended.err


def test_a_strangers_command_runs_with_the_common_options(shell: Muse, site: Path) -> None:
    assert shell("hello", plugins=site).out == "hello you\n"
    assert shell("hello", "--name", "me", "--json", plugins=site).json == {"hello": "me"}


def test_check_shows_the_whole_traceback_of_a_broken_plugin(shell: Muse, site: Path) -> None:
    ended = shell("plugins", "check", "raiser", plugins=site)
    assert ended.code == ExitCode.PROBLEMS
    assert "Traceback (most recent call last)" in ended.out
    assert "no luck [here]" in ended.out
    assert shell("plugins", "check", "hello", plugins=site).code == 0


def test_strangers_can_be_left_out_or_admitted_by_name(shell: Muse, site: Path) -> None:
    def packages(**environment: str) -> set[str]:
        return {plugin["package"] for plugin in shell("plugins", "--json", plugins=site, **environment).json["plugins"]}

    assert {"muse-tokenizer", "good", "raises", "exits", "old"} <= packages()
    assert packages(MUSE_PLUGINS="off") == {"muse-tokenizer"}
    assert packages(MUSE_PLUGINS="good") == {"muse-tokenizer", "good"}
    assert packages(MUSE_PLUGINS="hello,older") == {"muse-tokenizer", "good", "old"}


def test_our_own_command_keeps_its_name_and_the_clash_is_reported(install: Install, muse: Muse) -> None:
    install("muse.commands", "ls", "mine:SPEC", SPEC=CommandSpec("Mine.", "mine:run"))
    assert discover("muse.commands")["ls"].own
    assert "command ls: stranger (mine:SPEC) is not used, muse-tokenizer has the name" in muse("plugins").out


def test_what_is_not_a_declaration_is_broken(install: Install) -> None:
    install("muse.probes", "odd", "odd:THING", THING="text")
    assert discover("muse.probes")["odd"].error == "odd:THING is str, not a declaration with help, target and api"


def test_code_that_is_not_there_is_told_when_the_command_runs(install: Install, muse: Muse) -> None:
    install("muse.commands", "gone", "gone:SPEC", SPEC=CommandSpec("Gone.", "gone:nothing"))
    assert "Gone." in muse("--help").out
    ended = muse("gone")
    assert ended.code == ExitCode.PLUGIN
    assert "the command 'gone' of stranger 2.5 could not be loaded: AttributeError" in ended.err


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(MuseError, match="there is no probe 'lienar'") as caught:
        find("muse.probes", "lienar")
    assert "linear" in str(caught.value.hint)


def test_a_typed_name_that_is_nearly_a_plugins_suggests_it(install: Install, muse: Muse) -> None:
    install("muse.commands", "greet", "greeting:SPEC", SPEC=CommandSpec("Greet.", "greeting:run"))
    assert "Did you mean 'greet'" in muse("gret").err


def test_discovery_happens_once_per_process(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    discover("muse.metrics")
    monkeypatch.setattr(registry, "entry_points", lambda **_: pytest.fail("looked twice"))
    assert "psnr" in discover("muse.metrics")
