"""Pictures of many images: samples during training, an image beside its reconstruction, contact sheets.

All of them have a transparent ground and grey labels, so they sit on a light page as well as on a dark one.
Letters: H x W pixels, h x w patches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from muse_core.errors import MuseError
from muse_core.text_files import readable
from muse_core.viz.pixels import (
    INK,
    Pixels,
    as_floats,
    as_pixels,
    colours,
    enlarge,
    font,
    overlay,
    psnr,
    reduce,
    ringed,
    shades,
    upsample,
    whole_factor,
)

SAMPLE_LABELS = ("input", "reconstruction", "attention", "teacher")
GAP, TEXT, LINE = 8, 13, 22
DIFFERENCE_GAIN = 4


def sample_labels(end: float) -> tuple[str, ...]:
    """Return the words above the columns of a strip whose maps end at a multiple of uniform."""
    # The typeface that comes with Pillow has neither a dash for ranges nor a multiplication sign.
    return (*SAMPLE_LABELS[:2], *(f"{name} 0-{end:g} x" for name in SAMPLE_LABELS[2:]))


@dataclass(frozen=True)
class _Cell:
    """One picture with the words above and below it."""

    pixels: Pixels | None
    above: str = ""
    below: str = ""


def sample_strip(
    rows: Sequence[Sequence[ArrayLike | None]],
    labels: Sequence[str] = SAMPLE_LABELS,
    *,
    side: int = 192,
    across: int = 1,
    end: float | None = None,
    queries: Sequence[tuple[float, float]] = (),
) -> Image.Image:
    """Draw what a model makes of some images, one image per row.

    Args:
        rows: each begins with an image (3, H, W) in [0, 1]; further cells are images, maps (h, w) of any scale
            that are laid over the row's first image, or None for a cell that stays empty.
        labels: the words above the columns.
        side: images smaller than this are enlarged by the largest whole factor that fits.
        across: how many rows stand beside each other.
        end: the value at which the colours of all maps end; without it each ends at its own largest value.
        queries: for each row the point (x, y), from 0 to 1, whose attention the maps are; marked in all its pictures.

    Raises:
        MuseError: there are no rows, a row has more cells than labels, or a cell cannot be drawn.
    """
    if not rows:
        raise MuseError("there is nothing to draw: no rows were given")
    if max(len(row) for row in rows) > len(labels):
        raise MuseError(f"a row has {max(len(row) for row in rows)} pictures, but there are {len(labels)} labels")
    drawn = [_sample_row(row, len(labels), side, end) for row in rows]
    for cells, query in zip(drawn, queries, strict=False):
        cells[:] = [None if cell is None else ringed(cell, query) for cell in cells]
    height = -(-len(drawn) // across)
    table = []
    for index in range(height):
        beside = drawn[index::height]
        captions = labels if index == 0 else [""] * len(labels)
        table.append([_Cell(cell, above) for part in beside for cell, above in zip(part, captions, strict=True)])
    return _sheet(table, groups=len(labels))


def _sample_row(row: Sequence[ArrayLike | None], columns: int, side: int, end: float | None) -> list[Pixels | None]:
    if not row or row[0] is None:
        raise MuseError("each row of samples begins with an image, and one has none")
    first = as_pixels(row[0], "the first picture of a row")
    factor = whole_factor(first, side)
    cells = [None if cell is None else _sample_cell(cell, first, factor, end) for cell in row]
    return cells + [None] * (columns - len(cells))


def _sample_cell(cell: ArrayLike, first: Pixels, factor: int, end: float | None) -> Pixels:
    if np.ndim(cell) == 3:
        return enlarge(as_pixels(cell), factor)
    ground = enlarge(first, factor)
    values = as_map(cell)
    values = shades(values) if end is None else values / np.float32(end)
    return overlay(ground, upsample(values, *ground.shape[:2]).clip(0.0, 1.0))


def as_map(values: ArrayLike) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Return a map (h, w) as float32.

    Raises:
        MuseError: it has another number of dimensions, is empty, or holds negative or non-finite values.
    """
    array = as_floats(values, "a map")
    if array.ndim != 2 or 0 in array.shape or array.min() < 0.0:
        raise MuseError(f"a map must be an array of shape (h, w) of values from 0 up, not {array.shape}")
    return array.reshape(array.shape[0], array.shape[1])


def compare_strip(original: ArrayLike, reconstruction: ArrayLike, *, side: int = 320) -> Image.Image:
    """Draw original | reconstruction | difference with the PSNR under the reconstruction.

    The difference is the mean over the channels of the absolute difference, four times enhanced. Images (3, H, W) in
    [0, 1] smaller than `side` are enlarged by a whole factor.

    Raises:
        MuseError: the two differ in size or cannot be drawn.
    """
    value = psnr(original, reconstruction)
    first, second = as_pixels(original), as_pixels(reconstruction)
    factor = whole_factor(first, side)
    distance = np.abs(first.astype(np.float32) - second.astype(np.float32)).mean(-1) / 255.0
    cells = [
        _Cell(enlarge(first, factor), "original", f"{first.shape[1]} x {first.shape[0]}"),
        _Cell(enlarge(second, factor), "reconstruction", "identical" if np.isinf(value) else f"PSNR {value:.2f} dB"),
        _Cell(
            enlarge(colours(distance * DIFFERENCE_GAIN), factor),
            f"difference, {DIFFERENCE_GAIN} times",
            f"mean {100.0 * float(distance.mean()):.1f} % of the range",
        ),
    ]
    return _sheet([cells])


def contact_grid(
    images: Sequence[ArrayLike], captions: Sequence[str] = (), *, columns: int | None = None, side: int = 192
) -> Image.Image:
    """Draw images (3, H, W) of any sizes side by side, each with its caption below.

    Raises:
        MuseError: there are no images, or captions for another number of them.
    """
    if not images:
        raise MuseError("there is nothing to draw: no images were given")
    if captions and len(captions) != len(images):
        raise MuseError(f"{len(images)} images were given with {len(captions)} captions")
    words = list(captions) or [""] * len(images)
    cells = [_Cell(_fitted(image, side), below=below) for image, below in zip(images, words, strict=True)]
    wide = columns or min(len(cells), max(1, round(len(cells) ** 0.5 * 1.3)))
    return _sheet([cells[start : start + wide] for start in range(0, len(cells), wide)])


def _fitted(image: ArrayLike, side: int) -> Pixels:
    pixels = reduce(as_pixels(image), side)
    return enlarge(pixels, whole_factor(pixels, side))


def _sheet(table: Sequence[Sequence[_Cell]], groups: int = 0) -> Image.Image:
    """Lay cells out in columns; after every `groups` columns the gap is wider."""
    columns = max(len(row) for row in table)
    widths = [max(_width(row[index]) for row in table if index < len(row)) for index in range(columns)]
    lefts = [sum(widths[:index]) + GAP * index + _extra(index, groups) for index in range(columns)]
    heights = [_row_height(row) for row in table]
    size = (lefts[-1] + widths[-1], sum(heights) + GAP * (len(table) - 1))
    sheet = Image.new("RGBA", size, (*INK, 0))
    top = 0
    for row, height in zip(table, heights, strict=True):
        for cell, left in zip(row, lefts, strict=False):
            _paste(sheet, cell, left, top, LINE if any(other.above for other in row) else 0)
        top += height + GAP
    return sheet


def _extra(index: int, groups: int) -> int:
    return 2 * GAP * (index // groups) if groups else 0


def _width(cell: _Cell) -> int:
    words = max(font(TEXT).getlength(text) for text in (cell.above, cell.below))
    return max(int(words) + 2, 0 if cell.pixels is None else cell.pixels.shape[1])


def _row_height(row: Sequence[_Cell]) -> int:
    lines = LINE * (any(cell.above for cell in row) + any(cell.below for cell in row))
    return lines + max(0 if cell.pixels is None else cell.pixels.shape[0] for cell in row)


def _paste(sheet: Image.Image, cell: _Cell, left: int, top: int, label: int) -> None:
    write = ImageDraw.Draw(sheet)
    write.text((left + 1, top), readable(cell.above), fill=(*INK, 255), font=font(TEXT))
    bottom = top + label
    if cell.pixels is not None:
        sheet.paste(Image.fromarray(cell.pixels), (left, top + label))
        bottom += cell.pixels.shape[0]
    write.text((left + 1, bottom + 4), readable(cell.below), fill=(*INK, 255), font=font(TEXT))
