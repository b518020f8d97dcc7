"""PSNR and SSIM of byte images, a batch at a time, to the digits of scikit-image.

Letters: B images, H x W pixels. Data range 1: bytes are divided by 255, never taken for a range of 2.
"""

import math

import torch
from torch import Tensor

from muse_core.errors import MuseError

WINDOW = 7
_C1, _C2 = 0.01**2, 0.03**2


def to_bytes(images: Tensor) -> Tensor:
    """Round (B, 3, H, W) in [0, 1] to uint8, once: clamped, then to the nearest level, never cut off.

    Raises:
        MuseError: a value is not finite; as a byte it would pass for a colour.
    """
    if not torch.isfinite(images).all():
        broken = int((~torch.isfinite(images)).flatten(1).any(1).sum())
        raise MuseError(
            f"{broken} of {len(images)} images hold values that are not finite",
            hint="the checkpoint diverged, or half precision is too narrow for it: try --precision fp32",
        )
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def psnr(original: Tensor, reconstruction: Tensor) -> Tensor:
    """Signal-to-noise ratio in dB of each pair of uint8 images (B, 3, H, W): float64 (B,), infinite where equal."""
    difference = original.to(torch.int32) - reconstruction.to(torch.int32)
    squares = (difference * difference).flatten(1).sum(1, dtype=torch.int64)
    mean = squares.double() / difference[0].numel()
    return 10 * torch.log10(255**2 / mean)


def ssim(original: Tensor, reconstruction: Tensor) -> Tensor:
    """Structural similarity of each pair of uint8 images (B, 3, H, W); float64 (B,).

    Uniform 7 x 7 window, sample covariance, mean over channels and over windows that lie wholly inside: what
    `skimage.metrics.structural_similarity` computes by default. Sums over a window of bytes are whole numbers, so
    nothing is lost to rounding where a picture is flat.

    Raises:
        MuseError: a side is shorter than the window.
    """
    if min(original.shape[-2:]) < WINDOW:
        raise MuseError(f"SSIM needs images of at least {WINDOW} x {WINDOW} pixels, got {tuple(original.shape[-2:])}")
    x, y, n = original.int(), reconstruction.int(), WINDOW**2
    sum_x, sum_y = _window_sums(x), _window_sums(y)
    product, squares = sum_x * sum_y, sum_x * sum_x + sum_y * sum_y
    covariance = n * _window_sums(x * y) - product
    variances = n * _window_sums(x * x + y * y) - squares
    product, squares, covariance, variances = (whole.double() for whole in (product, squares, covariance, variances))
    # Both fractions, luminance and contrast, times what their sums were not divided by.
    luminance = (2 * product + _C1 * (n * 255) ** 2) / (squares + _C1 * (n * 255) ** 2)
    contrast = (2 * covariance + _C2 * n * (n - 1) * 255**2) / (variances + _C2 * n * (n - 1) * 255**2)
    return (luminance * contrast).flatten(1).mean(1)


def _window_sums(planes: Tensor) -> Tensor:
    """Sum whole numbers (..., H, W) int32 over every window, one direction at a time; all stay below 2**31."""
    return _sums_along(_sums_along(planes, -2), -1)


def _sums_along(planes: Tensor, side: int) -> Tensor:
    """Sum 7 neighbours as 4 + 2 + 1: sums of 2 and of 4 serve every window that they are part of."""
    length = planes.shape[side]
    pairs = planes.narrow(side, 0, length - 1) + planes.narrow(side, 1, length - 1)
    fours = pairs.narrow(side, 0, length - 3) + pairs.narrow(side, 2, length - 3)
    windows = length - WINDOW + 1
    return fours.narrow(side, 0, windows) + pairs.narrow(side, 4, windows) + planes.narrow(side, 6, windows)


def mean_of_finite(values: Tensor) -> float:
    """Mean of the finite values; infinite when all are."""
    finite = values[torch.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.inf
