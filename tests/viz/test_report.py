import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from muse_core.errors import MuseError
from muse_core.viz import report as report_module
from muse_core.viz.explorer import templates
from muse_core.viz.maps import AttentionMap, Scene
from muse_core.viz.report import Figure, NextStep, read_run, write_report
from muse_core.viz.scores import headlines, look_of, score_tables
from tests.viz.conftest import picture, scores, weights, write_run

MakeRun = Callable[..., Path]
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Reading(HTMLParser):
    """What is in a page: elements with their attributes, visible text, and whether every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def scene(title: str = "an owl") -> Scene:
    student = AttentionMap("student", weights((4, 4)), (4, 4))
    return Scene(picture(32, 48), (student,), AttentionMap("teacher", weights((4, 4), 1), (4, 4)), title=title)


def png() -> bytes:
    stream = BytesIO()
    Image.new("RGB", (30, 20)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with everything on it."""
    folder = tmp_path_factory.mktemp("runs")
    chance = {"chance": {"top1": 0.01}}
    results = {
        "eval": scores({"psnr": 23.4, "ssim": 0.76}, "aaaaaaaaaaaa"),
        "zeroshot": scores({"top1": 0.42}, "bbbbbbbbbbbb", command="zeroshot", baselines=chance),
    }
    runs = [
        read_run(write_run(folder / f"tiny-stage{stage}", stage=stage, results=results if stage == 3 else None))
        for stage in (1, 2, 3)
    ]
    figures = [Figure("A figure", "With a caption.", png())]
    return write_report(runs, folder / "r.html", figures=figures, attention=[scene(), scene("a fox")]).read_text()


def test_the_page_asks_for_nothing_outside_itself(full: str) -> None:
    page = Reading(full)
    places = [value for _, attributes in page.elements for key in ("src", "href") if (value := attributes.get(key))]
    assert places
    assert all(place.startswith(("data:", "#")) for place in places)
    assert not re.findall(r"https?://|url\((?!#)|@import|fetch\(|XMLHttpRequest|WebSocket|sendBeacon", full)


def test_the_page_is_well_formed_and_can_be_read_aloud(full: str) -> None:
    page = Reading(full)
    assert page.open == []
    assert page.all("html")[0]["lang"] == "en"
    assert all(image.get("alt") for image in page.all("img"))
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in page.all("svg"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    anchors = {link["href"] for link in page.all("a")}
    names = {f"#{attributes['id']}" for _, attributes in page.elements if attributes.get("id")}
    assert anchors <= names


def test_it_says_what_the_run_is_and_how_well_it_does(full: str) -> None:
    text = Reading(full).text
    assert "A visual tokenizer of size tiny, trained on built-in scenes in 3 stages and 900 steps." in text
    assert "It reconstructs 2,000 images at 23.4 dB and names what 42.0 % of images show" in text
    assert "(chance: 1.0 %)" in text


def test_it_shows_settings_with_origins_environment_samples_curves_and_commands(full: str) -> None:
    page = Reading(full)
    assert "optim.lr 0.002 preset" in page.text
    assert "run.stage 3 command line" in page.text
    assert "versions.torch 2.6.0" in page.text
    frames = [image["data-label"] for image in page.all("img") if "data-label" in image]
    assert frames[-1] == "Stage 3 · synergy, step 200"
    assert sum(svg.get("class") == "curve" for svg in page.all("svg")) == 2 * 3
    assert "muse attn-viz your-photo.jpg" in page.text
    assert "not measured" in page.text.lower()
    assert "3 skipped (3 undecodable)" in page.text
    assert "In-vocabulary, same sprites." in page.text


def test_every_score_stands_with_its_fingerprint_and_baselines_stand_beside_it(full: str) -> None:
    start = full.index('class="headlines"')
    for article in full[start:].split("<article")[1:4]:
        assert re.search(r'class="print-of">(aaaaaaaaaaaa|bbbbbbbbbbbb)<', article)
    zeroshot = next(part for part in full.split("<article")[1:] if "Zero-shot" in part)
    assert "chance" in zeroshot
    assert "1.0 %" in zeroshot
    heads = re.findall(r'<th scope="col" class="number">(.*?)</th>', full, re.DOTALL)
    assert len(heads) == 3
    assert all("print-of" in head for head in heads)


def test_two_protocols_have_two_columns(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(name, results={"eval": scores({"psnr": value}, fingerprint)}))
        for name, value, fingerprint in (("one", 23.0, "a" * 12), ("two", 24.0, "b" * 12), ("three", 25.0, "a" * 12))
    ]
    (table,) = score_tables(runs)
    assert [(column.metric, column.fingerprint) for column in table.columns] == [("psnr", "a" * 12), ("psnr", "b" * 12)]
    assert [row.cells for row in table.rows] == [("23.00", "–"), ("–", "24.00"), ("25.00", "–")]
    assert table.rows[2].best == (True, False)
    assert table.mixed


def test_metrics_measured_alike_share_a_column_though_their_protocols_differ_elsewhere(make_run: MakeRun) -> None:
    first = scores({"psnr": 23.0, "rfid": 2.0}, "a" * 12) | {"columns": {"psnr": "same", "rfid": "one"}}
    second = scores({"psnr": 24.0, "rfid": 3.0}, "b" * 12) | {"columns": {"psnr": "same", "rfid": "two"}}
    runs = [read_run(make_run(name, results={"eval": each})) for name, each in (("a", first), ("b", second))]
    (table,) = score_tables(runs)
    assert [column.fingerprint for column in table.columns] == ["same", "one", "two"]
    assert {ruler.fingerprint for ruler in table.rulers} == {"a" * 12, "b" * 12}


def test_a_baseline_that_differs_from_run_to_run_has_a_row_for_each(make_run: MakeRun) -> None:
    told = [{"chance": {"top1": 0.1}, "untouched encoder": {"top1": share}} for share in (0.3, 0.4)]
    runs = [
        read_run(make_run(f"run{k}", stage=k + 1, results={"eval": scores({"top1": 0.5}, "a" * 12, baselines=one)}))
        for k, one in enumerate(told)
    ]
    (table,) = score_tables(runs)
    rows = {row.name: row.cells for row in table.rows if row.baseline}
    assert rows == {
        "chance": ("10.0 %",),
        "untouched encoder · Stage 1 · topology": ("30.0 %",),
        "untouched encoder · Stage 2 · semantics": ("40.0 %",),
    }


def test_scores_without_a_fingerprint_share_a_column_with_nothing(make_run: MakeRun) -> None:
    bare = {"command": "eval", "metrics": {"psnr": 20.0}, "protocol": {"images": 5}}
    folder = make_run(results={"eval": bare, "eval-other": bare})
    (table,) = score_tables([read_run(folder)])
    assert len(table.columns) == 2


def test_headlines_stand_beside_other_runs_only_when_measured_alike(make_run: MakeRun) -> None:
    runs = [
        read_run(make_run(name, stage=stage, results={"eval": scores({"psnr": value}, fingerprint)}))
        for name, stage, value, fingerprint in (("one", 1, 21.0, "a"), ("two", 2, 22.0, "b"), ("three", 3, 23.0, "a"))
    ]
    (headline,) = headlines(runs)
    assert headline.value == "23.00"
    assert [bar.value for bar in headline.bars] == ["23.00", "21.00"]
    assert not headline.baselines


def test_the_headline_of_several_measurements_is_that_of_the_most_images(make_run: MakeRun) -> None:
    def of(value: float, images: int, fingerprint: str) -> dict[str, Any]:
        return scores({"psnr": value}, fingerprint) | {"counts": {"seen": images, "skipped": {}}}

    results = {"eval": of(20.0, 32, "a"), "eval-2": of(21.0, 2000, "b"), "eval-unseen": of(22.0, 5000, "c")}
    (headline,) = headlines([read_run(make_run(results=results))])
    assert headline.value == "21.00"


def test_a_number_that_was_not_finite_says_so(make_run: MakeRun, tmp_path: Path) -> None:
    content = scores({"psnr": 1.0}, "a" * 12) | {"metrics": {"psnr": None}}
    page = write_report([read_run(make_run(results={"eval": content}))], tmp_path / "r.html").read_text()
    assert "not finite" in Reading(page).text


@pytest.mark.parametrize(
    ("metric", "better"),
    [
        ("psnr", "higher"),
        ("fd-tiny-clip", "lower"),
        ("kl", "lower"),
        ("auc_distance_matched", "higher"),
        ("colour", None),
        ("top3", "higher"),
        ("cosine/pixels-topology", None),
    ],
)
def test_the_better_direction_is_known_or_left_open(metric: str, better: str | None) -> None:
    assert look_of(metric).better == better


def test_unreadable_files_are_named_on_the_page_and_do_not_stop_it(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    (folder / "origins.json").write_text("{")
    (folder / "results" / "eval.json").write_text("[1]")
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 301, "lo')
    text = Reading(write_report([read_run(folder)], tmp_path / "r.html").read_text()).text
    assert "origins.json cannot be read" in text
    assert "eval.json holds list instead of names and values" in text
    assert "metrics.jsonl: 1 unreadable line left out" in text


def test_a_failed_run_tells_its_error_and_its_hint(make_run: MakeRun, tmp_path: Path) -> None:
    state = {"state": "failed", "step": 120, "error": "the loss became nan", "hint": "muse train --resume runs/x"}
    text = Reading(write_report([read_run(make_run(state=state))], tmp_path / "r.html").read_text()).text
    assert "120 of 300 steps" in text
    assert "the loss became nan" in text
    assert "muse train --resume runs/x" in text


def test_a_folder_with_nothing_but_results_is_shown_and_an_empty_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with pytest.raises(MuseError, match="not a run"):
        read_run(tmp_path)
    (tmp_path / "results" / "eval.json").write_text(json.dumps(scores({"psnr": 20.0}, "a" * 12)))
    assert "20.00" in write_report([read_run(tmp_path)], tmp_path / "r.html").read_text()
    with pytest.raises(MuseError, match="not a folder"):
        read_run(tmp_path / "absent")


def test_runs_of_one_stage_are_told_apart_and_their_curves_share_a_picture(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [read_run(make_run(name)) for name in ("first", "second")]
    page = Reading(write_report(runs, tmp_path / "r.html").read_text())
    assert "Stage 1 · topology · first" in page.text
    assert "Stage 1 · topology · second" in page.text
    assert sum(svg.get("class") == "curve" for svg in page.all("svg")) == 2


def test_names_and_notes_cannot_break_out_of_the_page(make_run: MakeRun, tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    content = scores({"psnr": 20.0}, "a" * 12, notes=[evil])
    folder = make_run(results={"eval": content}, state={"error": evil, "state": "failed"})
    page = write_report([read_run(folder)], tmp_path / "r.html", title=evil, intro=evil, attention=[scene(evil)])
    text = page.read_text()
    assert "<script>alert" not in text
    assert text.count("<script") == text.count("</script>") == 3


def test_pictures_give_way_until_the_page_fits(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(samples=())
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    for step in range(6):
        Image.fromarray(noise).save(folder / "samples" / f"step-{step:07d}.png")
    run = read_run(folder)
    monkeypatch.setattr(report_module, "LARGEST", 100_000)
    page = Reading(write_report([run], tmp_path / "r.html").read_text())
    assert (tmp_path / "r.html").stat().st_size <= 100_000
    shown = [image["data-label"] for image in page.all("img") if "data-label" in image]
    assert 1 <= len(shown) < 6
    assert shown[-1] == "Stage 1 · topology, step 5"
    monkeypatch.setattr(report_module, "LARGEST", 10_000)
    with pytest.raises(MuseError, match="is the limit"):
        write_report([run], tmp_path / "r.html")


def test_words_and_commands_can_be_given(make_run: MakeRun, tmp_path: Path) -> None:
    steps = [NextStep("muse demo --quick", "Again.")]
    out = write_report([read_run(make_run())], tmp_path / "r.html", title="T 1", intro="I 1.", next_steps=steps)
    text = Reading(out.read_text()).text
    assert "T 1" in text
    assert "I 1." in text
    assert "muse demo --quick" in text
    with pytest.raises(MuseError, match="at least one run"):
        write_report([], tmp_path / "r.html")


def test_pictures_of_scores_stand_under_their_table_and_one_that_is_gone_is_named(
    make_run: MakeRun, tmp_path: Path
) -> None:
    drawn = scores({"miou": 0.4}, "a" * 12, command="segment", pictures={"segment": "segment.png", "x": "gone.png"})
    run = make_run(results={"segment": drawn})
    (run / "results" / "segment.png").write_bytes(png())
    page = Reading(write_report([read_run(run)], tmp_path / "page.html").read_text())
    said = [image["alt"] for image in page.all("img")]
    assert said.count("Image, named classes, true classes: Stage 1 · topology") == 1
    assert "gone.png is not there any more" in page.text


def test_a_figure_that_is_no_picture_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(MuseError, match="cannot be read as a picture"):
        write_report([read_run(make_run())], tmp_path / "r.html", figures=[Figure("f", "", b"not a picture")])


def luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_contrast_in_both_schemes(scheme: int) -> None:
    css = templates().get_template("base.css.jinja").render()
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", re.findall(r":root \{(.*?)\}", css, re.DOTALL)[scheme]))
    for ground in ("page", "raised", "tint"):
        for ink, needed in (("ink", 7.0), ("soft", 4.5), ("accent", 4.5), ("warn", 4.5)):
            high, low = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= needed, (ink, ground)


def test_finely_resolved_attention_is_averaged_until_the_page_fits(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = Scene(picture(32, 32), (AttentionMap("fine", weights((26, 26), heads=1), (26, 26)),))
    monkeypatch.setattr(report_module, "LARGEST", 200_000)
    page = write_report([read_run(make_run(samples=()))], tmp_path / "r.html", attention=[fine]).read_text()
    assert "averaged to 16 x 16 patches" in page
