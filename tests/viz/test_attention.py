import json
import logging
import re
import xml.etree.ElementTree as ElementTree
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from muse_core.errors import ExitCode, MuseError
from muse_core.viz.attention import (
    AttentionMap,
    Scene,
    attention_figure,
    figure_bytes,
    heads_of,
    measure,
    save_attention,
)
from muse_core.viz.lettering import DPI
from muse_core.viz.maps import (
    agreement,
    entropy,
    numbers,
    reach,
    reach_of_diagonal,
    received,
    regrid,
    starting_points,
    with_queries,
)
from muse_core.viz.panels import map_values
from tests.viz.conftest import picture, pointing, weights


def drawn(scene: Scene, **manner: object) -> np.ndarray:
    figure = attention_figure(scene, **manner)  # type: ignore[arg-type]
    with Image.open(BytesIO(figure_bytes(figure))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def panels(scene: Scene) -> list[tuple[int, int, int, int]]:
    """(left, top, width, height) in pixels of the pictures of a figure, without its colour key."""
    figure = attention_figure(scene)
    width, height = figure.get_size_inches() * DPI
    boxes = [axes.get_position() for axes in figure.axes[:-1]]
    return [
        (round(box.x0 * width), round((1 - box.y1) * height), round(box.width * width), round(box.height * height))
        for box in boxes
    ]


def test_rows_that_do_not_sum_to_one_are_refused_with_the_reason() -> None:
    with pytest.raises(MuseError, match="must sum to 1"):
        AttentionMap("m", weights((2, 2))[:, :, :] * 0.5, (2, 2))
    with pytest.raises(MuseError, match=r"needs \(heads, 4, 4\), without class or register tokens"):
        AttentionMap("m", np.full((1, 5, 5), 0.2, np.float32), (2, 2))
    with pytest.raises(MuseError, match="not finite"):
        AttentionMap("m", np.full((4, 4), np.nan, np.float32), (2, 2))


@pytest.mark.parametrize(("x", "y", "patch"), [(0, 0, 0), (15, 7, 0), (16, 7, 1), (47, 8, 5), (47, 15, 5)])
def test_the_patch_under_a_pixel_is_found_on_images_that_are_not_square(x: int, y: int, patch: int) -> None:
    assert pointing((2, 3), 0).patch_at(x, y, (16, 48)) == patch


def test_a_padded_image_has_its_patches_where_the_padded_grid_has_them() -> None:
    padded = AttentionMap("m", weights((4, 4)), (4, 4), span=(64, 64))
    assert padded.patch_at(49, 39, (40, 50)) == 2 * 4 + 3
    whole = AttentionMap("m", weights((4, 4)), (4, 4))
    assert whole.patch_at(49, 39, (40, 50)) == 15


def test_the_marker_lies_on_the_queried_pixel() -> None:
    size, query = (40, 60), (45, 10)
    scene = Scene(np.full((3, *size), 0.5), (pointing((4, 6), 0),))
    marked = Scene(scene.image, scene.maps, queries=(query,))
    left, top, width, height = panels(marked)[0]
    change = np.abs(drawn(marked) - drawn(Scene(scene.image, scene.maps, queries=((0, 39),)))).sum(-1)
    inside = change[top : top + height, left : left + width][: height // 2] > 60
    rows, columns = np.nonzero(inside)
    scale = width / size[1]
    assert columns.mean() / scale == pytest.approx(query[0] + 0.5, abs=0.15)
    assert rows.mean() / scale == pytest.approx(query[1] + 0.5, abs=0.15)


def test_a_query_is_told_in_the_pixels_of_the_file_of_which_a_smaller_copy_is_drawn() -> None:
    scene = Scene(picture(40, 60), (pointing((4, 6), 0),), queries=((2588, 1540),), full_size=(4000, 6000))
    told = " ".join(words.get_text() for words in attention_figure(scene).texts).replace("\u00a0", " ")
    assert "query 2588, 1540 of 6000 × 4000" in told
    assert scene.maps[0].patch_at(2588, 1540, scene.size) == 1 * 6 + 2


def test_a_query_lights_up_what_its_patch_looks_at() -> None:
    grid = (4, 6)
    matrix = np.zeros((24, 24), np.float32)
    matrix[:, 3] = 1.0
    matrix[8] = np.eye(24, dtype=np.float32)[22]
    scene = Scene(np.full((3, 40, 60), 0.5), (AttentionMap("m", matrix, grid),), queries=((25, 15),))
    left, top, width, height = panels(scene)[1]
    lightness = drawn(scene)[top : top + height, left : left + width].sum(-1)
    cells = lightness[: height // 4 * 4, : width // 6 * 6].reshape(4, height // 4, 6, width // 6).mean((1, 3))
    assert scene.maps[0].patch_at(25, 15, (40, 60)) == 8
    assert divmod(int(cells.argmax()), 6) == (3, 4)


def test_what_lies_beyond_the_image_in_a_padded_grid_is_cut_off() -> None:
    attention = AttentionMap("m", pointing((2, 2), 1).weights, (2, 2), span=(40, 80))
    scene = Scene(np.full((3, 40, 40), 0.5), (attention,), queries=((5, 5),))
    left, top, width, height = panels(scene)[1]
    blocks = drawn(scene, smooth=False)[top + 1 : top + height - 1, left + width // 2 : left + width - 1]
    assert np.ptp(blocks, axis=(0, 1)).max() <= 1, "the bright patch lies in the padding"


def test_grid_style_draws_cells_and_overlay_may_draw_blocks() -> None:
    scene = Scene(np.full((3, 40, 40), 0.5), (AttentionMap("m", weights((4, 4)), (4, 4)),))
    left, top, width, height = panels(scene)[1]
    for manner in ({"style": "grid"}, {"smooth": False}):
        part = drawn(scene, look="received", **manner)[top : top + height, left : left + width]
        cells = part.reshape(4, height // 4, 4, width // 4, 3)[:, 4:-4, :, 4:-4]
        assert np.ptp(cells, axis=(1, 3)).max() <= 1


def test_the_salient_region_can_be_drawn_instead_of_received_attention() -> None:
    attention = AttentionMap("m", weights((6, 6), heads=4), (6, 6))
    received_map, salient = (map_values(attention, (24, 24), look=look) for look in ("received", "salient"))
    assert received_map.shape == salient.shape == (6, 6)
    assert received_map.mean() == pytest.approx(1.0)
    assert not np.allclose(received_map, salient)


def test_numbers_are_those_of_the_definitions() -> None:
    uniform = np.full((12, 12), 1 / 12, np.float32)
    assert entropy(uniform) == pytest.approx(np.full(12, np.log(12)))
    assert entropy(np.eye(12, dtype=np.float32)) == pytest.approx(np.zeros(12))
    assert received(uniform) == pytest.approx(np.ones(12))
    assert reach(pointing((3, 4), 0).mean, (3, 4))[11] == pytest.approx(np.hypot(2, 3))
    assert agreement(uniform, np.eye(12, dtype=np.float32)) == pytest.approx(np.full(12, 1 / 12))
    assert agreement(uniform, uniform) == pytest.approx(np.ones(12))


def test_agreement_of_different_grids_is_taken_on_shared_patches() -> None:
    fine = weights((6, 4), heads=1)[0]
    coarse = regrid(fine, (6, 4), (3, 2))
    assert coarse.shape == (6, 6)
    assert coarse.sum(1) == pytest.approx(np.ones(6), abs=1e-5)
    # By hand: the queries and keys of the first coarse patch are fine patches 0, 1, 4 and 5.
    block = [0, 1, 4, 5]
    assert coarse[0, 0] == pytest.approx(fine[np.ix_(block, block)].sum(1).mean(), abs=1e-6)
    student, teacher = AttentionMap("s", coarse, (3, 2)), AttentionMap("t", fine, (6, 4))
    assert numbers(student, teacher).agreement == pytest.approx(1.0, abs=1e-5)


def test_measure_is_json_with_one_entry_per_map_and_query() -> None:
    scene = Scene(
        picture(20, 30),
        (AttentionMap("student", weights((2, 3)), (2, 3)),),
        AttentionMap("teacher", weights((2, 3), seed=1), (2, 3)),
        queries=((29, 19), (0, 0)),
    )
    student, teacher = json.loads(json.dumps(measure(scene)))["maps"]
    assert [point["patch"] for point in student["queries"]] == [5, 0]
    assert 0 < student["agreement_one_minus_tv"] < 1
    assert teacher["agreement_one_minus_tv"] is None
    assert 0 < student["entropy_of_uniform"] <= 1


def test_heads_are_chosen_by_number_mean_or_all() -> None:
    attention = AttentionMap("m", weights((2, 2), heads=3), (2, 2), note="layer 1")
    assert [each.note for each in heads_of(attention, "all")] == [f"layer 1, head {head}" for head in (0, 1, 2)]
    assert [each.head for each in heads_of(attention, "all")] == [0, 1, 2]
    assert (heads_of(attention, 2)[0].weights[0] == attention.weights[2]).all()
    assert np.allclose(heads_of(attention)[0].mean, attention.weights.mean(0))
    with pytest.raises(MuseError, match="no head 3") as caught:
        heads_of(attention, 3)
    assert caught.value.hint == "choose 0 to 2, mean or all"
    assert caught.value.exit_code == ExitCode.SETTINGS


def test_a_query_outside_the_image_is_refused_with_the_range() -> None:
    with pytest.raises(MuseError, match="30,0 lies outside") as caught:
        Scene(picture(20, 30), (pointing((2, 2), 0),), queries=((30, 0),))
    assert caught.value.hint == "x goes from 0 to 29 and y from 0 to 19"
    assert caught.value.exit_code == ExitCode.SETTINGS


def test_a_page_starts_on_a_decided_patch_away_from_the_border() -> None:
    matrix = np.full((25, 25), 1 / 25, np.float32)
    matrix[0] = np.eye(25, dtype=np.float32)[0]
    matrix[12] = np.eye(25, dtype=np.float32)[3]
    scene = Scene(picture(50, 50), (AttentionMap("m", matrix, (5, 5)),))
    assert starting_points([scene]) == [(25.0, 25.0)]
    assert with_queries(scene).queries == ((25.0, 25.0),)
    assert with_queries(scene).chosen


def test_reach_in_parts_of_the_diagonal_does_not_depend_on_how_finely_an_image_is_cut() -> None:
    for cut in (2, 4, 8):
        matrix = np.zeros((3 * cut * 4 * cut,) * 2, np.float32)
        matrix[:, -1] = 1.0
        far = reach_of_diagonal(AttentionMap("m", matrix, (3 * cut, 4 * cut)), (300, 400))[0]
        assert far == pytest.approx(np.hypot(300 - 100 / cut, 400 - 100 / cut) / 500, rel=1e-5)
    padded = AttentionMap("m", pointing((2, 2), 3).weights, (2, 2), span=(200, 200))
    assert reach_of_diagonal(padded, (60, 80))[0] == pytest.approx(np.hypot(100, 100) / 100)


@pytest.mark.parametrize("size", [(64, 64), (300, 451), (33, 100)])
def test_png_svg_and_html_are_what_they_say(tmp_path: Path, size: tuple[int, int]) -> None:
    attention = AttentionMap("costs $5 & more <b>", weights((3, 5)), (3, 5))
    scene = Scene(picture(*size), (attention,), AttentionMap("teacher", weights((3, 5), 1), (3, 5)), title="a $ sign")
    with Image.open(save_attention(scene, tmp_path / "a.png")) as image:
        assert image.format == "PNG"
    root = ElementTree.parse(save_attention(scene, tmp_path / "a.svg")).getroot()
    assert root.tag.endswith("svg")
    html = save_attention(scene, tmp_path / "deep" / "a.html").read_text()
    assert html.lower().lstrip().startswith("<!doctype html>")
    assert "<b>" not in re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert len(html) < 400_000


def test_an_unknown_ending_is_refused_with_a_name_that_works(tmp_path: Path) -> None:
    with pytest.raises(MuseError) as caught:
        save_attention(Scene(picture(8, 8), (pointing((2, 2), 0),)), tmp_path / "a.gif")
    assert caught.value.hint == "write to a.png"


def test_nothing_global_is_touched(caplog: pytest.LogCaptureFixture) -> None:
    before = dict(matplotlib.rcParams)
    with caplog.at_level(logging.WARNING):
        figure_bytes(attention_figure(Scene(picture(8, 8), (pointing((2, 2), 0),))))
    assert dict(matplotlib.rcParams) == before
    assert not caplog.records, "a missing typeface would be told here"


def test_many_heads_wrap_into_rows_of_equal_length() -> None:
    many = heads_of(AttentionMap("m", weights((2, 2), heads=9), (2, 2)), "all")
    places = panels(Scene(picture(8, 8), many))
    assert len(places) == 10
    assert len({top for _, top, _, _ in places}) == 2
    assert len({left for left, _, _, _ in places}) == 5
