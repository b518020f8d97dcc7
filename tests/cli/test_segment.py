"""`muse segment` from the shell: scores, pictures, the report, and refusals."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from muse_core.errors import ExitCode
from tests.cli.conftest import Muse

QUICK = ("--data", "demo:train:24", "--val-data", "demo:val:8", "--epochs", "1")


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """The run as the newest one of this folder."""
    copy = tmp_path / "runs" / "mine"
    shutil.copytree(trained, copy)
    return copy


def test_it_scores_draws_and_shows_in_the_report(muse: Muse, run: Path) -> None:
    ended = muse("segment", *QUICK, "--baseline", "--save-masks", "masks", "--view", "sliding", "--size-px", "80")
    assert ended.code == 0, ended.err
    for text in ("miou", "untouched encoder", "windows of 80, a third shared", "8 images", "fingerprint: "):
        assert text in ended.out
    kept = json.loads((run / "results" / "segment.json").read_text())
    assert kept["protocol"]["recipe"]["epochs"] == 1
    assert 0 <= kept["metrics"]["miou"] <= 1
    assert len(list(Path("masks").glob("*.png"))) == 8
    with Image.open(run / "results" / "segment.png") as strip:
        assert strip.height > strip.width
    assert muse("report", "latest", "--out", "page.html").code == 0
    page = Path("page.html").read_text()
    assert "Segmentation" in page
    assert "Image, named classes, true classes" in page
    assert "mIoU" in page


def test_the_label_rule_decides_what_counts(muse: Muse, run: Path) -> None:
    rows = {}
    for rule in ("plain", "ade20k"):
        ended = muse("segment", *QUICK, "--label-rule", rule, "--json")
        assert ended.code == 0, ended.err
        rows[rule] = {row["class"] for row in ended.json["tables"]["per class"]}
    assert "background" in rows["plain"]
    assert "background" not in rows["ade20k"]


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["--classes", "3"], ExitCode.SETTINGS, "but there are only 3"),
        (["--label-rule", "ade"], ExitCode.SETTINGS, "label_rule: must be plain or ade20k, got 'ade'"),
        (["--view", "half"], ExitCode.SETTINGS, "view: must be whole, sliding or crop, got 'half'"),
    ],
)
def test_it_refuses_with_a_sentence(muse: Muse, run: Path, arguments: list[str], code: int, what: str) -> None:
    ended = muse("segment", *QUICK, *arguments)
    assert (ended.code, what in ended.err) == (code, True), ended.err


def test_the_untouched_encoder_has_no_untouched_encoder(muse: Muse) -> None:
    ended = muse("segment", "tiny-encoder", *QUICK, "--baseline")
    assert ended.code == ExitCode.USAGE
    assert "only MUSE tokenizers have an untouched encoder" in ended.err
