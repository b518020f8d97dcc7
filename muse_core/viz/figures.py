"""Attention as a still figure: the image with a query, and beside it what that looks at, in multiples of uniform.

Figures are matplotlib objects of their own; nothing global (pyplot, rcParams) stays changed. All lengths are pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from muse_core.errors import MuseError
from muse_core.text_files import readable
from muse_core.viz.lettering import DPI, INK, SOFT, balanced, face, joined, shortened, wrapped
from muse_core.viz.maps import AttentionMap, Scene
from muse_core.viz.panels import Look, Panel, Rows, map_values, rows_of, scale_of
from muse_core.viz.pixels import Floats, Pixels, colour_table, colours, quiet, reduce, upsample, veil

Style = Literal["overlay", "grid"]

WIDTH = 1640
"""Of a figure of more than two columns, however many they are: at the width of a README its words can be read."""
LEAST_CELL, MOST_CELL, TALLEST = 190, 620, 1.1
MARGIN, GUTTER, BETWEEN = 40, 24, 30
TITLE, NOTE, SMALL = 9.0, 7.5, 7.5
TITLE_LINE, LINE, AIR = 38, 29, 10
BAR = (420, 20)
LONGEST_PHOTO = 1280
"""Larger images are reduced to this: 460 dots an inch of a panel, also in PDF and SVG."""


@dataclass(frozen=True)
class _Manner:
    """How maps are drawn. end: the multiple of uniform where the scale ends. beyond: whether some patch lies there."""

    style: Style
    smooth: bool
    look: Look
    end: float
    beyond: bool


@dataclass(frozen=True)
class _Row:
    """One row of panels with its words in lines, and the heights that follow from them."""

    panels: list[Panel | None]
    titles: list[str]
    notes: list[list[str]]
    numbers: list[list[str]]
    sizes: list[tuple[int, int]]

    @property
    def head(self) -> int:
        lines = LINE * max(map(len, self.notes))
        return (TITLE_LINE if any(self.titles) else 0) + lines + (AIR if lines or any(self.titles) else 0)

    @property
    def picture(self) -> int:
        return max(height for height, _ in self.sizes)

    @property
    def height(self) -> int:
        lines = LINE * max(map(len, self.numbers))
        return self.head + self.picture + (lines + AIR if lines else 0)


def attention_figure(
    scenes: Scene | Sequence[Scene],
    *,
    style: Style = "overlay",
    smooth: bool = True,
    look: Look = "query",
    scale: float | None = None,
) -> Figure:
    """Compose the figure: a row per image and query with the image, every map, and the teacher; numbers under each.

    Args:
        scenes: one image or several.
        style: "overlay" lays maps over the image; "grid" draws the bare maps, one cell per patch.
        smooth: interpolate overlaid maps; otherwise they are laid on in blocks.
        look: what is drawn where no query is given: what a "query" looks at that is chosen as the page chooses it,
            attention "received" by each patch from all, or the "salient" region.
        scale: multiples of uniform at which the colours end, the same for all panels; chosen for them if not given.

    Raises:
        MuseError: there is nothing to draw, or more than a figure holds, or the scale is not positive.
    """
    rows = rows_of([scenes] if isinstance(scenes, Scene) else scenes, look)
    if scale is not None and not 0.0 < scale < float("inf"):
        raise MuseError(f"a scale that ends at {scale:g} times uniform draws nothing", hint="a number above 0")
    end, beyond = scale_of(rows, look, scale)
    return _composed(rows, _Manner(style, smooth, look, end, beyond))


def _composed(rows: Rows, manner: _Manner) -> Figure:
    columns = len(rows[0])
    cell = _cell(columns)
    width = max(2 * MARGIN + columns * cell + (columns - 1) * GUTTER, WIDTH // 2)
    laid = [_laid(row, above, cell) for row, above in zip(rows, [None, *rows], strict=False)]
    words = _legend(rows, width - 2 * MARGIN, manner.look)
    height = 2 * MARGIN + sum(row.height + BETWEEN for row in laid) + BAR[1] + 2 * LINE + AIR + LINE * len(words)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    top = MARGIN
    for row in laid:
        for place in range(columns):
            _draw(figure, row, place, (MARGIN + place * (cell + GUTTER), top), manner)
        top += row.height + BETWEEN
    _draw_key(figure, top, manner)
    for number, line in enumerate(words):
        _write(figure, MARGIN, top + BAR[1] + 2 * LINE + AIR + number * LINE, line, size=SMALL, colour=SOFT)
    return figure


def _cell(columns: int) -> int:
    fitting = (WIDTH - 2 * MARGIN - (columns - 1) * GUTTER) // columns
    return min(max(fitting, LEAST_CELL), MOST_CELL)


def _laid(panels: list[Panel | None], above: list[Panel | None] | None, cell: int) -> _Row:
    """Set the words of a row in the width of its cells; what stands in the row above is not said again."""
    over = above or [None] * len(panels)
    headings = [
        ("", "") if panel is None or (other and panel.heading == other.heading) else panel.heading
        for panel, other in zip(panels, over, strict=True)
    ]
    return _Row(
        panels,
        titles=[shortened(title, cell, TITLE, "bold") for title, _ in headings],
        notes=[wrapped(note, cell, NOTE) for _, note in headings],
        numbers=[balanced(panel.parts, cell, SMALL) if panel else [] for panel in panels],
        sizes=[_size(panel.scene, cell) if panel else (0, 0) for panel in panels],
    )


def _size(scene: Scene, cell: int) -> tuple[int, int]:
    """(height, width) of the picture of a scene in a cell."""
    height, width = scene.size
    factor = min(cell / width, TALLEST * cell / height)
    return max(1, round(height * factor)), max(1, round(width * factor))


def _draw(figure: Figure, row: _Row, place: int, corner: tuple[int, int], manner: _Manner) -> None:
    panel, (left, top) = row.panels[place], corner
    if panel is None:
        return
    _write(figure, left, top, row.titles[place], size=TITLE, weight="bold")
    below_title = top + (TITLE_LINE if any(row.titles) else 0)
    for number, line in enumerate(row.notes[place]):
        _write(figure, left, below_title + number * LINE, line, size=NOTE, colour=SOFT)
    height, width = row.sizes[place]
    _draw_panel(_axes(figure, left, top + row.head, width, height), panel, manner)
    for number, line in enumerate(row.numbers[place]):
        _write(figure, left, top + row.head + height + AIR + number * LINE, line, size=SMALL, colour=SOFT)


def _draw_panel(axes: Axes, panel: Panel, manner: _Manner) -> None:
    scene, attention = panel.scene, panel.attention
    height, width = scene.size
    photo = reduce(scene.pixels, LONGEST_PHOTO)
    whole = (0, width, height, 0)
    if attention is None:
        _show(axes, photo, whole)
    else:
        high, wide = attention.span or scene.size
        values = map_values(attention, scene.size, panel.query, look=manner.look) / manner.end
        if manner.style == "overlay":
            _show(axes, quiet(photo), whole)
        _show(axes, _painted(values, manner), (0, wide, high, 0))
    if panel.query is not None:
        _mark(axes, panel.query, small=panel.brief)
        if attention is not None and manner.style == "grid":
            _outline(axes, attention, attention.patch_at(*panel.query, scene.size), scene.size)
    # A grid may reach beyond the image: what lies there is cut off.
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def _show(axes: Axes, pixels: Pixels, place: tuple[float, float, float, float]) -> None:
    axes.imshow(pixels, interpolation="antialiased", extent=place, aspect="auto")


def _painted(values: Floats, manner: _Manner) -> Pixels:
    """Colour a map (h, w), 1 being the end of the scale, finely enough that every resampling leaves it as it is."""
    factor = -(-LONGEST_PHOTO // (2 * max(values.shape)))
    rows, columns = values.shape
    smooth = manner.smooth and manner.style == "overlay"
    fine = upsample(values, rows * factor, columns * factor, smooth=smooth)
    return veil(fine) if manner.style == "overlay" else colours(fine)


def _mark(axes: Axes, query: tuple[float, float], *, small: bool) -> None:
    """A white ring with a dark rim, around the middle of the queried pixel; at a border it is not cut off."""
    x, y, size = query[0] + 0.5, query[1] + 0.5, 4.5 if small else 7.0
    for colour, edge in (("#000000aa", 3.0), ("white", 1.4)):
        axes.plot(
            x, y, "o", markersize=size, markerfacecolor="none", markeredgecolor=colour, markeredgewidth=edge,
            clip_on=False,
        )  # fmt: skip


def _outline(axes: Axes, attention: AttentionMap, patch: int, image: tuple[int, int]) -> None:
    high, wide = attention.span or image
    row, column = divmod(patch, attention.grid[1])
    step_y, step_x = high / attention.grid[0], wide / attention.grid[1]
    axes.add_patch(
        Rectangle((column * step_x, row * step_y), step_x, step_y, fill=False, edgecolor="white", linewidth=1.2)
    )


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    total_width, total_height = figure.get_size_inches() * DPI
    axes: Axes = figure.add_axes(
        (left / total_width, 1 - (top + height) / total_height, width / total_width, height / total_height)
    )
    axes.set_axis_off()
    return axes


def _draw_key(figure: Figure, top: float, manner: _Manner) -> None:
    """The colour bar, in the colours that the maps have over a grey image, with numbers."""
    axes = _axes(figure, MARGIN, top, *BAR)
    ramp = np.linspace(0.0, 1.0, 256, dtype=np.float32)[None]
    if manner.style == "overlay":
        axes.imshow(np.full((1, 1, 3), 128, np.uint8), extent=(0, 1, 0, 1), aspect="auto")
    axes.imshow(veil(ramp) if manner.style == "overlay" else colour_table()[None], extent=(0, 1, 0, 1), aspect="auto")
    salient = manner.look == "salient" and manner.end == 1.0
    for value, words in _ticks(manner):
        left = MARGIN + BAR[0] * value
        _write(figure, left, top + BAR[1] + 6, words, size=SMALL, colour=SOFT, align="center" if value else "left")
    meaning = (
        "strength of the salient region" if salient else "attention in multiples of uniform (1: all patches alike)"
    )
    _write(figure, MARGIN + BAR[0] + 20, top - 4, meaning, size=SMALL, colour=INK)


def _ticks(manner: _Manner) -> list[tuple[float, str]]:
    """Where on the bar (0 to 1) which number stands; 1 × uniform is among them where there is room."""
    end = manner.end
    inner = [value for value in (1.0, end / 2) if 0.08 * end < value < end]
    last = f"≥ {end:g}" if manner.beyond else f"{end:g}"
    return [(0.0, "0"), *((value / end, f"{value:g}") for value in dict.fromkeys(inner)), (1.0, last)]


def _legend(rows: Rows, width: float, look: Look) -> list[str]:
    """The words at the foot: what the numbers below the maps mean, and what else has to be known."""
    panels = [panel for row in rows for panel in row if panel]
    scenes = [panel.scene for panel in panels]
    parts = ["entropy: % of uniform", "reach: mean distance looked at, % of the diagonal", "peak: × uniform"]
    told = {part.split()[0] for panel in panels for part in panel.parts}
    if any(scene.teacher for scene in scenes):
        parts.insert(0, "agreement: 1 − total variation from the teacher")
    lines = joined([part for part in parts if part.split(":")[0] in told], width, SMALL)
    if any(panel.query is None for panel in panels):
        shown = "" if look == "salient" else "what each patch receives on average over all queries; "
        lines += wrapped(f"{shown}numbers are means over all queries", width, SMALL)
    if any(scene.chosen for scene in scenes):
        lines += wrapped("query: the most decided patch, that of least entropy in the first map", width, SMALL)
    silent = dict.fromkeys(name for scene in scenes for name in scene.silent)
    return lines + (wrapped(f"no attention to show: {', '.join(silent)}", width, SMALL) if silent else [])


def _write(
    figure: Figure,
    left: float,
    top: float,
    words: str,
    *,
    size: float,
    weight: str = "normal",
    colour: str = INK,
    align: Literal["left", "center"] = "left",
) -> None:
    if not words:
        return
    width, height = figure.get_size_inches() * DPI
    figure.text(
        left / width,
        1 - top / height,
        readable(words),
        fontsize=size,
        fontweight=weight,
        color=colour,
        va="top",
        ha=align,
        family=face(),
        parse_math=False,  # a name may hold a dollar sign
    )


def figure_bytes(figure: Figure, kind: str = "png") -> bytes:
    """A figure as the bytes of a png, svg or pdf file, the same at any time."""
    stream = BytesIO()
    for axes in figure.axes if kind in ("svg", "pdf") else []:
        for image in axes.images:
            image.set_interpolation("none")  # images go into these files at their own resolution
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "muse"}):  # letters stay letters in PDF
        figure.savefig(stream, format=kind, dpi=DPI, metadata=undated)
    return stream.getvalue()
