"""What an attention figure shows: its panels in rows, the words at each, and the one scale of them all.

Letters: h x w patches, N = h*w.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from muse_core.errors import MuseError
from muse_core.viz.maps import AttentionMap, Numbers, Scene, numbers, times_uniform, with_queries
from muse_core.viz.pixels import Floats, common_end
from muse_core.viz.saliency import salient_region

Look = Literal["query", "received", "salient"]
Point = tuple[float, float]

NBSP = "\u00a0"
COLUMNS = 6
MOST_ROWS = 64


@dataclass(frozen=True)
class Panel:
    """One picture of a figure: a map of the scene, or the image itself where `attention` is None.

    heading: name and note above it. query: None where all patches are queries.
    brief: there is room for one number only.
    """

    scene: Scene
    attention: AttentionMap | None
    query: Point | None
    heading: tuple[str, str]
    brief: bool = False

    @property
    def parts(self) -> list[str]:
        """The numbers below it, the most telling one first."""
        if self.attention is None:
            return []
        size = self.scene.size
        patch = None if self.query is None else self.attention.patch_at(*self.query, size)
        told = in_short(numbers(self.attention, self.scene.teacher, patch, size))
        return told[:1] if self.brief else told


Rows = list[list[Panel | None]]


def in_short(values: Numbers) -> list[str]:
    """The numbers of a map as they stand in figures, whose legend says the units."""
    shared = [] if values.agreement is None else [f"agreement {values.agreement:.2f}"]
    return [
        *shared,
        f"entropy {100 * values.of_uniform:.0f}{NBSP}%",
        f"reach {100 * values.of_diagonal:.0f}{NBSP}%",
        f"peak {values.peak:.1f}{NBSP}×",
    ]


def in_full(values: Numbers) -> str:
    """The same numbers as a sentence that needs no legend."""
    shared = "" if values.agreement is None else f", agreement with the teacher {values.agreement:.2f}"
    return (
        f"entropy {values.entropy:.2f} nats ({100 * values.of_uniform:.0f}% of uniform), "
        f"mean reach {100 * values.of_diagonal:.0f}% of the diagonal, peak {values.peak:.1f} x uniform{shared}"
    )


def rows_of(scenes: Sequence[Scene], look: Look) -> Rows:
    """Lay out the panels: each query of each scene begins a row, with the image first and the teacher last.

    Raises:
        MuseError: they are more rows than a figure holds.
    """
    if look == "query":
        scenes = [with_queries(scene) for scene in scenes]
    rows = [row for scene in scenes for query in scene.queries or (None,) for row in _rows(scene, query)]
    if len(rows) > MOST_ROWS:
        raise MuseError(f"one figure holds {MOST_ROWS} rows, not {len(rows)}", hint="fewer images, points or blocks")
    width = max(len(row) for row in rows)
    return [row + [None] * (width - len(row)) for row in rows]


def _rows(scene: Scene, query: Point | None) -> Rows:
    first = Panel(scene, None, query, (scene.title or "image", _asked(scene, query)))
    if _is_matrix(scene.maps):
        return _matrix(scene, query, first)
    panels = [first, *(Panel(scene, each, query, (each.name, each.note)) for each in scene.drawn)]
    # Rows of equal length read better than a full one and a stub.
    length = -(-len(panels) // -(-len(panels) // COLUMNS))
    return [list(panels[start : start + length]) for start in range(0, len(panels), length)]


def _asked(scene: Scene, query: Point | None) -> str:
    height, width = scene.size
    size = f"{width}{NBSP}×{NBSP}{height}"
    return f"{size} pixels" if query is None else f"query{NBSP}{query[0]:g},{NBSP}{query[1]:g} of{NBSP}{size}"


def _is_matrix(maps: Iterable[AttentionMap]) -> bool:
    numbered = [(each.block, each.head) for each in maps if each.block is not None and each.head is not None]
    return len({block for block, _ in numbered}) > 1 and len({head for _, head in numbered}) > 1


def _matrix(scene: Scene, query: Point | None, first: Panel) -> Rows:
    """A row for each block, a column for each head; the image, and below it the teacher, stand before them."""
    blocks: dict[tuple[str, int | None], list[AttentionMap]] = {}
    for each in scene.maps:
        blocks.setdefault((each.name, each.block), []).append(each)
    below: Panel | None = None
    if scene.teacher:
        below = Panel(scene, scene.teacher, query, ("", scene.teacher.name), brief=True)
    rows: Rows = []
    named = ""
    for place, ((name, _), maps) in enumerate(blocks.items()):
        front = first if place == 0 else below if place == 1 else None
        titles = ["" if name == named else name, *[""] * (len(maps) - 1)]
        panels = [
            Panel(scene, each, query, (title, each.note), brief=True) for each, title in zip(maps, titles, strict=True)
        ]
        rows.append([front, *panels])
        named = name
    return rows


def map_values(
    attention: AttentionMap, image: tuple[int, int], query: Point | None = None, *, look: Look = "received"
) -> Floats:
    """The map (h, w) to draw for an image of (H, W) pixels, in multiples of uniform.

    What a query's patch looks at; without one what all patches look at together, or the strength (0 to 1) of the
    "salient" region.
    """
    if query is None and look == "salient":
        return np.asarray(salient_region(attention.weights, attention.grid).strength, dtype=np.float32)
    patch = None if query is None else attention.patch_at(*query, image)
    return times_uniform(attention, patch).reshape(attention.grid)


def scale_of(rows: Rows, look: Look, end: float | None = None) -> tuple[float, bool]:
    """Return where the scale of all panels ends, a round multiple of uniform, and whether some patch lies beyond."""
    maps = [_values(panel, look) for row in rows for panel in row if panel and panel.attention]
    if look == "salient" and all(panel.query is None for row in rows for panel in row if panel):
        return 1.0, False
    if end is None:
        end = common_end(maps)
    return end, max(float(values.max()) for values in maps) > end


def _values(panel: Panel, look: Look) -> Floats:
    assert panel.attention is not None
    return map_values(panel.attention, panel.scene.size, panel.query, look=look)
