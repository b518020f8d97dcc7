"""Numbers carry their conditions; results are plain JSON and are written whole."""

import json
from pathlib import Path

import pytest

from muse_core.evaluation.protocol import Protocol, Scores

SCORES = Scores(
    command="eval",
    tokenizer="tiny",
    metrics={"psnr": float("inf"), "ssim": 0.5},
    protocol=Protocol({"images": 10, "size": 64}, {"psnr": {"data_range": 1.0}}),
    counts={"seen": 10, "skipped": {"undecodable": 2}},
    baselines={"chance": {"ssim": 0.0}},
    tables={"per class": [{"class": "cat", "top1": float("nan")}]},
    not_measured={"rfid": "no weights"},
    seconds=1.23456,
)


def test_the_fingerprint_is_twelve_hex_digits_of_everything_and_ignores_order() -> None:
    one = Protocol({"size": 64, "images": 10})
    assert len(one.fingerprint) == 12
    assert int(one.fingerprint, 16) >= 0
    assert one.fingerprint == Protocol({"images": 10, "size": 64}).fingerprint
    assert one.fingerprint != Protocol({"images": 11, "size": 64}).fingerprint
    assert one.fingerprint != Protocol({"images": 10, "size": 64}, {"psnr": {}}).fingerprint


def test_a_column_depends_on_the_metric_but_not_on_its_neighbours() -> None:
    alone = Protocol({"images": 10}, {"psnr": {"data_range": 1.0}})
    beside = Protocol({"images": 10}, {"psnr": {"data_range": 1.0}, "rfid": {"extractor": "inception"}})
    assert alone.fingerprint != beside.fingerprint
    assert alone.column("psnr") == beside.column("psnr") != beside.column("rfid")
    assert alone.column("psnr") != Protocol({"images": 10}, {"psnr": {"data_range": 2.0}}).column("psnr")


def test_the_json_shape_is_the_documented_one() -> None:
    document = SCORES.to_json()
    assert {"command", "muse", "checkpoint", "protocol", "metrics", "counts", "seconds"} <= document.keys()
    assert document["protocol"]["fingerprint"] == SCORES.protocol.fingerprint
    assert document["counts"] == {"seen": 10, "skipped": {"undecodable": 2}}
    assert document["columns"]["ssim"] == SCORES.protocol.column("ssim")


def test_what_json_cannot_say_becomes_null_not_invalid(tmp_path: Path) -> None:
    path = tmp_path / "results" / "eval.json"
    SCORES.save(path)
    document = json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert document["metrics"] == {"psnr": None, "ssim": 0.5}
    assert document["tables"]["per class"][0]["top1"] is None
    assert [file.name for file in path.parent.iterdir()] == ["eval.json"]


def test_a_value_that_is_not_a_number_is_no_protocol() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        _ = Protocol({"rate": float("nan")}).fingerprint
