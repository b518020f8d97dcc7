"""What a block attends to: from one attention map to a soft picture of the salient region.

Letters: H heads, N = h*w tokens. Arrays in, arrays out; maps are (h, w) float64 in [0, 1].
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Map = NDArray[np.float64]

_EPSILON = 1e-8
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)
_CROSS = ndimage.generate_binary_structure(2, 1)


@dataclass(frozen=True)
class SalientRegion:
    """How strongly each token is attended to inside the main region, and the soft mask of that region; both (h, w)."""

    strength: Map
    mask: Map


def salient_region(attention: NDArray[np.floating], grid: tuple[int, int]) -> SalientRegion:
    """Find the one region that a block attends to most.

    Args:
        attention: (H, N, N) of one image; rows are queries.
        grid: (h, w).
    """
    upright = invert_if_background(received_attention(attention, grid))
    mask = main_component(upright)
    return SalientRegion(emphasise(upright, mask), mask)


def received_attention(
    attention: NDArray[np.floating],
    grid: tuple[int, int],
    *,
    heads: int = 3,
    own: bool = False,
    temperature: float = 0.0,
) -> Map:
    """Return how much each token is attended to, over the heads that distinguish tokens most.

    Args:
        attention: (H, N, N) of one image; rows are queries.
        grid: (h, w).
        heads: how many heads to average, those of largest variance over tokens.
        own: also count what a token pays to itself.
        temperature: the map is raised to 1 - temperature: 0 changes nothing, and 1 would erase everything.
    """
    weights = np.asarray(attention, dtype=np.float64)
    tokens = weights.shape[-1]
    if not own:
        weights = weights * (1 - np.eye(tokens))
    received = weights.mean(1)  # H N
    chosen = np.argsort(-received.var(1, ddof=1), kind="stable")[:heads]
    return _stretch(received[chosen].mean(0).reshape(grid)) ** (1 - temperature)


def invert_if_background(saliency: Map) -> Map:
    """Turn a map over when its border outshines its centre: attention that avoids the object still outlines it."""
    height, width = saliency.shape
    rows, columns = max(height // 8, 1), max(width // 8, 1)
    centre = saliency[rows:-rows, columns:-columns]
    if centre.size == 0:
        return saliency
    bands = (saliency[:rows], saliency[-rows:], saliency[:, :columns], saliency[:, -columns:])
    border = np.mean([band.mean() for band in bands])
    return 1 - saliency if border > centre.mean() else saliency


def main_component(saliency: Map, threshold: float = 0.35) -> Map:
    """Return a soft mask of the connected region with the largest summed saliency; all ones when there is none."""
    labels, count = ndimage.label(saliency > threshold, _EIGHT_NEIGHBOURS)
    if count == 0:
        return np.ones_like(saliency)
    sums = ndimage.sum_labels(saliency, labels, np.arange(1, count + 1))
    largest = labels == 1 + int(np.argmax(sums))
    grown = ndimage.binary_dilation(largest, _CROSS)
    closed = ndimage.binary_erosion(grown, _CROSS, border_value=1)
    return _blur(closed.astype(np.float64), sigma=0.5)


def emphasise(saliency: Map, mask: Map) -> Map:
    """Smooth a map, keep what lies in the mask, and stretch it so that the strongest place there is 1.

    No sharpening here: the public code passes temperature 1 at this point, raises the map to the power 0, and
    so draws every attention map blank.
    """
    smooth = _stretch(_blur(saliency, sigma=2.0)) * mask
    inside = smooth[mask > 0.1]
    peak = inside.max() if inside.size else 0.0
    return np.clip(smooth / (peak + _EPSILON), 0, 1) ** 0.6 * mask


def _stretch(values: Map) -> Map:
    low, high = values.min(), values.max()
    stretched: Map = (values - low) / (high - low + _EPSILON)
    return stretched


def _blur(values: Map, sigma: float) -> Map:
    blurred: Map = ndimage.gaussian_filter(values, sigma, mode="mirror")
    return blurred
