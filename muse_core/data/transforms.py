"""From a picture of any size to a square one: random for training, fixed for evaluation.

Both resize the shorter side with antialiased bicubic interpolation, crop, and take the mask along with nearest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from muse_core.data.sample import Sample

Transform = Callable[[Sample, np.random.Generator], Sample]
Pixels = NDArray[np.uint8]
Shape = tuple[int, int]

_SIDE_WORDS = re.compile(r"\b(left|right)\b", re.IGNORECASE)


LONGEST = 16
"""From so many times as long as wide, an image is cut before it is scaled, so that it costs what its crop does."""


@dataclass(frozen=True)
class TrainTransform:
    """Resize, random crop, and a mirror image half of the time where that leaves the caption true."""

    size: int
    flip: bool = False

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Transform one sample with the random numbers that belong to it."""
        height, width = _resized_shape(sample, self.size)
        top = int(rng.integers(height - self.size + 1))
        left = int(rng.integers(width - self.size + 1))
        mirrored = bool(rng.random() < 0.5)
        cropped = _cropped(sample, (height, width), top, left, self.size)
        return _mirrored(cropped) if self.flip and mirrored and not _SIDE_WORDS.search(sample.caption) else cropped


@dataclass(frozen=True)
class EvalTransform:
    """Resize and centre crop; the random numbers are not used."""

    size: int

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        """Transform one sample."""
        height, width = _resized_shape(sample, self.size)
        top, left = round((height - self.size) / 2), round((width - self.size) / 2)
        return _cropped(sample, (height, width), top, left, self.size)


def train_transform(size: int, *, flip: bool = False) -> Transform:
    """Random crop to (size, size); `flip` also mirrors, except where the caption says left or right."""
    return TrainTransform(size, flip)


def eval_transform(size: int) -> EvalTransform:
    """Centre crop to (size, size)."""
    return EvalTransform(size)


def _resized_shape(sample: Sample, size: int) -> Shape:
    """(height, width) where the shorter side is `size`; the longer one is rounded down."""
    height, width = sample.image.shape[:2]
    return (size, size * width // height) if height <= width else (size * height // width, size)


def _cropped(sample: Sample, shape: Shape, top: int, left: int, size: int) -> Sample:
    """The window (size, size) at (top, left) of the sample resized to `shape`."""
    window = _scaled_window if max(shape) > LONGEST * size else _window_of_scaled
    image = window(sample.image, shape, top, left, size, Image.Resampling.BICUBIC)
    mask = None if sample.mask is None else window(sample.mask, shape, top, left, size, Image.Resampling.NEAREST)
    return replace(sample, image=image, mask=mask)


def _window_of_scaled(pixels: Pixels, shape: Shape, top: int, left: int, size: int, how: Image.Resampling) -> Pixels:
    height, width = shape
    if pixels.shape[:2] != shape:
        pixels = np.asarray(Image.fromarray(pixels).resize((width, height), how))
    return pixels[top : top + size, left : left + size]


def _scaled_window(pixels: Pixels, shape: Shape, top: int, left: int, size: int, how: Image.Resampling) -> Pixels:
    """The same window to rounding, while only what lies under it is scaled."""
    down, across = pixels.shape[0] / shape[0], pixels.shape[1] / shape[1]
    right, below = min((left + size) * across, pixels.shape[1]), min((top + size) * down, pixels.shape[0])
    box = (left * across, top * down, right, below)
    return np.asarray(Image.fromarray(pixels).resize((size, size), how, box))


def _mirrored(sample: Sample) -> Sample:
    mask = None if sample.mask is None else sample.mask[:, ::-1]
    return replace(sample, image=sample.image[:, ::-1], mask=mask)
