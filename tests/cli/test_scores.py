"""Scores on the screen and on disk: standard errors beside numbers, pictures beside files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from muse_cli.scores import give, in_words, with_error
from muse_core.evaluation.kept_scores import is_same
from muse_core.evaluation.protocol import Protocol, Scores
from muse_core.files import read_json
from muse_core.runs import RunFolder

SCORES = Scores(
    command="probe x",
    tokenizer="tiny",
    metrics={"top1": 0.51234, "psnr": 21.2},
    protocol=Protocol({"data": "demo:val"}),
    counts={"seen": 7, "skipped": {}},
    standard_errors={"top1": 0.0123},
    pictures={"probe-x": b"a picture"},
)


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (0.51234, 0.0123, "0.512 ± 0.012"),
        (21.234, 1.3, "21.2 ± 1.3"),
        (1.0, 0.0, "1.0000 ± 0.0000"),
        (0.5, None, 0.5),
        (0.5, float("nan"), 0.5),
    ],
)
def test_a_standard_error_is_shown_with_two_digits(value: float, error: float | None, shown: object) -> None:
    assert with_error(value, error) == shown


def test_numbers_with_and_without_an_error_share_a_table() -> None:
    text = in_words(SCORES)
    assert "0.512 ± 0.012" in text
    assert "psnr" in text


def test_pictures_lie_beside_the_scores(tmp_path: Path) -> None:
    give(SCORES, "nowhere", tmp_path / "out" / "x.json")
    assert (tmp_path / "out" / "x.json").exists()
    assert (tmp_path / "out" / "x.png").read_bytes() == b"a picture"


def test_scores_of_another_protocol_or_of_other_weights_replace_nothing(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", {}, {})
    run.result_path("probe-x").parent.mkdir(parents=True)

    def given(**changes: Any) -> str:
        scores = replace(SCORES, **changes)
        give(scores, str(run.path), None)
        (name,) = [path.name for path in run.result_path("x").parent.glob("*.json") if is_same(path, scores)]
        return name

    assert given() == "probe-x.json"
    assert given(metrics={"top1": 0.1}) == "probe-x.json"  # the same measurement again
    assert given(protocol=Protocol({"data": "demo:val", "partial": True})) == "probe-x-2.json"
    assert given(checkpoint={"path": "elsewhere", "step": 2, "sha256": "f00"}) == "probe-x-3.json"
    assert given(checkpoint={"path": "moved", "step": 2, "sha256": "f00"}) == "probe-x-3.json"
    assert read_json(run.result_path("probe-x"))["metrics"] == {"top1": 0.1}
    run.result_path("probe-x").write_text("no scores")
    assert given() == "probe-x-4.json"
