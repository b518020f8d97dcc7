"""Reconstruction against understanding: who is on the front, what may stand in one plot, and how it is drawn."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from muse_core.viz.pareto import Point, front, pareto_svg, tradeoff
from muse_core.viz.runview import RunView, read_run
from muse_core.viz.scores import look_of
from tests.viz.conftest import scores

MakeRun = Callable[..., Path]


def points(*places: tuple[float, float]) -> list[Point]:
    return [Point(index, f"run {index}", x, y) for index, (x, y) in enumerate(places, start=1)]


def test_the_front_is_whom_no_other_beats_in_one_way_without_losing_in_the_other() -> None:
    found = points((0.1, 30), (0.5, 25), (0.4, 24), (0.9, 20), (0.9, 20))
    assert [point.index for point in front(found, "higher", "higher")] == [1, 2, 4, 5]


def test_smaller_may_be_better() -> None:
    found = points((0.1, 5.0), (0.5, 2.0), (0.9, 9.0))
    assert [point.index for point in front(found, "higher", "lower")] == [2, 3]


def places(svg: str) -> dict[int, tuple[float, float]]:
    """Where each numbered mark was drawn."""
    found = re.findall(r'<g data-point="(\d+)">.*?<circle cx="([\d.]+)" cy="([\d.]+)"', svg)
    return {int(index): (float(x), float(y)) for index, x, y in found}


@pytest.mark.parametrize(("metric", "best"), [("psnr", 1), ("rfid", 2)])
def test_up_is_better_whichever_way_a_metric_counts(metric: str, best: int) -> None:
    svg = pareto_svg(points((0.2, 30.0), (0.2, 10.0)), look_of("top1"), look_of(metric), ("accuracy", metric))
    drawn = places(svg)
    assert drawn[best][1] < drawn[3 - best][1]  # smaller is higher on a page
    assert ("smaller is better" in svg) == (metric == "rfid")


def test_marks_that_lie_together_share_a_label() -> None:
    svg = pareto_svg(points((0.2, 9.0), (0.2, 9.01), (0.9, 30.0)), look_of("top1"), look_of("psnr"), ("a", "b"))
    assert ">1, 2</text>" in svg
    assert ">3</text>" in svg


def test_names_are_escaped_and_the_drawing_can_be_read_aloud() -> None:
    svg = pareto_svg([Point(1, "<a&b>", 0.5, 1.0)], look_of("top1"), look_of("psnr"), ("accuracy", "PSNR"))
    assert "<a&b>" not in svg
    assert "not beaten: &lt;a&amp;b&gt;" in svg


def run(make_run: MakeRun, name: str, psnr: float, top1: float, **ruler: str) -> RunView:
    made = make_run(
        name,
        results={
            "eval": scores({"psnr": psnr}, ruler.get("eval", "e1")),
            "zeroshot": scores({"top1": top1}, ruler.get("zeroshot", "z1"), command="zeroshot"),
        },
    )
    return read_run(made)


def test_only_what_was_measured_alike_stands_in_one_plot(make_run: MakeRun) -> None:
    runs = [run(make_run, "a", 20, 0.3), run(make_run, "b", 22, 0.2), run(make_run, "c", 30, 0.9, zeroshot="z2")]
    drawn = tradeoff(runs)
    assert drawn is not None
    (plot,) = drawn.plots
    assert set(places(plot.svg)) == {1, 2}
    assert len(plot.left_out) == 1
    assert plot.fingerprints == ("z1", "e1")


def test_one_run_is_no_tradeoff(make_run: MakeRun) -> None:
    assert tradeoff([run(make_run, "a", 20, 0.3)]) is None
    assert tradeoff([run(make_run, "b", 20, 0.3), run(make_run, "c", 20, 0.3, eval="e2")]) is None
