"""Reconstruction against understanding: each run or tokenizer one point, and the front that no other one beats.

Only numbers measured alike stand in one plot. Drawn as SVG: text stays text, colours follow the page.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from matplotlib.ticker import MaxNLocator

from muse_core.viz.curves import number
from muse_core.viz.runview import RunView
from muse_core.viz.scores import Better, MetricLook, command_title, look_of

PIXELS = (("eval", "rfid"), ("eval", "fd-tiny-clip"), ("eval", "psnr"))
MEANING = (("probe linear", "top1"), ("segment", "miou"), ("zeroshot", "top1"))
"""What the plots show, the preferred first: one metric of the first kind against each of the second."""

WIDTH, HEIGHT = 360, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 16, 46
RADIUS = 5


@dataclass(frozen=True)
class Point:
    """One tokenizer in one plot: its number in the legend, and where it lies."""

    index: int
    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Plot:
    """A plot, and how many could not enter it because they were measured otherwise or not at all."""

    title: str
    svg: str
    left_out: tuple[str, ...]
    fingerprints: tuple[str, str]


@dataclass(frozen=True)
class Tradeoff:
    """All plots with their common legend: (number, name)."""

    plots: tuple[Plot, ...]
    legend: tuple[tuple[int, str], ...]


def front(points: Sequence[Point], better_x: Better, better_y: Better) -> list[Point]:
    """Return the points that no other one beats in one way without losing in the other, from left to right."""

    def beats(one: Point, other: Point) -> bool:
        gains = (one.x - other.x) * _sign(better_x), (one.y - other.y) * _sign(better_y)
        return min(gains) >= 0 and max(gains) > 0

    return sorted((p for p in points if not any(beats(q, p) for q in points)), key=lambda point: (point.x, point.y))


def _sign(better: Better) -> int:
    return 1 if better == "higher" else -1


def tradeoff(runs: Sequence[RunView]) -> Tradeoff | None:
    """Draw what can be drawn of some runs: None when fewer than two were measured alike in both ways."""
    y = next((key for key in PIXELS if len(_alike(runs, *key)[1]) >= 2), None)
    plots = [plot for x in MEANING if y is not None and (plot := _plot(runs, x, y)) is not None]
    return Tradeoff(tuple(plots), tuple((place + 1, run.label) for place, run in enumerate(runs))) if plots else None


def _alike(runs: Sequence[RunView], command: str, metric: str) -> tuple[str, dict[int, float]]:
    """Values by the place of their run, of the protocol that most share; and that protocol's fingerprint."""
    found: dict[tuple[int, str], float] = {}
    for place, run in enumerate(runs):
        for score in reversed(run.scores):  # of several files of one command the first is the plain one
            value = score.metrics.get(metric, math.nan)
            if score.command == command and math.isfinite(value):
                found[place, score.column(metric)] = value
    if not found:
        return "", {}
    most = Counter(column for _, column in found).most_common(1)[0][0]
    return most, {place: value for (place, column), value in found.items() if column == most}


def _plot(runs: Sequence[RunView], x: tuple[str, str], y: tuple[str, str]) -> Plot | None:
    (print_x, xs), (print_y, ys) = _alike(runs, *x), _alike(runs, *y)
    both = [place for place in xs if place in ys]
    if len(both) < 2:
        return None
    points = [Point(place + 1, runs[place].label, xs[place], ys[place]) for place in both]
    titles = f"{command_title(x[0])}, {look_of(x[1]).label}", look_of(y[1]).label
    return Plot(
        title=f"{titles[1]} against {titles[0][:1].lower()}{titles[0][1:]}",
        svg=pareto_svg(points, look_of(x[1]), look_of(y[1]), titles),
        left_out=tuple(run.label for place, run in enumerate(runs) if place not in both),
        fingerprints=(print_x, print_y),
    )


def pareto_svg(points: Sequence[Point], x: MetricLook, y: MetricLook, titles: tuple[str, str]) -> str:
    """Draw points as an <svg> element in which up and right are always better.

    Args:
        points: at least one.
        x, y: how the two metrics are shown, and which way is good; an axis whose smaller values are better is reversed.
        titles: of the two axes.
    """
    across, up = (
        _Axis.of([p.x for p in points], x.better == "lower"),
        _Axis.of([p.y for p in points], y.better == "lower"),
    )
    leading = front(points, x.better or "higher", y.better or "higher")
    spoken = f"{titles[1]} against {titles[0]}; not beaten: {', '.join(point.name for point in leading)}"
    places = {point: (_x(across, point.x), _y(up, point.y)) for point in points}
    parts = [
        f'<svg class="pareto" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(spoken)}" '
        'font-family="inherit" font-size="11" fill="none">',
        *_grid(across, up, x, y),
        *_titles(titles, x, y),
        _steps([places[point] for point in leading]),
        *(mark for group in _groups(places) for mark in _marks(group, places, leading)),
        "</svg>",
    ]
    return "".join(parts)


@dataclass(frozen=True)
class _Axis:
    """From `low` to `high`, with labelled values; reversed when smaller is better."""

    low: float
    high: float
    ticks: tuple[float, ...]
    reverse: bool

    @classmethod
    def of(cls, values: Sequence[float], reverse: bool) -> "_Axis":
        low, high = min(values), max(values)
        room = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
        low, high = low - room, high + room
        inside = [float(t) for t in MaxNLocator(nbins=4).tick_values(low, high) if low <= t <= high]
        return cls(low, high, tuple(inside), reverse)

    def share(self, value: float) -> float:
        """How far along the axis a value lies, 0 to 1."""
        share = (value - self.low) / (self.high - self.low)
        return 1 - share if self.reverse else share


def _x(axis: _Axis, value: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * axis.share(value)


def _y(axis: _Axis, value: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * axis.share(value)


_SOFT = 'fill="currentColor" fill-opacity=".72"'
_RULE = 'stroke="currentColor" stroke-opacity=".13"'


def _tick(value: float, look: MetricLook) -> str:
    return f"{number(100 * value)} %" if look.percent else number(value)


def _grid(across: _Axis, up: _Axis, x: MetricLook, y: MetricLook) -> list[str]:
    parts = []
    for tick in up.ticks:
        place = f"{_y(up, tick):.1f}"
        parts.append(f'<path {_RULE} d="M{LEFT} {place}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{place}" dy=".32em" text-anchor="end" {_SOFT}>{_tick(tick, y)}</text>')
    for tick in across.ticks:
        place = f"{_x(across, tick):.1f}"
        parts.append(f'<path {_RULE} d="M{place} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts.append(
            f'<text x="{place}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle" {_SOFT}>{_tick(tick, x)}</text>'
        )
    return parts


def _titles(titles: tuple[str, str], x: MetricLook, y: MetricLook) -> list[str]:
    unit = f", {y.unit}" if y.unit else ""
    return [
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end" fill="currentColor">'
        f"{escape(titles[0])} →</text>",
        f'<text x="{LEFT + 6}" y="{TOP + 4}" fill="currentColor">↑ {escape(titles[1])}{unit}'
        f"{', smaller is better' if y.better == 'lower' else ''}</text>",
    ]


def _steps(places: Sequence[tuple[float, float]]) -> str:
    """The front as a staircase: what can be had without giving up either."""
    first, *rest = sorted(places)
    path = f"M{first[0]:.1f} {first[1]:.1f}" + "".join(f"V{y:.1f}H{x:.1f}" for x, y in rest)
    return f'<path stroke="var(--accent, currentColor)" stroke-opacity=".5" stroke-width="1.5" d="{path}"/>'


def _marks(
    group: Sequence[Point], places: Mapping[Point, tuple[float, float]], leading: Sequence[Point]
) -> Iterator[str]:
    """Points that lie together: a mark for each, and one label that lists their numbers."""
    accent = "var(--accent, currentColor)"
    for point in sorted(group, key=lambda point: point in leading):  # the front on top
        x, y = places[point]
        fill, stroke, edge = (accent, accent, 1) if point in leading else ("var(--page, white)", "currentColor", 0.6)
        yield (
            f'<g data-point="{point.index}"><title>{escape(point.name)}</title><circle cx="{x:.1f}" cy="{y:.1f}" '
            f'r="{RADIUS}" fill="{fill}" stroke="{stroke}" stroke-opacity="{edge}"/></g>'
        )
    x, y = max(places[point] for point in group)
    label = ", ".join(str(point.index) for point in sorted(group, key=lambda point: point.index))
    near = x > WIDTH - RIGHT - 14 - 6 * len(label)
    x = min(places[point] for point in group)[0] if near else x
    yield (
        f'<text x="{x + (-1 if near else 1) * (RADIUS + 4):.1f}" y="{y:.1f}" dy=".34em" fill="currentColor" '
        f'text-anchor="{"end" if near else "start"}" font-weight="600">{label}</text>'
    )


def _groups(places: Mapping[Point, tuple[float, float]]) -> list[list[Point]]:
    """Put points together whose marks or labels would cover each other."""
    groups: list[list[Point]] = []
    for point, (x, y) in sorted(places.items(), key=lambda item: item[1][::-1]):
        home = next((g for g in groups if any(_near((x, y), places[other]) for other in g)), None)
        if home is None:
            groups.append([point])
        else:
            home.append(point)
    return groups


def _near(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return abs(one[1] - other[1]) < 2 * RADIUS + 1 and abs(one[0] - other[0]) < 4 * RADIUS
