"""Every figure of attention, from a fixed seed: names, numbers, units and legend are there, and all can be read."""

import itertools
import re
import xml.etree.ElementTree as ElementTree
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from muse_core.errors import MuseError
from muse_core.marks import Mark, mark_in, with_mark
from muse_core.viz.attention import AttentionMap, Scene, attention_figure, figure_bytes
from muse_core.viz.explorer import explorer
from muse_core.viz.lettering import DPI, balanced, shortened, text_width, wrapped
from muse_core.viz.maps import heads_of, numbers, times_uniform, with_queries
from muse_core.viz.panels import in_short
from muse_core.viz.pixels import as_pixels, overlay, rounded_up
from tests.viz.conftest import Floats, picture, pointing

LONG = "a-tokenizer-with-a-very-long-name-from-a-run-of-another-day-step-0120000"
GRIDS = ((6, 9), (7, 10), (14, 20))


def peaked(grid: tuple[int, int], heads: int, seed: int) -> Floats:
    """Attention (heads, N, N) to a few places each, as trained networks pay it."""
    patches = grid[0] * grid[1]
    return np.random.default_rng(seed).dirichlet(np.full(patches, 0.3), (heads, patches)).astype(np.float32)


def scene(size: tuple[int, int] = (300, 451), *names: str, teacher: bool = True, **more: object) -> Scene:
    maps = tuple(
        AttentionMap(name, peaked(grid, 4, seed), grid, "block 2, mean of 4 heads")
        for seed, (name, grid) in enumerate(zip(names or ("muse-tiny",), itertools.cycle(GRIDS), strict=False))
    )
    taught = AttentionMap("teacher", peaked(GRIDS[0], 1, 9), GRIDS[0]) if teacher else None
    return Scene(picture(*size), maps, taught, **{"title": "chelsea.jpg", **more})  # type: ignore[arg-type]


def stack(blocks: int, heads: int, teacher: bool, *names: str) -> Scene:
    """A scene of all blocks and heads of some tokenizers."""
    maps = [
        part
        for name, block in itertools.product(names, range(blocks))
        for part in heads_of(
            AttentionMap(name, peaked((6, 9), heads, block), (6, 9), f"block {block}", block=block), "all"
        )
    ]
    return Scene(picture(300, 451), tuple(maps), scene().teacher if teacher else None, title="chelsea.jpg")


FIGURES: dict[str, tuple[Scene | list[Scene], dict[str, object]]] = {
    "default": (scene(teacher=False), {}),
    "teacher": (scene(), {}),
    "several images": ([scene(), scene((512, 512)), scene((640, 400), title="portrait.png")], {}),
    "several tokenizers": (scene((400, 600), "muse-tiny", "DINOv3", "UniLIP 224", silent=("DC-AE", "TiTok")), {}),
    "several of both": ([scene((300, 451), "a", "b"), scene((90, 120), "a", "b"), scene((512, 512), "a", "b")], {}),
    "several queries": (scene(queries=((150, 130), (450, 299), (0, 0))), {}),
    "blocks and heads": (stack(3, 4, True, "muse-tiny"), {}),
    "many heads": (stack(3, 16, True, "muse-1b"), {}),
    "blocks and heads of two": (stack(2, 3, False, "muse-tiny", "muse-1b"), {}),
    "heads of one block": (stack(1, 9, False, "muse-tiny"), {}),
    "grid": (scene(), {"style": "grid"}),
    "blocky": (scene(), {"smooth": False}),
    "received": (scene(), {"look": "received"}),
    "salient": (scene(teacher=False), {"look": "salient"}),
    "a scale of one's own": (scene(), {"scale": 2.5}),
    "a high scale": (scene(), {"scale": 400.0}),
    "long names": ([scene((300, 451), LONG, LONG + "1", LONG + "2", title=LONG + ".jpg", silent=(LONG,) * 3)] * 2, {}),
    "a narrow image": (scene((1000, 60), queries=((3, 999),)), {}),
    "a wide image": (scene((60, 1000)), {}),
    "a small image": (scene((8, 8)), {}),
}


@pytest.fixture(scope="module", params=FIGURES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def figure(case: str) -> Figure:
    scenes, manner = FIGURES[case]
    return attention_figure(scenes, **manner)  # type: ignore[arg-type]


def boxes(figure: Figure) -> tuple[list[tuple[str, Bbox]], list[tuple[str, Bbox]]]:
    """Where words and pictures lie, in pixels."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    words = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in figure.texts]
    return words, [("a picture", axes.get_window_extent(canvas.get_renderer())) for axes in figure.axes]


def spoken(figure: Figure) -> list[str]:
    return [text.get_text().replace("\u00a0", " ") for text in figure.texts]


def test_nothing_is_cut_off_and_nothing_lies_on_anything_else(figure: Figure) -> None:
    words, pictures = boxes(figure)
    for name, box in words + pictures:
        assert box.x0 >= 0, name
        assert box.y0 >= 0, name
        assert box.x1 <= figure.bbox.x1, name
        assert box.y1 <= figure.bbox.y1, name
    for (name, first), (other, second) in itertools.combinations(words + pictures, 2):
        common = Bbox.intersection(first, second)
        assert common is None or common.width < 1 or common.height < 1, (name, other)


def test_the_legend_says_the_unit_and_the_ends_of_the_scale(case: str, figure: Figure) -> None:
    told = spoken(figure)
    unit = (
        "strength of the salient region"
        if case == "salient"
        else "attention in multiples of uniform (1: all patches alike)"
    )
    assert unit in told
    bar = figure.axes[-1].get_window_extent()
    ticks = [text for text in figure.texts if re.fullmatch(r"(≥ )?[\d.]+", text.get_text())]
    places = {float(text.get_text().removeprefix("≥ ")): text.get_window_extent() for text in ticks}
    assert min(places) == 0
    assert places[max(places)].x0 <= bar.x1 <= places[max(places)].x1, "the last number stands at the end of the bar"
    for value, place in list(places.items())[1:]:
        assert (place.x0 + place.x1) / 2 == pytest.approx(bar.x0 + bar.width * value / max(places), abs=1)


def test_every_map_has_its_name_and_the_numbers_of_what_is_drawn(case: str, figure: Figure) -> None:
    given, manner = FIGURES[case]
    told = spoken(figure)
    for one in [given] if isinstance(given, Scene) else given:
        asked = with_queries(one) if manner.get("look", "query") == "query" else one
        for attention, query in itertools.product(asked.drawn, asked.queries or (None,)):
            assert any(attention.name[:3] == line[:3] and attention.name[-3:] == line[-3:] for line in told)
            patch = None if query is None else attention.patch_at(*query, asked.size)
            most_telling = in_short(numbers(attention, asked.teacher, patch, asked.size))[0].replace("\u00a0", " ")
            assert any(line.startswith(most_telling) for line in told), most_telling
            if query is not None:
                assert any(line.startswith(f"query {query[0]:g}, {query[1]:g}") for line in told)
    used = {word for word in ("agreement", "entropy", "reach", "peak") if any(f"{word} " in line for line in told)}
    for word in used - {"salient"}:
        assert any(f"{word}: " in line for line in told), f"the legend does not say what {word} means"


def test_words_can_be_read_at_the_width_of_a_page(case: str, figure: Figure) -> None:
    width = figure.get_size_inches()[0] * DPI
    assert 800 <= width <= 1640 or case == "many heads"
    assert min(float(text.get_fontsize()) for text in figure.texts) * DPI / 72 * 900 / min(width, 1640) > 11


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
@pytest.mark.parametrize("which", ["default", "blocks and heads of two", "grid"])
def test_every_figure_can_be_written_in_every_format(which: str, kind: str) -> None:
    scenes, manner = FIGURES[which]
    drawn = figure_bytes(attention_figure(scenes, **manner), kind)  # type: ignore[arg-type]
    if kind == "png":
        with Image.open(BytesIO(drawn)) as image:
            assert image.format == "PNG"
    if kind == "svg":
        assert ElementTree.fromstring(drawn).tag.endswith("svg")
    if kind == "pdf":
        assert drawn.startswith(b"%PDF-")
        assert b"/FontFile2" in drawn, "TrueType, as publishers ask for"
    if which == "default":
        assert drawn == figure_bytes(attention_figure(scenes, **manner), kind), "the same at any time"  # type: ignore[arg-type]


def test_a_pdf_has_the_mark_where_no_reader_minds_it() -> None:
    drawn = figure_bytes(attention_figure(scene()), "pdf")
    marked = with_mark(drawn, Mark("attention", "0123456789ab"))
    assert mark_in(marked) == Mark("attention", "0123456789ab")
    assert mark_in(drawn) is None
    assert with_mark(marked, Mark("attention", "0123456789ab")) == marked
    assert mark_in(marked.replace(b"/Type", b"/type", 1)) is None, "changed afterwards, so the user's"
    table = int(re.findall(rb"startxref\s+(\d+)", marked)[-1])
    assert marked[table : table + 4] == b"xref"
    assert marked.rstrip().endswith(b"%%EOF")


def colour_at(figure: Figure, panel: int, place: tuple[float, float]) -> Floats:
    """The colour in the middle of a place (x, y), from 0 to 1, of a panel."""
    with Image.open(BytesIO(figure_bytes(figure))) as image:
        pixels = np.asarray(image.convert("RGB")).astype(np.float32)
    box = figure.axes[panel].get_position()
    x, y = box.x0 + place[0] * box.width, 1 - box.y1 + place[1] * box.height
    return np.asarray(pixels[int(y * pixels.shape[0]), int(x * pixels.shape[1])])


def halves(left: float) -> AttentionMap:
    """Two patches; each query pays so much to the left one."""
    return AttentionMap(f"{left}", np.array([[left, 1 - left]] * 2, np.float32), (1, 2))


def test_equal_attention_has_equal_colour_in_every_panel_and_the_photograph_shows_through() -> None:
    grey = np.full((3, 40, 80), 0.6)
    figure = attention_figure(
        Scene(grey, (halves(0.75), halves(0.25)), halves(0.5), queries=((79, 39),)), smooth=False, scale=2.0
    )
    ground = as_pixels(grey)[:1, :1]
    for panel, place, value in ((1, 0.25, 1.5), (1, 0.75, 0.5), (2, 0.25, 0.5), (2, 0.75, 1.5), (3, 0.25, 1.0)):
        expected = overlay(ground, np.full((1, 1), value / 2.0, np.float32))[0, 0]
        assert colour_at(figure, panel, (place, 0.3)) == pytest.approx(expected.astype(np.float32), abs=1.5)
    light = attention_figure(Scene(np.ones((3, 40, 80)), (halves(0.99),), queries=((79, 39),)), smooth=False, scale=1.0)
    dark = attention_figure(Scene(np.zeros((3, 40, 80)), (halves(0.99),), queries=((79, 39),)), smooth=False, scale=1.0)
    difference = colour_at(light, 1, (0.25, 0.3)) - colour_at(dark, 1, (0.25, 0.3))
    assert difference.min() > 60, "a quarter of the photograph's contrast is left where the map is strongest"


def test_looking_everywhere_alike_is_one_dull_colour_and_says_so() -> None:
    uniform = AttentionMap("uniform", np.full((54, 54), 1 / 54, np.float32), (6, 9))
    figure = attention_figure(Scene(np.full((3, 60, 90), 0.5), (uniform,)))
    corners = [colour_at(figure, 1, place) for place in ((0.05, 0.05), (0.95, 0.05), (0.05, 0.95), (0.6, 0.8))]
    assert np.ptp(corners, axis=0).max() <= 1
    assert corners[0].max() < 160, "half of the scale, not its bright end"
    assert "2" in spoken(figure)
    assert any(line.startswith("entropy 100 %") for line in spoken(figure))


def test_one_network_that_stares_leaves_the_others_visible_and_the_legend_admits_it() -> None:
    stare = AttentionMap("stare", pointing((6, 9), 7).weights, (6, 9))
    soft = [AttentionMap(f"soft {seed}", peaked((6, 9), 4, seed), (6, 9)) for seed in range(2)]
    figure = attention_figure(Scene(picture(60, 90), (soft[0], stare, soft[1]), queries=((40, 30),)))
    (end,) = [float(line[2:]) for line in spoken(figure) if line.startswith("≥ ")]
    patch = soft[0].patch_at(40, 30, (60, 90))
    assert float(times_uniform(stare, patch).max()) == pytest.approx(54)
    assert end <= 2 * max(float(times_uniform(each, patch).max()) for each in soft)
    assert any("peak 54.0 ×" in line for line in spoken(figure))


def test_the_photograph_is_drawn_at_its_own_resolution() -> None:
    photo = picture(700, 1200)
    figure = attention_figure(Scene(photo, (pointing((4, 6), 0),)))
    shown, below_the_map = (np.asarray(figure.axes[panel].images[0].get_array()) for panel in (0, 1))
    assert np.array_equal(shown, as_pixels(photo))
    assert below_the_map.shape == (700, 1200, 3)
    svg = figure_bytes(figure, "svg").decode()
    assert 'width="1200"' in svg
    assert 'height="700"' in svg


@pytest.mark.parametrize("query", [(310, 140), (310.9, 140.2), (0, 0), (450, 299)])
def test_the_page_starts_with_the_numbers_of_the_figure_also_where_patches_end_within_pixels(
    query: tuple[float, float],
) -> None:
    one = Scene(picture(300, 451), (AttentionMap("fine", peaked((32, 48), 1, 3), (32, 48)),), queries=(query,))
    given: Any = explorer([one]).data["scenes"]
    (data,) = given
    (drawn,) = data["maps"]
    rows, columns = drawn["queries"]
    high, wide = drawn["span"]
    at = int(data["start"][1] * rows / high) * columns + int(data["start"][0] * columns / wide)  # as explorer.js does
    expected = numbers(one.maps[0], None, one.maps[0].patch_at(*query, one.size), one.size)
    assert drawn["grid"] != drawn["queries"], "the map is averaged, its numbers are not"
    assert drawn["entropy"][at] == pytest.approx(expected.entropy, abs=0.006)
    assert drawn["peak"][at] == pytest.approx(expected.peak, abs=0.006)
    assert drawn["reach"][at] == pytest.approx(100 * expected.of_diagonal, abs=0.006)


def test_a_block_is_a_row_and_a_head_a_column() -> None:
    figure = attention_figure(stack(3, 4, True, "muse-tiny"))
    marks = {text.get_text(): text.get_position() for text in figure.texts}
    lefts = {head: {marks[f"block {block}, head {head}"][0] for block in range(3)} for head in range(4)}
    tops = {block: {marks[f"block {block}, head {head}"][1] for head in range(4)} for block in range(3)}
    assert all(len(places) == 1 for places in (*lefts.values(), *tops.values()))
    assert sorted(lefts) == sorted(lefts, key=lambda head: min(lefts[head]))
    assert sorted(tops, key=lambda block: -min(tops[block])) == [0, 1, 2]


def test_more_rows_than_a_figure_holds_are_refused() -> None:
    with pytest.raises(MuseError, match="holds 64 rows, not 65"):
        attention_figure([scene((8, 8))] * 65)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_draws_nothing_is_refused(scale: float) -> None:
    with pytest.raises(MuseError, match="draws nothing"):
        attention_figure(scene(), scale=scale)


def test_scales_end_at_round_numbers_and_never_below_two() -> None:
    assert [rounded_up(value) for value in (0.3, 2, 2.1, 7, 8.4, 15.1, 31, 151)] == [2, 2, 3, 8, 10, 20, 40, 200]


def test_words_are_made_to_fit() -> None:
    width = text_width("muse-tiny-stage3", 9.0, "bold")
    assert shortened("muse-tiny-stage3", width, 9.0, "bold") == "muse-tiny-stage3"
    short = shortened(LONG, width, 9.0, "bold")
    assert text_width(short, 9.0, "bold") <= width
    assert re.fullmatch("a-t.*….*000", short), "names differ at their ends"
    assert balanced(["one", "two", "six", "ten"], 1.8 * text_width("one  ·  two", 7.0), 7.0) == [
        "one  ·  two",
        "six  ·  ten",
    ]
    assert wrapped("of 451\u00a0×\u00a0300", text_width("of 451", 7.0), 7.0)[0] == "of"
    assert DPI == 200
