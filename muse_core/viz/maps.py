"""Attention of one image as a value, and the numbers that describe it.

Letters: H x W pixels, h x w patches, N = h*w. Patches are counted row by row; rows of a weight matrix are queries.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from muse_core.errors import ExitCode, MuseError
from muse_core.viz.kinds import refuse_other_heads
from muse_core.viz.pixels import Floats, Pixels, as_floats, as_pixels

ROW_TOLERANCE = 0.01
"""Rows may miss a sum of 1 by this much: half precision does."""


@dataclass(frozen=True)
class AttentionMap:
    """Where the patches of one image look in one layer of one network.

    Args:
        name: what stands above the picture, such as the tokenizer's name.
        weights: (heads, N, N) or (N, N), patches only, each row a query whose weights sum to 1.
        grid: (h, w).
        note: what the name leaves open, such as "block 2, mean of 4 heads".
        span: (H', W') pixels of the scene that the grid covers when the image was padded on the right and below;
            without it the grid covers the image.
        block: its number, from 0; None where it does not matter.
        head: its number, from 0; None for all of them together.

    Raises:
        MuseError: the shapes do not fit, or rows do not sum to 1.
    """

    name: str
    weights: Floats
    grid: tuple[int, int]
    note: str = ""
    span: tuple[float, float] | None = None
    block: int | None = None
    head: int | None = None

    def __post_init__(self) -> None:
        weights = as_floats(self.weights, f"the attention of '{self.name}'")
        weights = weights[None] if weights.ndim == 2 else weights
        patches = self.grid[0] * self.grid[1]
        if weights.ndim != 3 or weights.shape[1:] != (patches, patches):
            raise MuseError(
                f"the attention of '{self.name}' has shape {np.shape(self.weights)}; a grid of {self.grid[0]} x "
                f"{self.grid[1]} patches needs (heads, {patches}, {patches}), without class or register tokens"
            )
        worst = float(np.abs(weights.sum(-1) - 1.0).max())
        if worst > ROW_TOLERANCE or weights.min() < 0.0:
            raise MuseError(f"rows of the attention of '{self.name}' must sum to 1; one misses it by {worst:.3g}")
        object.__setattr__(self, "weights", weights)

    @property
    def heads(self) -> int:
        """How many heads there are."""
        return int(self.weights.shape[0])

    @property
    def mean(self) -> Floats:
        """The mean of the heads, (N, N)."""
        return np.asarray(self.weights.mean(0))

    def patch_at(self, x: float, y: float, image: tuple[int, int]) -> int:
        """The number of the patch that covers pixel (x, y) of an image of (H, W) pixels."""
        high, wide = self.span or image
        middle_y, middle_x = int(y) + 0.5, int(x) + 0.5  # of the pixel: patches need not end where pixels do
        row, column = int(middle_y * self.grid[0] / high), int(middle_x * self.grid[1] / wide)
        return min(row, self.grid[0] - 1) * self.grid[1] + min(column, self.grid[1] - 1)


def heads_of(attention: AttentionMap, head: int | str = "mean") -> tuple[AttentionMap, ...]:
    """Choose what to draw of a map: one head (from 0), their "mean", or "all" of them one by one.

    Raises:
        MuseError: there is no such head.
    """
    if head == "mean":
        note = f"mean of {attention.heads} heads" if attention.heads > 1 else ""
        return (replace(attention, weights=attention.mean, note=_joined(attention.note, note)),)
    refuse_other_heads(head, attention.heads, attention.name)
    chosen = range(attention.heads) if head == "all" else [int(head)]
    return tuple(
        replace(
            attention, weights=attention.weights[number], note=_joined(attention.note, f"head {number}"), head=number
        )
        for number in chosen
    )


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Scene:
    """One image with the attention of one or several networks.

    Args:
        image: (3, h, w) in [0, 1].
        maps: what is drawn side by side; several heads of a map are averaged (see `heads_of`).
        teacher: the map that the others are compared with.
        queries: points (x, y) in pixels of the scene whose attention is asked for.
        title: stands above the image.
        silent: names of networks that were asked for and have no attention to show; said beside the maps.
        full_size: (H, W), where `image` is a smaller copy: queries and spans count the pixels of this size.
        chosen: `queries` were not asked for (see `with_queries`).

    Raises:
        MuseError: there is no map, or a query lies outside the image.
    """

    image: ArrayLike
    maps: tuple[AttentionMap, ...]
    teacher: AttentionMap | None = None
    queries: tuple[tuple[float, float], ...] = ()
    title: str = ""
    silent: tuple[str, ...] = ()
    full_size: tuple[int, int] | None = None
    chosen: bool = False
    pixels: Pixels = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixels", as_pixels(self.image))
        if not self.maps:
            raise MuseError("there is nothing to draw: no attention was given")
        refuse_outside(self.queries, self.size)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W), in whose pixels queries and spans count."""
        return self.full_size or (int(self.pixels.shape[0]), int(self.pixels.shape[1]))

    @property
    def drawn(self) -> tuple[AttentionMap, ...]:
        """All maps with the teacher last."""
        return (*self.maps, self.teacher) if self.teacher else self.maps


def refuse_outside(queries: Iterable[tuple[float, float]], size: tuple[int, int], name: str = "the image") -> None:
    """Refuse points (x, y) outside an image of (H, W) pixels.

    Raises:
        MuseError: one lies outside.
    """
    height, width = size
    for x, y in queries:
        if not (0 <= x < width and 0 <= y < height):
            raise MuseError(
                f"the query {x:g},{y:g} lies outside {name}",
                hint=f"x goes from 0 to {width - 1} and y from 0 to {height - 1}",
                exit_code=ExitCode.SETTINGS,
            )


def received(weights: Floats) -> Floats:
    """How much attention each patch receives, (N,) as a multiple of what it would get if all looked everywhere."""
    return np.asarray(weights.mean(0) * weights.shape[0])


def entropy(weights: Floats) -> Floats:
    """Entropy in nats of each row, (N,); ln N for a row that looks everywhere alike."""
    logs = np.log(weights, out=np.zeros_like(weights), where=weights > 0.0)
    return np.asarray(-(weights * logs).sum(-1))


def reach(weights: Floats, grid: tuple[int, int], patch: tuple[float, float] = (1.0, 1.0)) -> Floats:
    """Mean distance between a query and what it looks at, (N,), for patches of (height, width); in patches without."""
    rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    down, across = (rows[:, None] - rows[None]) * patch[0], (columns[:, None] - columns[None]) * patch[1]
    return np.asarray((weights * np.hypot(down, across).astype(np.float32)).sum(-1))


def reach_of_diagonal(attention: AttentionMap, image: tuple[float, float]) -> Floats:
    """Mean distance between a query and what it looks at, (N,), as a fraction of the diagonal of the image (H, W)."""
    (high, wide), (rows, columns) = attention.span or image, attention.grid
    pixels = reach(attention.mean, attention.grid, (high / rows, wide / columns))
    return np.asarray(pixels / np.hypot(*image), dtype=np.float32)


def agreement(first: Floats, second: Floats) -> Floats:
    """1 minus the total variation of two maps over the same patches, (N,): the share of attention that coincides."""
    return np.asarray(np.minimum(first, second).sum(-1))


def regrid(weights: Floats, grid: tuple[int, int], to: tuple[int, int]) -> Floats:
    """Bring (N, N) weights to another grid: keys keep their mass, queries are averaged by area, rows sum to 1."""
    if grid == to:
        return weights
    rows, columns = _shares(grid[0], to[0]), _shares(grid[1], to[1])
    share = np.einsum("ah,bw->abhw", rows, columns).reshape(to[0] * to[1], grid[0] * grid[1])
    queries = share / share.sum(1, keepdims=True)
    return np.asarray(queries @ weights @ share.T, dtype=np.float32)


def _shares(source: int, target: int) -> Floats:
    """(target, source): the part of each of `source` equal cells of a line that falls into each of `target` cells."""
    starts, edges = np.arange(source) / source, np.arange(target + 1) / target
    ends = starts + 1.0 / source
    parts = np.minimum(edges[1:, None], ends[None]) - np.maximum(edges[:-1, None], starts[None])
    return (parts.clip(0.0) * source).astype(np.float32)


@dataclass(frozen=True)
class Numbers:
    """What stands under a map: at one query, or the mean over all patches as queries.

    entropy: nats. of_uniform: entropy as a fraction of that of a map that looks everywhere alike.
    reach: mean distance looked at, in patches. of_diagonal: the same as a fraction of the image's diagonal.
    peak: the largest weight drawn, in multiples of uniform.
    agreement: with the teacher, 1 - total variation; None for the teacher itself.
    """

    entropy: float
    of_uniform: float
    reach: float
    of_diagonal: float
    peak: float
    agreement: float | None


def numbers(
    attention: AttentionMap,
    teacher: AttentionMap | None,
    patch: int | None = None,
    image: tuple[int, int] | None = None,
) -> Numbers:
    """Describe a map of an image of (H, W) pixels, else one of square patches, at one patch or on average over all."""
    weights, patches = attention.mean, attention.grid[0] * attention.grid[1]
    chosen = slice(None) if patch is None else slice(patch, patch + 1)
    nats = float(entropy(weights)[chosen].mean())
    shared = None
    if teacher is not None and teacher is not attention:
        other = regrid(teacher.mean, teacher.grid, attention.grid)
        shared = float(agreement(weights, other)[chosen].mean())
    return Numbers(
        entropy=nats,
        # One patch has one place to look at: its entropy is all of the uniform map's.
        of_uniform=nats / float(np.log(patches)) if patches > 1 else 1.0,
        reach=float(reach(weights, attention.grid)[chosen].mean()),
        of_diagonal=float(reach_of_diagonal(attention, image or attention.span or attention.grid)[chosen].mean()),
        peak=float(times_uniform(attention, patch).max()),
        agreement=shared,
    )


def times_uniform(attention: AttentionMap, patch: int | None) -> Floats:
    """What one patch looks at, or what all receive on average (None), (N,): 1 where all is looked at alike."""
    weights = attention.mean
    return received(weights) if patch is None else np.asarray(weights[patch] * weights.shape[0])


def measure(scene: Scene) -> dict[str, list[dict[str, object]]]:
    """All numbers of a scene as JSON-able values: one entry per map, with one inner entry per query point."""
    entries: list[dict[str, object]] = []
    for attention in scene.drawn:
        points = [_point(attention, scene, x, y) for x, y in scene.queries]
        entries.append(
            {
                "name": attention.name,
                "note": attention.note,
                "grid": list(attention.grid),
                **_plain(numbers(attention, scene.teacher, image=scene.size)),
                "queries": points,
            }
        )
    return {"maps": entries}


def _point(attention: AttentionMap, scene: Scene, x: float, y: float) -> dict[str, object]:
    patch = attention.patch_at(x, y, scene.size)
    return {"x": x, "y": y, "patch": patch, **_plain(numbers(attention, scene.teacher, patch, scene.size))}


def _plain(values: Numbers) -> dict[str, float | None]:
    return {
        "entropy_nats": values.entropy,
        "entropy_of_uniform": values.of_uniform,
        "mean_reach_patches": values.reach,
        "mean_reach_of_diagonal": values.of_diagonal,
        "peak_times_uniform": values.peak,
        "agreement_one_minus_tv": values.agreement,
    }


def with_queries(scene: Scene) -> Scene:
    """Return the scene with a query: where none was asked for, the one at which the page starts."""
    return scene if scene.queries else replace(scene, queries=(_most_decided(scene),), chosen=True)


def starting_points(scenes: Sequence[Scene]) -> list[tuple[float, float]]:
    """For each scene a point (x, y) in pixels worth starting from: its first query, or the most decided patch."""
    return [with_queries(scene).queries[0] for scene in scenes]


def _most_decided(scene: Scene) -> tuple[float, float]:
    """The middle of the patch of least entropy, away from the border, where patches often look at themselves."""
    attention = scene.maps[0]
    rows, columns = attention.grid
    decided = entropy(attention.mean).reshape(rows, columns)
    margin = 1 if min(rows, columns) > 3 else 0
    inner = decided[margin : rows - margin, margin : columns - margin]
    row, column = (int(place) + margin for place in np.unravel_index(int(inner.argmin()), inner.shape))
    (height, width), (high, wide) = scene.size, attention.span or scene.size
    x, y = (column + 0.5) * wide / attention.grid[1], (row + 0.5) * high / attention.grid[0]
    return float(min(int(x), width - 1)), float(min(int(y), height - 1))
