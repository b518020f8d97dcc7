"""`attn-viz --query` speaks of the pixels of the file, whatever size a tokenizer sees; text, figure and JSON agree."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from muse_core.errors import ExitCode
from tests.cli.conftest import Ended, Muse

NUMBERS = re.compile(
    r"^(.+?)(?: \(.*\))?: entropy [\d.]+ nats \((\d+)% of uniform\), mean reach (\d+)% of the diagonal, "
    r"peak ([\d.]+) x uniform(?:, agreement with the teacher ([\d.]+))?$"
)


@pytest.fixture(autouse=True)
def photos() -> None:
    """Two files, both larger than what the tokenizer sees."""
    rows, columns = np.mgrid[0:300, 0:450]
    pixels = np.stack(
        [rows % 256, columns % 256, np.where((rows - 100) ** 2 + (columns - 200) ** 2 < 5000, 250, 20)], -1
    )
    Image.fromarray(pixels.astype(np.uint8)).save("wide.png")
    Image.fromarray(pixels.astype(np.uint8).transpose(1, 0, 2)).save("tall.png")


def words_of(svg: str) -> list[str]:
    """The words of a figure: matplotlib keeps them as comments beside their outlines."""
    return [
        word.strip().replace("\u00a0", " ") for word in re.findall(r"<!--(.*?)-->", Path(svg).read_text(), re.DOTALL)
    ]


def told_by(ended: Ended) -> list[tuple[str, ...]]:
    """(entropy, reach, peak, agreement) of every map in the text."""
    found = [NUMBERS.match(line) for line in ended.out.splitlines()]
    return [match.groups()[1:] for match in found if match]


def shown_by(svg: str) -> list[str]:
    return [word for line in words_of(svg) for word in line.split("  ·  ") if re.match(r"\w+ [\d.]+( [%×])?$", word)]


@pytest.mark.parametrize("queries", [["--query", "150,130"], [], ["--query", "all"]])
def test_text_figure_and_json_say_the_same(muse: Muse, queries: list[str]) -> None:
    arguments = ["attn-viz", "wide.png", "--checkpoint", "tiny", "--teacher", *queries, "--overwrite"]
    ended = muse(*arguments, "--out", "a.svg")
    (first, taught), shown = told_by(ended), shown_by("a.svg")
    entropy, reach, peak, agreement = first
    assert shown == [
        f"agreement {agreement}", f"entropy {entropy} %", f"reach {reach} %", f"peak {peak} ×",
        f"entropy {taught[0]} %", f"reach {taught[1]} %", f"peak {taught[2]} ×",
    ]  # fmt: skip
    document: dict[str, Any] = muse(*arguments, "--out", "b.svg", "--json").json
    entry = document["maps"][0] if queries[1:] == ["all"] else document["maps"][0]["queries"][0]
    assert f"{entry['agreement_one_minus_tv']:.2f}" == agreement
    assert f"{100 * entry['mean_reach_of_diagonal']:.0f}" == reach
    assert f"{entry['peak_times_uniform']:.1f}" == peak


def test_the_point_is_shown_in_the_pixels_that_were_typed(muse: Muse) -> None:
    ended = muse("attn-viz", "wide.png", "--checkpoint", "tiny", "--query", "449,299", "--out", "a.svg")
    assert "wide.png, query 449,299 of 450 x 300" in ended.out
    assert "query 449, 299 of 450 × 300" in words_of("a.svg")
    document = muse(
        "attn-viz", "wide.png", "--checkpoint", "tiny", "--query", "449,299", "--out", "b.svg", "--json"
    ).json
    (entry,) = document["maps"]
    assert (entry["queries"][0]["x"], entry["queries"][0]["y"]) == (449, 299)
    assert entry["queries"][0]["patch"] == entry["grid"][0] * entry["grid"][1] - 1


def test_the_point_that_is_chosen_is_where_the_page_starts_and_is_said(muse: Muse) -> None:
    ended = muse("attn-viz", "wide.png", "--checkpoint", "tiny", "--json", "--out", "a.html")
    (point,) = ended.json["maps"][0]["queries"]
    start = re.search(r'"start": \[([\d.]+), ([\d.]+)\]', Path("a.html").read_text())
    assert start
    assert (float(start[1]), float(start[2])) == pytest.approx(((point["x"] + 0.5) / 450, (point["y"] + 0.5) / 300))
    told = muse("attn-viz", "wide.png", "--checkpoint", "tiny")
    assert f"query {point['x']:g},{point['y']:g} of 450 x 300; the most decided patch" in told.out


def test_several_images_are_one_figure_and_one_document(muse: Muse) -> None:
    ended = muse("attn-viz", "wide.png", "tall.png", "--checkpoint", "tiny", "--json")
    assert ended.json["out"] == "attention.png"
    assert [entry["image"] for entry in ended.json["images"]] == ["wide.png", "tall.png"]
    assert "maps" not in ended.json
    alone = muse("attn-viz", "tall.png", "--checkpoint", "tiny", "--json").json
    assert alone["maps"] == ended.json["images"][1]["maps"]
    whole = muse("attn-viz", ".", "--checkpoint", "tiny", "--json").json
    assert [entry["image"] for entry in whole["images"]] == ["tall.png", "wide.png"], "what muse drew is left out"


@pytest.mark.parametrize(
    ("arguments", "what", "hint"),
    [
        (["wide.png", "--query", "450,10"], "the query 450,10 lies outside wide.png", "0 to 449 and y from 0 to 299"),
        (["wide.png", "tall.png", "--query", "400,10"], "the query 400,10 lies outside tall.png", "from 0 to 299"),
        (["wide.png", "--query", "all", "--out", "a.html"], "a page shows what the point", "leave out --query all"),
        (["wide.png", "--scale", "0"], "scale: must be greater than 0", "muse config keys"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused_before_a_network_is_loaded(
    muse: Muse, monkeypatch: pytest.MonkeyPatch, arguments: list[str], what: str, hint: str
) -> None:
    monkeypatch.setattr("muse_core.api.load_tokenizer", lambda *_, **__: pytest.fail("loaded"))
    ended = muse("attn-viz", *arguments)
    assert ended.code == ExitCode.SETTINGS
    assert what in ended.err
    assert hint in ended.err


def test_all_and_points_exclude_each_other(muse: Muse) -> None:
    ended = muse("attn-viz", "wide.png", "--query", "all", "--query", "1,2")
    assert ended.code == ExitCode.USAGE
