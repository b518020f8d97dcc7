"""Help is quick, complete, and ends with examples that parse."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from muse_cli import commands
from muse_cli.app import app
from muse_cli.spec import CommandSpec
from muse_core.registry import discover
from tests.cli.conftest import Muse, shell_environment

HEAVY = ("torch", "numpy", "pydantic", "transformers", "diffusers", "matplotlib", "yaml")
COMMANDS = sorted(discover("muse.commands"))


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from muse_cli.main import main; assert main(['--help']) == 0; "
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=shell_environment(), check=True
    )
    assert done.stderr.strip() == "[]"
    assert "Train and measure unified visual tokenizers." in done.stdout


def test_help_takes_less_than_a_second_of_processor_time(tmp_path: Path) -> None:
    code = (
        "import resource, subprocess, sys; subprocess.run([sys.executable, '-m', 'muse_cli', '--help'], check=True, "
        "stdout=subprocess.DEVNULL); used = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(used.ru_utime + used.ru_stime)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=shell_environment(), check=True
    )
    assert float(done.stdout) < 1.0


def test_every_declared_command_is_registered_and_listed(muse: Muse) -> None:
    declared = [spec for spec in vars(commands).values() if isinstance(spec, CommandSpec)]
    registered = [plugin.declaration for plugin in discover("muse.commands").values() if plugin.own]
    assert {spec.target for spec in declared} == {spec.target for spec in registered}
    listed = muse("--help").out
    assert all(spec.help in listed for spec in declared)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself_and_ends_with_examples(muse: Muse, command: str) -> None:
    ended = muse(command, "--help")
    assert ended.code == 0
    assert "--json" in ended.out
    examples = ended.out.partition("Examples")[2].strip().splitlines()
    assert len([line for line in examples if line.strip().startswith("muse ")]) >= 2
    assert muse(command, "-h").out == ended.out


@pytest.mark.parametrize(
    "example", [example for plugin in discover("muse.commands").values() for example in plugin.declaration.examples]
)
def test_each_example_parses(example: str) -> None:
    program, *arguments = shlex.split(example)
    assert program == "muse"
    group, context = get_command(app), None
    while hasattr(group, "resolve_command") and arguments:
        context = group.make_context(program, arguments, parent=context, allow_extra_args=True)
        name, group, arguments = group.resolve_command(context, arguments)
    if not hasattr(group, "resolve_command"):
        group.make_context(name, arguments, parent=context)


def test_no_command_at_all_shows_the_help_and_is_a_mistake(muse: Muse) -> None:
    ended = muse()
    assert ended.code == 2
    assert "Usage: muse" in ended.out


def test_version_names_muse_torch_accelerate_and_the_device(muse: Muse) -> None:
    words = [line.split()[0] for line in muse("--version").out.splitlines()]
    assert words == ["muse", "python", "torch", "accelerate", "device"]


def test_completion_offers_commands_and_says_nothing_else(shell: Muse) -> None:
    ended = shell(_MUSE_COMPLETE="complete_bash", COMP_WORDS="muse inf", COMP_CWORD="1")
    assert ended.out.split() == ["infer"]
    assert ended.err == ""
