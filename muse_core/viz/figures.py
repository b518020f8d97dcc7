"""Attention as a still figure: what patches look at, drawn over the image or cell by cell.

Figures are matplotlib objects of their own; nothing global (pyplot, rcParams) is touched. All lengths are pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.patches import Rectangle

from muse_core.viz.maps import AttentionMap, Numbers, Scene, numbers, received
from muse_core.viz.pixels import (
    Floats,
    Pixels,
    colour_table,
    colours,
    enlarge,
    overlay,
    reduce,
    shades,
    upsample,
    whole_factor,
)
from muse_core.viz.saliency import salient_region

Style = Literal["overlay", "grid"]
Look = Literal["received", "salient"]

PANEL, DPI = 448, 200
MARGIN, GUTTER, HEAD, FOOT, KEY = 48, 28, 76, 136, 76
COLUMNS = 5
INK, SOFT = "#1b1d22", "#5f6570"
FACES = ("Inter", "Helvetica Neue", "Helvetica", "Arial", "Liberation Sans", "DejaVu Sans")


@dataclass(frozen=True)
class _Panel:
    """One picture of a figure: a map of the scene, or the image itself where `attention` is None."""

    attention: AttentionMap | None
    query: tuple[float, float] | None


def attention_figure(scene: Scene, *, style: Style = "overlay", smooth: bool = True, look: Look = "received") -> Figure:
    """Compose the figure: per query a row with the image, every map, and the teacher; numbers under each."""
    rows = list(_rows(scene))
    ground = _ground(scene)
    cell = max(ground.shape[1], PANEL), ground.shape[0]
    columns = max(len(row) for row in rows)
    width = 2 * MARGIN + columns * cell[0] + (columns - 1) * GUTTER
    top = MARGIN + (60 if scene.title else 0)
    height = top + len(rows) * (HEAD + cell[1] + FOOT) + KEY
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    if scene.title:
        _write(figure, MARGIN, MARGIN, scene.title, size=11, weight="bold")
    for index, row in enumerate(rows):
        for place, panel in enumerate(row):
            left = MARGIN + place * (cell[0] + GUTTER)
            _draw(figure, scene, panel, (left, top + index * (HEAD + cell[1] + FOOT)), ground, (style, smooth, look))
    _draw_key(figure, height - KEY, scene)
    return figure


def _rows(scene: Scene) -> Iterator[list[_Panel]]:
    """Panels in rows of at most COLUMNS; each query begins a new one."""
    for query in scene.queries or (None,):
        panels = [_Panel(None, query), *(_Panel(attention, query) for attention in scene.drawn)]
        # Rows of equal length read better than a full one and a stub.
        rows = -(-len(panels) // COLUMNS)
        length = -(-len(panels) // rows)
        yield from (panels[start : start + length] for start in range(0, len(panels), length))


def _ground(scene: Scene) -> Pixels:
    small = reduce(scene.pixels, PANEL)
    return enlarge(small, whole_factor(small, PANEL))


def _draw(
    figure: Figure,
    scene: Scene,
    panel: _Panel,
    corner: tuple[int, int],
    ground: Pixels,
    manner: tuple[Style, bool, Look],
) -> None:
    left, top = corner
    height, width = ground.shape[:2]
    attention = panel.attention
    _write(figure, left, top + 4, _short(attention.name if attention else "image", 30), size=8.5, weight="bold")
    _write(figure, left, top + 36, _short(_under_name(scene, panel), 40), size=7, colour=SOFT)
    axes = _axes(figure, left, top + HEAD, width, height)
    picture = ground if attention is None else _picture(scene, attention, panel.query, ground, manner)
    axes.imshow(picture, interpolation="none", extent=(0, scene.size[1], scene.size[0], 0), aspect="auto")
    if panel.query is not None:
        _mark(axes, panel.query)
    if attention is not None:
        patch = None if panel.query is None else attention.patch_at(*panel.query, scene.size)
        if patch is not None and manner[0] == "grid":
            _outline(axes, attention, patch, scene.size)
        for number, line in enumerate(_lines(numbers(attention, scene.teacher, patch))):
            _write(figure, left, top + HEAD + height + 10 + number * 30, line, size=7, colour=SOFT)


def _short(words: str, length: int) -> str:
    return words if len(words) <= length else words[: length - 1] + "…"


def _under_name(scene: Scene, panel: _Panel) -> str:
    if panel.attention is not None:
        return panel.attention.note
    if panel.query is not None:
        # Of the picture as it was looked at, which may be smaller than the file: the size is said with it.
        return f"query at {panel.query[0]:.0f}, {panel.query[1]:.0f} of {scene.size[1]} × {scene.size[0]}"
    return f"{scene.size[1]} × {scene.size[0]} pixels"


def _picture(
    scene: Scene,
    attention: AttentionMap,
    query: tuple[float, float] | None,
    ground: Pixels,
    manner: tuple[Style, bool, Look],
) -> Pixels:
    style, smooth, look = manner
    values = map_values(attention, scene.size, query, look=look)
    # All patches together look nearly everywhere: only the difference between most and least shows where they meet.
    values = shades(values if query else values - values.min())
    high, wide = attention.span or scene.size
    height, width = ground.shape[:2]
    # The grid may reach beyond the image: draw all of it, then cut what lies outside.
    whole = round(height * high / scene.size[0]), round(width * wide / scene.size[1])
    spread = upsample(values, *whole, smooth=smooth and style == "overlay")[:height, :width]
    return overlay(ground, spread) if style == "overlay" else colours(spread)


def map_values(
    attention: AttentionMap,
    image: tuple[int, int],
    query: tuple[float, float] | None = None,
    *,
    look: Look = "received",
) -> Floats:
    """The map (h, w) to draw for an image of (H, W) pixels: one query's row, or what all patches look at together."""
    if query is not None:
        return np.asarray(attention.mean[attention.patch_at(*query, image)].reshape(attention.grid))
    if look == "salient":
        return np.asarray(salient_region(attention.weights, attention.grid).strength, dtype=np.float32)
    return received(attention.mean).reshape(attention.grid)


def _lines(values: Numbers) -> list[str]:
    lines = [
        f"entropy {values.entropy:.2f} nats, {100 * values.of_uniform:.0f} % of uniform",
        f"mean reach {values.reach:.1f} patches, peak {values.peak:.1f} × uniform",
    ]
    if values.agreement is not None:
        lines.append(f"agreement with teacher {values.agreement:.2f}")
    return lines


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    total_width, total_height = figure.get_size_inches() * DPI
    axes: Axes = figure.add_axes(
        (left / total_width, 1 - (top + height) / total_height, width / total_width, height / total_height)
    )
    axes.set_axis_off()
    return axes


def _mark(axes: Axes, query: tuple[float, float]) -> None:
    """A white ring with a dark rim, around the middle of the queried pixel."""
    x, y = query[0] + 0.5, query[1] + 0.5
    axes.plot(x, y, "o", markersize=8, markerfacecolor="none", markeredgecolor="#000000aa", markeredgewidth=3.2)
    axes.plot(x, y, "o", markersize=8, markerfacecolor="none", markeredgecolor="white", markeredgewidth=1.6)


def _outline(axes: Axes, attention: AttentionMap, patch: int, image: tuple[int, int]) -> None:
    high, wide = attention.span or image
    row, column = divmod(patch, attention.grid[1])
    step_y, step_x = high / attention.grid[0], wide / attention.grid[1]
    axes.add_patch(
        Rectangle((column * step_x, row * step_y), step_x, step_y, fill=False, edgecolor="white", linewidth=1.2)
    )


def _draw_key(figure: Figure, top: float, scene: Scene) -> None:
    axes = _axes(figure, MARGIN, top + 10, 180, 16)
    axes.imshow(colour_table()[None], aspect="auto", interpolation="none")
    words = f"{'zero' if scene.queries else 'least'} to most attended patch of each picture"
    if scene.teacher:
        words += "   ·   agreement: 1 − total variation, mean over queries"
    _write(figure, MARGIN + 196, top + 6, words, size=6.5, colour=SOFT)
    if scene.silent:
        _write(figure, MARGIN, top + 34, f"no attention to show: {', '.join(scene.silent)}", size=6.5, colour=SOFT)


def _write(
    figure: Figure, left: float, top: float, words: str, *, size: float, weight: str = "normal", colour: str = INK
) -> None:
    width, height = figure.get_size_inches() * DPI
    figure.text(
        left / width,
        1 - top / height,
        words,
        fontsize=size,
        fontweight=weight,
        color=colour,
        va="top",
        family=_face(),
        parse_math=False,  # a name may hold a dollar sign
    )


@cache
def _face() -> str:
    """The first preferred typeface on this machine; asking matplotlib for a missing one would make it complain."""
    present = {entry.name for entry in fontManager.ttflist}
    return next((face for face in FACES if face in present), "sans-serif")


def figure_bytes(figure: Figure, kind: str = "png") -> bytes:
    """A figure as the bytes of a png or svg file."""
    stream = BytesIO()
    figure.savefig(stream, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
    return stream.getvalue()
