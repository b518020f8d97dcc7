import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from muse_core.viz.curves import HEIGHT, LEFT, RIGHT, WIDTH, Curve, curve_svg, curves_of, number


def line_of(svg: str) -> list[tuple[float, float]]:
    """The points of the bold line."""
    paths = [path.get("d", "") for path in ElementTree.fromstring(svg).iter("path") if path.get("stroke-width") == "2"]
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", paths[-1])]


def test_rows_become_one_curve_per_quantity() -> None:
    rows: list[dict[str, object]] = [
        {"step": 2, "loss/pixel": 1.0, "note": "text", "done": True},
        {"step": 1, "loss/pixel": 3.0},
        {"lr": 1.0},
    ]
    assert curves_of(rows) == {"loss/pixel": Curve("loss/pixel", (1.0, 2.0), (3.0, 1.0))}


def test_a_step_told_twice_after_resuming_counts_once_and_the_later_telling_wins() -> None:
    assert curves_of([{"step": 1, "a": 1.0}, {"step": 2, "a": 9.0}, {"step": 2, "a": 2.0}])["a"].values == (1.0, 2.0)


def test_values_that_are_not_finite_are_left_out_and_counted() -> None:
    curve = curves_of([{"step": step, "a": value} for step, value in enumerate([1.0, math.nan, math.inf, 2.0])])["a"]
    assert curve.values == (1.0, 2.0)
    assert curve.not_finite == 2
    assert "2 values were not finite" in curve_svg([curve], title="a")


def test_the_line_goes_where_the_values_go() -> None:
    points = line_of(curve_svg([Curve("a", (0, 10, 20), (1.0, 3.0, 2.0))], title="a"))
    assert [x for x, _ in points] == pytest.approx([LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT])
    heights = [HEIGHT - y for _, y in points]
    assert heights[1] > heights[2] > heights[0]


def test_text_stays_text_and_colours_come_from_the_page() -> None:
    svg = curve_svg([Curve("a", (0, 1), (0.5, 0.25))], title="topology <loss>", names=["run & one"])
    root = ElementTree.fromstring(svg)
    assert "0.25" in [text.text for text in root.iter("text")]
    assert root.get("aria-label") == "topology <loss>: from 0.5 to 0.25"
    colours = {value for node in root.iter() for key in ("stroke", "fill") if (value := node.get(key))}
    assert colours <= {"currentColor", "none", "var(--series-1, currentColor)"}
    assert len(svg) < 3000


def test_long_curves_stay_small_and_keep_their_spikes() -> None:
    values = [1.0] * 50_000
    values[31_234] = 5.0
    svg = curve_svg([Curve("a", tuple(range(50_000)), tuple(values))], title="a")
    assert len(svg) < 16_000
    assert number(5.0) in svg, "the axis reaches the spike"


@pytest.mark.parametrize("values", [(3.0, 3.0), (0.0, 0.0), (-2.0, -2.0), (5.0,), (1e-9, 2e-9)])
def test_flat_and_single_valued_curves_are_drawn(values: tuple[float, ...]) -> None:
    svg = curve_svg([Curve("a", tuple(range(len(values))), values)], title="a")
    assert all(0 <= y <= HEIGHT for _, y in line_of(svg))


def test_wide_ranges_are_drawn_on_a_logarithmic_axis() -> None:
    points = line_of(curve_svg([Curve("a", (0, 1, 2), (100.0, 1.0, 0.01))], title="a"))
    drops = [second[1] - first[1] for first, second in zip(points, points[1:], strict=False)]
    assert drops[0] == pytest.approx(drops[1], rel=0.01)


def test_each_run_has_its_own_colour_and_an_empty_one_is_passed_over() -> None:
    drawn = [Curve("a", (0, 1), (1.0, 2.0)), Curve("a", (), ()), Curve("a", (0, 1), (2.0, 3.0))]
    svg = curve_svg(drawn, title="a", names=["one", "two", "three"])
    assert "--series-1" in svg
    assert "--series-2" not in svg
    assert "--series-3" in svg
    assert curve_svg([Curve("a", (), ())], title="a") == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(12000.0, "12,000"), (0.03124, "0.0312"), (0.0, "0"), (-0.5, "−0.5"), (2e-5, "2e-05"), (23.456, "23.5")],
)
def test_numbers_are_brief(value: float, text: str) -> None:
    assert number(value) == text
