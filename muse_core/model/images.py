"""Image conventions shared by the parts: ImageNet normalisation, and padding to a multiple.

Letters: B images, H x W pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _column(values: tuple[float, float, float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(3, 1, 1)


def imagenet_normalize(images: Tensor) -> Tensor:
    """Map (B, 3, H, W) from [0, 1] to zero mean and unit variance per ImageNet channel."""
    return (images - _column(IMAGENET_MEAN, images)) / _column(IMAGENET_STD, images)


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Pad right and bottom by repeating the border until both sides are multiples of `multiple`."""
    height, width = images.shape[-2:]
    extra = (0, -width % multiple, 0, -height % multiple)
    return functional.pad(images, extra, mode="replicate") if any(extra) else images
