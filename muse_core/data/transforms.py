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

_SIDE_WORDS = re.compile(r"\b(left|right)\b", re.IGNORECASE)


@dataclass(frozen=True)
class TrainTransform:
    """Resize, random crop, and a mirror image half of the time where that leaves the caption true."""

    size: int
    flip: bool = False

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Transform one sample with the random numbers that belong to it."""
        resized = _resized(sample, self.size)
        height, width = resized.image.shape[:2]
        top = int(rng.integers(height - self.size + 1))
        left = int(rng.integers(width - self.size + 1))
        mirrored = bool(rng.random() < 0.5)
        cropped = _cropped(resized, top, left, self.size)
        return _mirrored(cropped) if self.flip and mirrored and not _SIDE_WORDS.search(sample.caption) else cropped


@dataclass(frozen=True)
class EvalTransform:
    """Resize and centre crop; the random numbers are not used."""

    size: int

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        """Transform one sample."""
        resized = _resized(sample, self.size)
        height, width = resized.image.shape[:2]
        return _cropped(resized, round((height - self.size) / 2), round((width - self.size) / 2), self.size)


def train_transform(size: int, *, flip: bool = False) -> Transform:
    """Random crop to (size, size); `flip` also mirrors, except where the caption says left or right."""
    return TrainTransform(size, flip)


def eval_transform(size: int) -> EvalTransform:
    """Centre crop to (size, size)."""
    return EvalTransform(size)


def _resized(sample: Sample, size: int) -> Sample:
    """Bring the shorter side to `size`; the longer one is rounded down."""
    height, width = sample.image.shape[:2]
    if min(height, width) == size:
        return sample
    shape = (size, size * width // height) if height <= width else (size * height // width, size)
    image = _resample(sample.image, shape, Image.Resampling.BICUBIC)
    mask = None if sample.mask is None else _resample(sample.mask, shape, Image.Resampling.NEAREST)
    return replace(sample, image=image, mask=mask)


def _resample(pixels: NDArray[np.uint8], shape: tuple[int, int], how: Image.Resampling) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).resize((shape[1], shape[0]), how))


def _cropped(sample: Sample, top: int, left: int, size: int) -> Sample:
    window = np.s_[top : top + size, left : left + size]
    return replace(sample, image=sample.image[window], mask=None if sample.mask is None else sample.mask[window])


def _mirrored(sample: Sample) -> Sample:
    mask = None if sample.mask is None else sample.mask[:, ::-1]
    return replace(sample, image=sample.image[:, ::-1], mask=mask)
