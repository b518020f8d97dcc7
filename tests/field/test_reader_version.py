"""Scores say by which rules image files were read, and those of other rules are told apart."""

from pathlib import Path
from typing import Any

import pytest

from muse_core.evaluation.protocol import Protocol, Scores
from muse_core.image_files import READER
from muse_core.viz.comparison import Comparison, Entry, to_csv, to_markdown
from muse_core.viz.report import read_run, write_report
from muse_core.viz.runview import ScoreView, score_view
from tests.field.conftest import Muse

RULES = "image files were read by other rules: old by reader 1, the others by reader 2."
ROW = "PSNR: measured under another protocol, image files by reader 1"


def measured(psnr: float, **fields: Any) -> Scores:
    protocol = Protocol({"data": "val", "size": 64, **fields})
    return Scores("eval", "tiny", {"psnr": psnr}, protocol, {"seen": 4, "skipped": {}})


def view(scores: Scores) -> ScoreView:
    return score_view(scores.to_json(), "eval")


@pytest.fixture
def mixed() -> Comparison:
    old, new = Entry("old", "", (view(measured(25.0)),)), Entry("new", "", (view(measured(26.0, reader=2)),))
    return Comparison((old, new))


def test_a_score_without_the_key_was_measured_by_reader_1() -> None:
    assert (view(measured(25.0)).reader, view(measured(25.0, reader=2)).reader) == (1, 2)


def test_compare_names_the_scores_of_another_reader(mixed: Comparison) -> None:
    assert ROW in mixed.reasons()
    assert mixed.reasons()["PSNR: measured under another protocol"] == ["new"]
    assert [line.startswith(RULES) for line in mixed.readers()] == [True]
    assert f"- {RULES}" in to_markdown(mixed)
    assert "measured under another protocol, image files by reader 1" in to_csv(mixed)


def test_scores_of_one_reader_say_nothing_of_it(mixed: Comparison) -> None:
    for entry in mixed.entries:
        alone = Comparison((entry, entry))
        assert alone.readers() == []
        assert "reader" not in to_markdown(alone)


def test_a_report_shows_old_scores_and_says_how_they_were_read(tmp_path: Path) -> None:
    for name, scores in (("old", measured(25.0)), ("new", measured(26.0, reader=2))):
        scores.save(tmp_path / name / "results/eval.json")
    page = tmp_path / "report.html"
    write_report([read_run(tmp_path / "old"), read_run(tmp_path / "new")], page)
    text = page.read_text()
    assert "25.00" in text
    assert RULES[1:-1] in text


@pytest.mark.parametrize(
    "command",
    [
        "eval tiny --data demo:val:4 --metric psnr",
        "zeroshot tiny --data demo:val:4",
        "probe knn tiny --data demo:train:40 --val-data demo:val:4",
        "segment tiny --data demo:train:8 --val-data demo:val:4 --classes 100 --epochs 1",
    ],
)
def test_every_protocol_names_the_reader(muse: Muse, command: str) -> None:
    ended = muse(*command.split(), "--json")
    assert (ended.code, f'"reader": {READER}' in ended.out) == (0, True)
