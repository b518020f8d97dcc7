"""An error inside a plugin names the package and the line, whatever kind of plugin it is."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from muse_core import registry
from muse_core.errors import ExitCode
from tests.cli.conftest import Muse

CODE = """
from muse_cli.spec import CommandSpec
from muse_core.evaluation.spec import MetricSpec, ProbeSpec
from muse_core.model.builtin import GeneratorSpec, TokenizerSpec
from muse_core.settings import Section

SPECS = {
    "command": CommandSpec("Fails.", "failing:command"),
    "probe": ProbeSpec("Fails.", "failing:measure", "failing:Settings", train=False),
    "metric": MetricSpec("Fails.", "failing:make", "lower"),
    "tokenizer": TokenizerSpec("Fails.", "failing:load"),
    "generator": GeneratorSpec("Fails.", "failing:load"),
}
COMMAND, PROBE, METRIC, TOKENIZER, GENERATOR = SPECS.values()


class Settings(Section):
    given: str = "numbers"


def fail():
    return [1, 2][3]  # the line that fails


def command() -> None:
    fail()


def measure(context, settings):
    given = {"numbers": {"one": 1}, "text": {"one": "x"}, "none": None, "nothing": {}, "fail": 0}[settings.given]
    if given == 0:
        fail()
    if settings.given != "numbers":
        return given
    found = context.validation.features("pooled")
    return {"width": found.features.shape[1], "mean": found.features.mean()}


def make(context):
    fail()


def load(path, device):
    fail()
"""
ENTRIES = "".join(
    f"[muse.{kind}s]\nfailing = failing:{kind.upper()}\n"
    for kind in ("command", "probe", "metric", "tokenizer", "generator")
)
LINE = next(number for number, line in enumerate(CODE.splitlines(), start=1) if "the line that fails" in line)


@pytest.fixture
def file(distribution: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    site = distribution("failing", CODE, ENTRIES)
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "failing", raising=False)
    registry.forget()
    return site / "failing.py"


@pytest.mark.parametrize(
    "line",
    [
        "failing",
        "probe failing tiny --val-data demo:val:2 --given fail",
        "eval tiny --data demo:val:2 --metric failing",
        "eval failing --data demo:val:2",
        "compare tiny --data demo:val:2 --measure generate --generator tiny=failing:x --samples 98",
    ],
)
def test_the_package_and_the_line_are_named(muse: Muse, file: Path, line: str) -> None:
    ended = muse(*line.split())
    assert ended.code == ExitCode.PLUGIN, ended.err
    assert f"failing 2.5 failed in {file}:{LINE}: IndexError: list index out of range" in ended.err
    assert "MUSE_DEBUG=1" in ended.err
    assert "Traceback" not in ended.err


def test_debugging_shows_the_traceback(muse: Muse, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSE_DEBUG", "1")
    said = muse("failing").err
    assert "Traceback (most recent call last)" in said
    assert "the line that fails" in said


@pytest.mark.parametrize("code", ["x = 1\nx.y\n", "x = (\n", "import gone_for_good\n"])
def test_what_cannot_be_imported_names_its_line(
    muse: Muse, distribution: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    site = distribution("unready", code, "[muse.commands]\nunready = unready:SPEC\n")
    monkeypatch.syspath_prepend(site)
    registry.forget()
    ended = muse("unready")
    assert ended.code == ExitCode.PLUGIN
    number = 2 if code.startswith("x = 1") else 1
    assert f"{site / 'unready.py'}:{number}" in ended.err


def test_numbers_by_name_are_scores(muse: Muse, file: Path) -> None:
    scores = muse("probe", "failing", "tiny", "--val-data", "demo:val:6", "--json").json
    assert scores["command"] == "probe failing"
    assert scores["metrics"]["width"] > 1
    assert scores["counts"] == {"seen": 6, "skipped": {}}
    assert scores["protocol"]["given"] == "numbers"
    assert scores["protocol"]["images"] == 6


@pytest.mark.parametrize("given", ["text", "none", "nothing"])
def test_what_is_no_number_by_name_is_refused(muse: Muse, file: Path, given: str) -> None:
    ended = muse("probe", "failing", "tiny", "--val-data", "demo:val:2", "--given", given)
    assert ended.code == ExitCode.PLUGIN
    assert "neither Scores nor numbers by name" in ended.err


def test_a_bug_of_ours_is_ours(muse: Muse, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muse_core.run_search.list_runs", lambda *_: [][0])
    ended = muse("ls", "runs")
    assert ended.code == ExitCode.BUG
    assert "this is a bug in muse: IndexError" in ended.err
