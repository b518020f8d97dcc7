"""The distance between pixels."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from muse_core.model.numbers import full

PixelKind = Literal["l2", "l1"]


def pixel_loss(prediction: Tensor, target: Tensor, kind: PixelKind = "l2") -> Tensor:
    """Return the mean squared or absolute distance.

    Args:
        prediction: (B, 3, H, W) where [0, 1] is black to white, **not clamped**: a clamp gives exactly no gradient to
            the pixels that are most wrong (in the public code a pixel at 1.5 that should be 0 never moves).
        target: (B, 3, H, W) in [0, 1].
        kind: `l2` (mean squared) or `l1` (mean absolute).
    """
    distance = F.mse_loss if kind == "l2" else F.l1_loss
    return distance(full(prediction), full(target))
