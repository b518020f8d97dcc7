"""The table of a comparison: one protocol per column, reasons for what is missing, publications apart."""

import csv
import io
from pathlib import Path

from muse_core.viz.comparison import Comparison, Entry, Published, to_csv, to_markdown
from muse_core.viz.report import write_report
from muse_core.viz.runview import RunView, ScoreView, score_view
from tests.viz.conftest import scores

TOLD = Published("Rival-L", "zeroshot", 0.7525, "its paper", "squashed to 256")


def measured(psnr: float, fingerprint: str = "e1") -> ScoreView:
    return score_view(scores({"psnr": psnr}, fingerprint), "eval")


def comparison() -> Comparison:
    missing = {"zeroshot": "not supported: it has no alignment with text"}
    return Comparison(
        (
            Entry("ours", "Apache-2.0", (measured(25.0),), missing, "2 k parameters"),
            Entry("rival", "MIT", (measured(20.0),), missing),
            Entry("blind", "", (), missing | {"eval": "not supported: it has no decoder"}),
        ),
        (TOLD,),
    )


def test_columns_are_what_was_measured_and_what_everybody_lacks() -> None:
    assert [column.title for column in comparison().columns] == ["rFID ↓", "PSNR, dB ↑", "zero-shot ↑"]
    assert [comparison().cells(entry)[1] for entry in comparison().entries] == ["25.00", "20.00", "–"]


def test_a_gfid_stands_with_how_it_was_drawn() -> None:
    drawn = scores({"gfd-tiny-clip": 3.0}, "e1")
    drawn["protocol"] |= {"samples": 50_000, "sampler": "Euler, 250 points, shift 0.3", "guidance": "none"}
    drawn |= {"command": "generate", "not_measured": {"gfid": "the Inception weights are not on disk"}}
    drawn["notes"] = ["675.0 M parameters on 16 x 16 cells"]
    missing = {"generate": "no generator was given for it"}
    both = Comparison((Entry("a", "", (score_view(drawn, "generate"),)), Entry("b", "", (), missing)))
    told = "samples 50000; sampler Euler, 250 points, shift 0.3; guidance none; 675.0 M parameters on 16 x 16 cells"
    assert both.generated() == [f"gFID of a: {told}"]
    assert [column.title for column in both.columns] == ["gFID ↓", "gFD tiny-CLIP ↓"]
    assert told in to_markdown(both)
    assert "- b: no gFID, gFD tiny-CLIP: no generator was given for it" in to_markdown(both)


def test_two_protocols_are_two_columns() -> None:
    mixed = Comparison((Entry("a", "", (measured(25.0),)), Entry("b", "", (measured(20.0, "e2"),))))
    columns = [column for column in mixed.columns if column.metric == "psnr"]
    assert [column.fingerprint for column in columns] == ["e1", "e2"]
    assert [[entry.value(column) for column in columns] for entry in mixed.entries] == [[25.0, None], [None, 20.0]]
    assert "PSNR: measured under another protocol" in mixed.reasons()


def test_every_empty_cell_has_its_reason() -> None:
    assert comparison().reasons() == {
        "rFID: the Inception weights are not on disk": ["ours", "rival"],
        "zero-shot: not supported: it has no alignment with text": ["ours", "rival", "blind"],
        "rFID, PSNR: not supported: it has no decoder": ["blind"],
    }


def test_markdown_keeps_publications_apart() -> None:
    here, _, elsewhere = to_markdown(comparison()).partition("## Published elsewhere")
    assert "| ours | – | 25.00 | – | Apache-2.0 |" in here
    assert "`e1`" in here
    assert "Rival-L" not in here
    assert "| Rival-L | zero-shot | 75.25 % | its paper | squashed to 256 |" in elsewhere  # as printed, not rounded


def test_csv_says_of_each_number_what_kind_it_is() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(comparison()))))
    kinds = {(row["tokenizer"], row["metric"]): (row["kind"], row["value"], row["protocol"]) for row in rows}
    assert kinds["ours", "psnr"] == ("measured", "25.0", "e1")
    assert kinds["blind", "psnr"] == ("missing", "", "not supported: it has no decoder")
    assert kinds["Rival-L", "zeroshot"] == ("published", "0.7525", "squashed to 256")


def test_the_report_shows_it(tmp_path: Path) -> None:
    entries = comparison().entries[:2]
    runs = [RunView(entry.name, tmp_path, scores=entry.scores, title=entry.name) for entry in entries]
    page = write_report(runs, tmp_path / "report.html", comparison=comparison()).read_text()
    for part in ('id="comparison"', 'id="published"', "2 k parameters", "75.25 %", "it has no decoder"):
        assert part in page
    assert 'id="results"' not in page  # the table says it already
