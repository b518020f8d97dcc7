"""Pictures of a segmentation: masks in colour, and strips of image, what was named, and the truth.

Letters: H x W pixels, S side of a cell of the strip.
"""

import colorsys
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Bytes = NDArray[np.uint8]
_ROOT = 1.2207440846  # x**4 = x + 1: steps of 1/x, 1/x**2, 1/x**3 fill a cube evenly, so that no two colours look alike
_GAP, _TITLE = 6, 18
_GREY = (128, 128, 128)
_COLUMNS = ("image", "named", "truth")


@dataclass(frozen=True)
class Example:
    """One image (H, W, 3), the classes named and the true ones, both (H, W); 255 is ignored."""

    key: str
    image: Bytes
    said: Bytes
    truth: Bytes


def palette() -> Bytes:
    """Return a colour for each of 256 values, (256, 3); 255, which is ignored, is grey."""
    steps = [[index / _ROOT**power % 1.0 for power in (1, 2, 3)] for index in range(255)]
    colours = [colorsys.hsv_to_rgb(hue, 0.35 + 0.65 * much, 1 - 0.55 * dark) for hue, much, dark in steps]
    return np.array([*(tuple(round(255 * part) for part in colour) for colour in colours), _GREY], dtype=np.uint8)


def mask_bytes(said: Bytes) -> bytes:
    """Return named classes (H, W) as a PNG whose values are the classes, shown in colour."""
    image = Image.fromarray(said, mode="P")
    image.putpalette(palette().flatten().tolist())
    return _png(image)


def strip(examples: list[Example], side: int = 192) -> bytes:
    """Draw one row for each example, as PNG: image, what was named, the truth."""
    colours = palette()
    width = len(_COLUMNS) * (side + _GAP) + _GAP
    sheet = Image.new("RGB", (width, _TITLE + len(examples) * (side + _GAP) + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(_COLUMNS):
        draw.text((_GAP + column * (side + _GAP), 4), title, fill="black")
    for row, example in enumerate(examples):
        for column, pixels in enumerate((example.image, colours[example.said], colours[example.truth])):
            smooth = column == 0
            cell = _fitted(pixels, side, smooth)
            left = _GAP + column * (side + _GAP) + (side - cell.width) // 2
            sheet.paste(cell, (left, _TITLE + row * (side + _GAP) + (side - cell.height) // 2))
    return _png(sheet)


def _fitted(pixels: Bytes, side: int, smooth: bool) -> Image.Image:
    height, width = pixels.shape[:2]
    size = (max(1, round(width * side / max(height, width))), max(1, round(height * side / max(height, width))))
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST)


def _png(image: Image.Image) -> bytes:
    stream = BytesIO()
    image.save(stream, format="png")
    return stream.getvalue()
