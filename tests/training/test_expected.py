"""The expected time of a plan: what an earlier run of the same kind measured here, or nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muse_core.machine import hardware
from muse_core.runs import RunFolder
from muse_core.training.expected import expected_line
from tests.training.mini import lean

UNKNOWN = "time     known after the first steps: no run of this stage, size and batch was made here before"
Make = Callable[..., RunFolder]


@pytest.fixture
def earlier(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Make:
    """Lay out a run that went at 3, 4 and 40 images a second: the middle one counts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MUSE_RUNS", raising=False)

    def make(stage: int = 2, changes: dict[str, Any] | None = None, processes: int = 1, **machine: Any) -> RunFolder:
        identity = {"identity.json": {"computed": {"processes": processes}}}
        settings = lean(stage, changes).model_dump(mode="json")
        run = RunFolder.create(Path("runs/before"), settings, {}, identity, stage=stage, size="tiny")
        (run.path / "environment.json").write_text(json.dumps({**hardware(), **machine}))
        for step, speed in enumerate((40.0, 3.0, 4.0)):
            run.append_metrics({"step": step, "images_per_s": speed})
        return run

    return make


def test_a_run_that_did_the_same_here_says_how_long_and_is_named(earlier: Make) -> None:
    earlier()
    planned = lean(2, {"training.steps": 100, "optim.lr": 1e-5})
    assert expected_line(planned, 1) == "time     3 m 20 s, as runs/before ran here at 4 images/s"


@pytest.mark.parametrize(
    "other",
    [
        {"stage": 3},
        {"changes": {"training.batch_size": 16}},
        {"changes": {"model.width": 64}},
        {"changes": {"training.compile": True}},
        {"processes": 2},
        {"cores": 999},
        {"platform": "elsewhere"},
    ],
)
def test_a_run_of_another_kind_or_machine_tells_nothing(earlier: Make, other: dict[str, Any]) -> None:
    earlier(**other)
    assert expected_line(lean(2), 1) == UNKNOWN


@pytest.mark.parametrize("name", ["config.yaml", "status.json", "identity.json", "environment.json", "metrics.jsonl"])
@pytest.mark.parametrize("damage", [b"", b"[]", b"{", b"\xff"])
def test_a_damaged_run_is_passed_over(earlier: Make, name: str, damage: bytes) -> None:
    (earlier().path / name).write_bytes(damage)
    assert expected_line(lean(2), 1) == UNKNOWN
