"""What a browser makes of the pages: nothing fetched, nothing complained about, nothing wider than the screen."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from muse_core.viz.attention import AttentionMap, Scene, attention_figure, save_attention
from muse_core.viz.pixels import overlay
from muse_core.viz.report import Figure, read_run, write_report
from tests.viz.browser import Page
from tests.viz.conftest import scores, weights, write_run
from tests.viz.test_report import png, scene


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page full of long names and wide tables."""
    folder = tmp_path_factory.mktemp("runs")
    metrics = {name: 0.5 for name in ("psnr", "ssim", "rfid", "lpips", "fd-tiny-clip", "a-metric-with-a-long-name")}
    long = "a-very-long-word-without-any-space-" * 4
    runs = [
        read_run(write_run(folder / f"{long}{stage}", stage=stage, results={"eval": scores(metrics, f"{stage}" * 12)}))
        for stage in (1, 2, 3)
    ]
    figures = [Figure("A figure", long, png())]
    return write_report(runs, folder / "report.html", figures=figures, attention=[scene(long), scene()])


def test_the_report_opens_offline_without_complaint_and_never_scrolls_sideways(page: Page, report: Path) -> None:
    for width, scheme in itertools.product((390, 1280), ("light", "dark")):
        page.requests.clear()
        page.complaints.clear()
        page.size(width)
        page.media(scheme)
        page.open(report)
        assert page.value("document.documentElement.scrollWidth") == width
        assert page.value("matchMedia('(prefers-color-scheme: dark)').matches") is (scheme == "dark")
        assert [request for request in page.requests if not request.startswith(("data:", report.as_uri()))] == []
        assert page.complaints == []
        ground = page.value("getComputedStyle(document.body).backgroundColor")
        assert (sum(int(part) for part in ground[4:-1].split(",")) > 384) is (scheme == "light")


def test_with_details_open_the_page_is_still_no_wider_than_the_screen(page: Page, report: Path) -> None:
    page.size(390)
    page.open(report)
    page.value("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.value("document.documentElement.scrollWidth") == 390


def test_samples_can_be_gone_through(page: Page, report: Path) -> None:
    page.size(1280)
    page.open(report)
    shown = "[...document.querySelectorAll('.film img')].filter(at => at.offsetHeight).map(at => at.dataset.label)"
    assert page.value(shown) == page.value("[document.querySelector('.film output').textContent]")
    page.value("const at = document.querySelector('.film input'); at.value = 0; at.dispatchEvent(new Event('input'))")
    assert len(page.value(shown)) == 1
    assert page.value(shown)[0].endswith("step 100")


def test_on_paper_everything_is_open_and_dark_ink_is_on_white(page: Page, report: Path, tmp_path: Path) -> None:
    page.size(1280)
    page.media("dark")
    page.open(report)
    page.print(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    page.media("dark", medium="print")
    assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@pytest.fixture
def explorer(page: Page, tmp_path: Path) -> Page:
    """Patch p looks at the patch before it; 4 x 6 patches on a grey image of 40 x 60 pixels."""
    matrix = np.roll(np.eye(24, dtype=np.float32), -1, axis=1)
    attention = AttentionMap("shift", matrix, (4, 6))
    teacher = AttentionMap("teacher", weights((4, 6)), (4, 6))
    queried = Scene(np.full((3, 40, 60), 0.3), (attention,), teacher, queries=((25, 15),))
    page.size(1280)
    page.media("light")
    page.complaints.clear()
    page.open(save_attention(queried, tmp_path / "a.html"))
    return page


BRIGHTEST = """(() => {
  const canvas = document.querySelectorAll('canvas')[1];
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const sums = new Float64Array(24), [h, w] = [canvas.height / 4, canvas.width / 6];
  for (let y = 0; y < canvas.height; y++) for (let x = 0; x < canvas.width; x++) {
    const at = 4 * (y * canvas.width + x);
    sums[Math.floor(y / h) * 6 + Math.floor(x / w)] += pixels[at] + pixels[at + 1] + pixels[at + 2];
  }
  return sums.indexOf(Math.max(...sums));
})()"""


def looks_at(patch: int) -> int:
    return (patch - 1) % 24


def test_the_explorer_begins_at_the_query(explorer: Page) -> None:
    assert explorer.value(BRIGHTEST) == looks_at(1 * 6 + 2)
    assert explorer.complaints == []
    assert "query 25, 15 of 60 × 40" in explorer.value("document.body.innerText")


def test_moving_the_pointer_moves_the_query(explorer: Page) -> None:
    x, y, width, height = explorer.value(
        "(box => [box.x, box.y, box.width, box.height])(document.querySelector('canvas').getBoundingClientRect())"
    )
    explorer.pointer(x + width * 4.5 / 6, y + height * 2.5 / 4)
    assert explorer.value(BRIGHTEST) == looks_at(2 * 6 + 4)
    explorer.pointer(x + width - 5, y + height - 5)  # corners are round
    assert explorer.value(BRIGHTEST) == looks_at(23)


def test_arrow_keys_move_the_query_by_one_patch(explorer: Page) -> None:
    explorer.value("document.querySelector('.panels').focus()")
    explorer.key("ArrowRight")
    explorer.key("ArrowDown")
    assert explorer.value(BRIGHTEST) == looks_at(2 * 6 + 3)
    assert "agreement" in explorer.value("document.querySelector('[aria-live]').textContent")


def test_the_explorer_draws_what_the_figure_draws_and_says_its_numbers(explorer: Page) -> None:
    colour = explorer.value(
        """(() => {
          const canvas = document.querySelectorAll('canvas')[1];
          return [...canvas.getContext('2d').getImageData(canvas.width * 1.5 / 6, canvas.height * 1.5 / 4, 1, 1).data];
        })()"""
    )[:3]
    # The middle of the one patch that is looked at, beyond the end of the scale: the strongest colour over the image.
    expected = overlay(np.full((1, 1, 3), 76, np.uint8), np.ones((1, 1), np.float32))[0, 0]
    assert np.abs(np.array(colour) - expected.astype(int)).max() <= 4
    told = explorer.value("document.body.innerText").replace("\u00a0", " ")
    matrix = np.roll(np.eye(24, dtype=np.float32), -1, axis=1)
    attention = AttentionMap("shift", matrix, (4, 6))
    figure = attention_figure(
        Scene(np.full((3, 40, 60), 0.3), (attention,), AttentionMap("teacher", weights((4, 6)), (4, 6)), ((25, 15),))
    )
    for text in figure.texts:
        for part in text.get_text().replace("\u00a0", " ").split("  ·  "):
            if re.match(r"(agreement|entropy|reach|peak) [\d.]+( [%×])?$", part):
                assert part in told


def test_the_scale_of_the_page_is_the_scale_of_the_figure_and_stays_when_the_query_moves(
    page: Page, tmp_path: Path
) -> None:
    strong = np.full((24, 24), 0.2 / 23, np.float32)
    np.fill_diagonal(strong, 0.8)
    mild = np.full((24, 24), 1 / 24, np.float32)
    strong[12:] = mild[12:]
    scene = Scene(np.full((3, 40, 60), 0.3), (AttentionMap("m", strong, (4, 6)),), queries=((5, 5),))
    page.size(1280)
    page.open(save_attention(scene, tmp_path / "a.html", scale=4.0))
    key = "document.querySelector('.key').innerText"
    assert page.value(key).split() == ["attention,", "×", "uniform", "0", "4", "and", "more"]
    page.value("document.querySelector('.panels').focus()")
    for _ in range(3):
        page.key("ArrowDown")
    colour = page.value(
        """(() => { const canvas = document.querySelectorAll('canvas')[1];
          return [...canvas.getContext('2d').getImageData(canvas.width - 9, 9, 1, 1).data]; })()"""
    )[:3]
    expected = overlay(np.full((1, 1, 3), 76, np.uint8), np.full((1, 1), 1 / 4, np.float32))[0, 0]
    assert np.abs(np.array(colour) - expected.astype(int)).max() <= 4, "a quarter of the scale, not its end"
