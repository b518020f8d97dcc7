"""Curves as small inline SVG: text stays text, and colours follow the page through CSS variables.

Rows are those of metrics.jsonl: {"step": 200, "loss/topology": 0.31, ...}.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 320, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 66, 12, 26
MOST_POINTS = 240
SMOOTHING = 0.06
"""The bold line is an average over about this part of the curve."""
SERIES = 6
"""The page knows this many colours; further runs begin again with the first."""
LOG_FROM = 40.0
"""A positive curve whose largest value is this many times its smallest is drawn on a logarithmic axis."""


@dataclass(frozen=True)
class Curve:
    """One quantity over the steps of one run; values that were not finite are left out and counted."""

    name: str
    steps: tuple[float, ...]
    values: tuple[float, ...]
    not_finite: int = 0


def curves_of(rows: Iterable[Mapping[str, object]]) -> dict[str, Curve]:
    """Collect every numeric quantity of some rows, in the order of appearance; rows without a step are passed over."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        step = _as_number(row.get("step"))
        if step is None:
            continue
        for name, entry in row.items():
            value = _as_number(entry)
            if name != "step" and value is not None:
                points.setdefault(name, []).append((step, value))
    return {name: _curve(name, pairs) for name, pairs in points.items()}


def _as_number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _curve(name: str, pairs: Sequence[tuple[float, float]]) -> Curve:
    # A resumed run may tell a step twice: the later telling counts.
    unique = dict(sorted(pairs, key=lambda pair: pair[0]))
    finite = {step: value for step, value in unique.items() if math.isfinite(value)}
    return Curve(name, tuple(finite), tuple(finite.values()), len(unique) - len(finite))


def curve_svg(curves: Sequence[Curve], *, title: str, names: Sequence[str] = ()) -> str:
    """Draw one quantity, of one run or of several, as an <svg> element.

    Args:
        curves: the same quantity of each run.
        title: what it is, for those who cannot see it.
        names: what each curve is called. The page colours them through --series-1, --series-2, ...
    """
    drawn = [curve for curve in curves if curve.values]
    if not drawn:
        return ""
    axis = _Axis.of([value for curve in drawn for value in curve.values])
    span = min(curve.steps[0] for curve in drawn), max(curve.steps[-1] for curve in drawn)
    labels = list(names) or [curve.name for curve in curves]
    parts = [
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_spoken(title, drawn))}" '
        'font-family="inherit" font-size="11" fill="none">',
        *_grid(axis),
        *_step_labels(span),
    ]
    for index, (curve, label) in enumerate(zip(curves, labels, strict=True)):
        if curve.values:
            parts.append(_line(curve, span, axis, index % SERIES + 1, label, end=len(drawn) == 1))
    return "".join([*parts, "</svg>"])


@dataclass(frozen=True)
class _Axis:
    """The vertical axis: from low to high, and the values that are labelled."""

    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    @classmethod
    def of(cls, values: Sequence[float]) -> "_Axis":
        low, high = min(values), max(values)
        if low > 0 and high / low >= LOG_FROM:
            decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            every = -(-len(decades) // 4)
            ticks = tuple(10.0**decade for decade in decades[::every])
            return cls(min(low, ticks[0]), max(high, ticks[-1]), ticks, logarithmic=True)
        # A flat curve needs room too; one close to zero shows zero.
        low = 0.0 if 0 < low < 0.35 * high else low
        step = _round_step((high - low) or 0.1 * abs(high) or 1.0)
        first, last = math.floor(low / step), math.ceil(high / step)
        last = max(last, first + 1)
        ticks = tuple(step * number for number in range(first, last + 1))
        return cls(ticks[0], ticks[-1], ticks)

    def place(self, value: float) -> float:
        """The vertical place of a value in the picture."""
        low, high, here = (
            (math.log(self.low), math.log(self.high), math.log(value))
            if self.logarithmic
            else (self.low, self.high, value)
        )
        return TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - (here - low) / (high - low))


def _round_step(extent: float) -> float:
    """1, 2 or 5 times a power of ten, so that about three steps make up the extent."""
    rough = extent / 3.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * 0.999) * power


def _grid(axis: _Axis) -> list[str]:
    parts = []
    for tick in axis.ticks:
        y = f"{axis.place(tick):.1f}"
        parts.append(f'<path class="rule" stroke="currentColor" stroke-opacity=".13" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        parts.append(
            f'<text x="{LEFT - 8}" y="{y}" dy=".32em" text-anchor="end" fill="currentColor" fill-opacity=".72">'
            f"{number(tick)}</text>"
        )
    return parts


def _step_labels(span: tuple[float, float]) -> list[str]:
    y = HEIGHT - 8
    style = 'fill="currentColor" fill-opacity=".72"'
    parts = [f'<text x="{LEFT}" y="{y}" {style}>{number(span[0])}</text>']
    if span[1] > span[0]:
        parts.append(f'<text x="{WIDTH - RIGHT}" y="{y}" text-anchor="end" {style}>{number(span[1])}</text>')
        parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{y}" text-anchor="middle" {style}>step</text>')
    return parts


def _line(curve: Curve, span: tuple[float, float], axis: _Axis, index: int, label: str, *, end: bool) -> str:
    raw = _thinned(list(zip(curve.steps, curve.values, strict=True)))
    smooth = _smoothed(raw)
    last_x, last_y = _x(smooth[-1][0], span), axis.place(smooth[-1][1])
    colour = f'stroke="var(--series-{index}, currentColor)"'
    parts = [f'<g class="series-{index}"><title>{escape(label)}</title>']
    if raw != smooth:
        parts.append(f'<path {colour} stroke-opacity=".28" stroke-width="1" d="{_path(raw, span, axis)}"/>')
    parts.append(
        f'<path {colour} stroke-width="2" stroke-linejoin="round" stroke-linecap="round" '
        f'd="{_path(smooth, span, axis)}"/>'
    )
    parts.append(f'<circle cx="{last_x:.1f}" cy="{last_y:.1f}" r="3" fill="var(--series-{index}, currentColor)"/>')
    if end:
        parts.append(
            f'<text x="{last_x + 8:.1f}" y="{last_y:.1f}" dy=".32em" fill="currentColor" font-size="12" '
            f'font-weight="600">{number(smooth[-1][1])}</text>'
        )
    return "".join([*parts, "</g>"])


def _x(step: float, span: tuple[float, float]) -> float:
    extent = span[1] - span[0]
    return LEFT + (WIDTH - LEFT - RIGHT) * ((step - span[0]) / extent if extent else 0.0)


def _path(points: Sequence[tuple[float, float]], span: tuple[float, float], axis: _Axis) -> str:
    return "M" + "L".join(f"{_x(step, span):.1f} {axis.place(value):.1f}" for step, value in points)


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MOST_POINTS points: of each stretch the lowest and the highest, so that spikes stay visible."""
    if len(points) <= MOST_POINTS:
        return points
    stretches = MOST_POINTS // 2
    kept: list[tuple[float, float]] = []
    for index in range(stretches):
        part = points[index * len(points) // stretches : (index + 1) * len(points) // stretches]
        extremes = {min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])}
        kept.extend(sorted(extremes))
    return kept


def _smoothed(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A centred mean over SMOOTHING of the points, half of it at the ends; curves of few points stay."""
    half = int(len(points) * SMOOTHING / 2)
    if half == 0:
        return list(points)
    values = [value for _, value in points]
    smooth = []
    for index, (step, _) in enumerate(points):
        window = values[max(0, index - half) : index + half + 1]
        smooth.append((step, sum(window) / len(window)))
    return smooth


def _spoken(title: str, curves: Sequence[Curve]) -> str:
    first, last = curves[0].values[0], curves[0].values[-1]
    if len(curves) > 1:
        return f"{title} of {len(curves)} runs"
    lost = sum(curve.not_finite for curve in curves)
    return f"{title}: from {number(first)} to {number(last)}" + (f"; {lost} values were not finite" if lost else "")


def number(value: float) -> str:
    """A number as briefly as it can be read: 12,000 · 3.4 · 0.031 · 2e-05."""
    if not math.isfinite(value):
        return "not finite"
    if value < 0:
        return "−" + number(-value)
    if value >= 1000 and value == round(value):
        return f"{value:,.0f}"
    if value == 0 or 1e-3 <= value < 1e4:
        return f"{float(f'{value:.3g}'):.10g}"
    return f"{value:.0e}"
