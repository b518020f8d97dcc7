"""Arrays to pixels: the few operations that every picture here shares.

Letters: H x W pixels, h x w patches. An image is (3, H, W) float in [0, 1]; pixels are (H, W, 3) uint8.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from matplotlib import colormaps
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageFont

from muse_core.errors import MuseError

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

INK = (119, 119, 119)
"""Labels are a grey that can be read on a white page and on a black one."""


def as_floats(values: ArrayLike, what: str) -> Floats:
    """Return values as float32.

    Raises:
        MuseError: some values are not finite; `what` names them in the message.
    """
    array = np.asarray(values, dtype=np.float32)
    if not np.isfinite(array).all():
        raise MuseError(f"{what} holds values that are not finite, so it cannot be drawn")
    return array


def as_pixels(image: ArrayLike, what: str = "an image") -> Pixels:
    """Turn an image (3, H, W) in [0, 1] into pixels (H, W, 3); values outside are clipped and bytes are rounded.

    Raises:
        MuseError: the array has another shape, or values that are not finite.
    """
    array = as_floats(image, what)
    if array.ndim != 3 or array.shape[0] != 3 or 0 in array.shape:
        raise MuseError(f"{what} must be an array of shape (3, H, W), not {array.shape}")
    return np.rint(array.clip(0.0, 1.0).transpose(1, 2, 0) * 255.0).astype(np.uint8)


def whole_factor(pixels: Pixels, wanted: int) -> int:
    """The largest whole factor at which the longer side stays within `wanted` pixels, at least 1."""
    longest: int = max(pixels.shape[:2])
    return max(1, wanted // longest)


def enlarge(pixels: Pixels, factor: int) -> Pixels:
    """Repeat every pixel `factor` times in both directions."""
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def reduce(pixels: Pixels, longest: int) -> Pixels:
    """Scale pixels down, averaging areas, until the longer side is at most `longest`; smaller ones stay."""
    height, width = pixels.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1.0:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def psnr(original: ArrayLike, reconstruction: ArrayLike) -> float:
    """Peak signal-to-noise ratio in dB of two images after rounding to bytes; infinite where they are equal.

    Raises:
        MuseError: the two differ in size.
    """
    first, second = as_pixels(original, "the original"), as_pixels(reconstruction, "the reconstruction")
    if first.shape != second.shape:
        raise MuseError(
            f"the original has {first.shape[1]} x {first.shape[0]} pixels "
            f"and the reconstruction {second.shape[1]} x {second.shape[0]}"
        )
    error = float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))
    return float("inf") if error == 0.0 else float(10.0 * np.log10(255.0**2 / error))


def upsample(values: Floats, height: int, width: int, *, smooth: bool = True) -> Floats:
    """Enlarge a map (h, w) to (height, width): bicubic and never below zero, or in blocks."""
    method = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    enlarged = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32)).resize((width, height), method)
    return np.asarray(enlarged).clip(0.0, None)


@cache
def colour_table() -> Pixels:
    """256 colours (256, 3) of matplotlib's inferno: lightness rises evenly, also for colour-blind eyes."""
    table = np.rint(colormaps["inferno"](np.arange(256))[:, :3] * 255.0).astype(np.uint8)
    table.flags.writeable = False
    return table


def colours(values: Floats) -> Pixels:
    """Colour a map (H, W) in [0, 1]."""
    return colour_table()[np.rint(values.clip(0.0, 1.0) * 255.0).astype(np.intp)]


QUIET, FAINT, STRONG = 0.45, 0.30, 0.40
"""Below a map an image keeps this much of its colour; the map covers it by FAINT + STRONG * value, never wholly."""


def quiet(pixels: Pixels) -> Pixels:
    """Take most of the colour out of an image, so that the colours above it are the map's."""
    image = pixels.astype(np.float32)
    grey = image @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.rint(QUIET * image + (1.0 - QUIET) * grey[..., None]).astype(np.uint8)


def veil(values: Floats) -> Pixels:
    """Return a map (H, W) in [0, 1] as translucent pixels (H, W, 4): the higher, the lighter and the denser.

    The explorer in `templates/explorer.js.jinja` follows the same formula.
    """
    cover = np.rint(255.0 * (FAINT + STRONG * values.clip(0.0, 1.0))).astype(np.uint8)
    return np.concatenate((colours(values), cover[..., None]), axis=-1)


def overlay(pixels: Pixels, values: Floats) -> Pixels:
    """Lay a map (H, W) in [0, 1] over an image: low values leave it dim and nearly grey, high ones light it up."""
    above = veil(values).astype(np.float32)
    cover = above[..., 3:] / 255.0
    return np.rint((1.0 - cover) * quiet(pixels) + cover * above[..., :3]).astype(np.uint8)


def ringed(pixels: Pixels, place: tuple[float, float], radius: float = 5.0) -> Pixels:
    """Draw a white ring with a dark rim around a place (x, y), from 0 to 1, of an image."""
    height, width = pixels.shape[:2]
    rows, columns = np.mgrid[:height, :width] + 0.5
    off = np.abs(np.hypot(columns - place[0] * width, rows - place[1] * height) - radius)[..., None]
    dark = 0.65 * (2.5 - off).clip(0.0, 1.0)
    light = (1.5 - off).clip(0.0, 1.0)
    return np.asarray(np.rint(pixels * (1.0 - dark) * (1.0 - light) + 255.0 * light), np.uint8)


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The typeface that comes with Pillow, so that pictures look alike on every machine."""
    return ImageFont.load_default(size)


def shades(values: Floats) -> Floats:
    """Scale a map to [0, 1] by its largest value; a map without one stays zero."""
    top = float(values.max())
    return values / top if top > 0.0 else np.zeros_like(values)


SETTLED = 0.995
"""The scale ends where this part of the patches lies within it in a typical map: one bright patch hides no map, and
a network that stares at a few patches hides no other."""
ROUND = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 15.0)


def common_end(maps: Sequence[Floats]) -> float:
    """Return the round multiple of uniform at which one scale for all maps (h, w) ends."""
    ends = sorted(float(np.quantile(values, SETTLED, method="lower")) for values in maps)
    return rounded_up(ends[len(ends) // 2])


def rounded_up(value: float) -> float:
    """Return the first round number from `value` up, and at least 2, so that looking everywhere alike looks dull."""
    power = 1.0
    while value > ROUND[-1] * power:
        power *= 10.0
    return next(number * power for number in ROUND if number * power >= value)
