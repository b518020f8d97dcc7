"""PSNR and SSIM of byte images, a batch at a time, to the digits of scikit-image.

Letters: B images, H x W pixels. Data range 1: bytes are divided by 255, never taken for a range of 2.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

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
    x, y = original.float(), reconstruction.float()
    sum_x, sum_y = _window_sums(x), _window_sums(y)
    n = WINDOW**2
    unbiased = 1 / (n * (n - 1) * 255**2)
    variances = n * _window_sums(x * x + y * y) - sum_x * sum_x - sum_y * sum_y
    covariance = n * _window_sums(x * y) - sum_x * sum_y
    scale = 1 / (n * 255) ** 2
    luminance = (2 * scale * sum_x * sum_y + _C1) / (scale * (sum_x * sum_x + sum_y * sum_y) + _C1)
    contrast = (2 * unbiased * covariance + _C2) / (unbiased * variances + _C2)
    return (luminance * contrast).flatten(1).mean(1)


def _window_sums(planes: Tensor) -> Tensor:
    # Every partial sum is a whole number below 2**24, which float32 holds exactly; one direction at a time.
    rows = F.avg_pool2d(planes, (WINDOW, 1), stride=1, divisor_override=1)
    return F.avg_pool2d(rows, (1, WINDOW), stride=1, divisor_override=1).double()


def mean_of_finite(values: Tensor) -> float:
    """Mean of the finite values; infinite when all are."""
    finite = values[torch.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.inf
