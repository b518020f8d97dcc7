"""Attention one can move through: a page, or a part of the report, in which the pointer moves the query.

The weights travel inside the page as bytes, so it needs no server and no network.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from muse_core.viz.embedding import picture_url
from muse_core.viz.figures import attention_figure, figure_bytes
from muse_core.viz.maps import (
    AttentionMap,
    Scene,
    agreement,
    entropy,
    numbers,
    reach_of_diagonal,
    regrid,
    starting_points,
)
from muse_core.viz.panels import rows_of, scale_of
from muse_core.viz.pixels import FAINT, QUIET, STRONG, Pixels, colour_table, reduce

LONGEST_GRID = 24
"""Finer grids are averaged to this many patches along the longer side: 24 x 24 patches are 0.4 MB a map."""

LONGEST_IMAGE = 640
LONGEST_STILL = 1000


@dataclass(frozen=True)
class Explorer:
    """What the template needs of some scenes: the data, and a picture for readers without scripts.

    scale: the multiple of uniform at which the colours end. compared: whether there is a teacher, so that agreement
    needs explaining. silent: who has no attention to show.
    """

    data: dict[str, object]
    still: str
    alt: str
    scale: float
    compared: bool
    silent: tuple[str, ...] = ()


@cache
def templates() -> Environment:
    """The templates of this package: escaping on, a misspelt name is an error."""
    return Environment(
        loader=PackageLoader("muse_core.viz"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def explorer_page(scenes: Sequence[Scene], *, title: str = "Attention", scale: float | None = None) -> str:
    """A self-contained html page in which moving the pointer moves the query; `scale` as in `attention_figure`."""
    page = templates().get_template("explorer.html.jinja")
    return page.render(title=title, explorer=explorer(scenes, scale=scale))


def explorer(scenes: Sequence[Scene], longest_grid: int = LONGEST_GRID, scale: float | None = None) -> Explorer:
    """Prepare scenes for the template `explorer.part.jinja`; finer grids are averaged to `longest_grid`.

    Colours and numbers are those that `attention_figure` gives the scenes at the points where the page starts.
    """
    starts = starting_points(scenes)
    first = [replace(scene, queries=(start,)) for scene, start in zip(scenes, starts, strict=True)]
    end, _ = scale_of([row for scene in first for row in rows_of([scene], "query")], "query", scale)
    data: dict[str, object] = {
        "colours": _bytes64(colour_table()),
        "blend": [QUIET, FAINT, STRONG],
        "scale": end,
        "scenes": [_scene(scene, start, longest_grid) for scene, start in zip(scenes, starts, strict=True)],
    }
    silent = tuple(dict.fromkeys(name for scene in scenes for name in scene.silent))
    compared = any(scene.teacher for scene in scenes)
    return Explorer(data, picture_url(_still(first[0], end)), _describe(first[0]), end, compared, silent)


def _scene(scene: Scene, start: tuple[float, float], longest_grid: int) -> dict[str, object]:
    height, width = scene.size
    return {
        "title": scene.title,
        "image": picture_url(reduce(scene.pixels, LONGEST_IMAGE)),
        "width": width,
        "height": height,
        "start": [(int(start[0]) + 0.5) / width, (int(start[1]) + 0.5) / height],
        "maps": [
            _map(each, scene, None if each is scene.teacher else scene.teacher, longest_grid) for each in scene.drawn
        ],
    }


def _light(attention: AttentionMap, longest_grid: int) -> AttentionMap:
    longest = max(attention.grid)
    if longest <= longest_grid:
        return attention
    high, wide = (max(1, round(side * longest_grid / longest)) for side in attention.grid)
    note = ", ".join(part for part in (attention.note, f"averaged to {high} x {wide} patches") if part)
    return replace(
        attention, weights=regrid(attention.mean, attention.grid, (high, wide)), grid=(high, wide), note=note
    )


def _map(attention: AttentionMap, scene: Scene, teacher: AttentionMap | None, longest_grid: int) -> dict[str, object]:
    """Weights of a light grid as bytes relative to each row's peak (top, in multiples of uniform), and the numbers of
    every query on the map's own grid: entropy in nats, reach in % of the diagonal, peak in multiples of uniform.
    """
    light = _light(attention, longest_grid)
    top = light.mean.max(1)
    high, wide = attention.span or scene.size
    return {
        "name": attention.name,
        "note": light.note,
        "grid": list(light.grid),
        "span": [high / scene.size[0], wide / scene.size[1]],
        "weights": _bytes64(np.rint(light.mean / top[:, None] * 255.0).astype(np.uint8)),
        "top": _rounded(top * top.size),
        "queries": list(attention.grid),
        "peak": _rounded(attention.mean.max(1) * attention.mean.shape[0]),
        "entropy": _rounded(entropy(attention.mean)),
        "reach": _rounded(100.0 * reach_of_diagonal(attention, scene.size)),
        "agreement": None if teacher is None else _rounded(_agreement(attention, teacher)),
    }


def _agreement(attention: AttentionMap, teacher: AttentionMap) -> NDArray[np.float32]:
    return agreement(attention.mean, regrid(teacher.mean, teacher.grid, attention.grid))


def _rounded(values: NDArray[np.float32]) -> list[float]:
    return [round(float(value), 2) for value in values]


def _bytes64(values: NDArray[np.uint8]) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _still(scene: Scene, scale: float) -> Pixels:
    with Image.open(BytesIO(figure_bytes(attention_figure(scene, scale=scale)))) as image:
        return reduce(np.asarray(image.convert("RGB")), LONGEST_STILL)


def _describe(scene: Scene) -> str:
    x, y = scene.queries[0]
    parts = []
    for attention in scene.drawn:
        shared = numbers(attention, scene.teacher, attention.patch_at(x, y, scene.size)).agreement
        parts.append(attention.name + ("" if shared is None else f" (agreement {shared:.2f})"))
    return f"Where the point {x:.0f}, {y:.0f} looks, according to {', '.join(parts)}"
