"""Views for self-supervised training: random crops with random colours, and where the patches of one lie in another.

Letters: B images, S side of a view, n = h * w patches, K prototypes. Coordinates run from -1 to 1, x before y.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_ASPECT = 4 / 3
_GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Views:
    """images (B, 3, S, S); middle and half (B, 2): a point p of a view lies at middle + half * p of its scene.

    A mirrored view has a negative half width.
    """

    images: Tensor
    middle: Tensor
    half: Tensor

    def centres(self, patches: int) -> Tensor:
        """Where the centres of `patches` x `patches` patches lie in the scene: (B, n, 2), row by row."""
        line = (torch.arange(patches) + 0.5) / patches * 2 - 1
        y, x = torch.meshgrid(line, line, indexing="ij")
        points = torch.stack((x, y), -1).flatten(0, 1)  # n 2
        return self.middle[:, None] + self.half[:, None] * points


def random_views(images: Tensor, side: int, area: tuple[float, float]) -> Views:
    """Cut one view out of each of (B, 3, H, W) images, mirror half of them, and change their colours.

    Args:
        side: S of the views.
        area: least and largest part of the scene's area that a view covers.
    """
    count = len(images)
    share = torch.empty(count).uniform_(*area)
    aspect = torch.empty(count).uniform_(-1, 1).mul(math.log(_ASPECT)).exp().sqrt()
    half = torch.stack((share.sqrt() * aspect, share.sqrt() / aspect), -1).clamp(max=1.0)
    middle = (1 - half) * torch.empty(count, 2).uniform_(-1, 1)
    half = half * torch.stack((torch.where(torch.rand(count) < 0.5, -1.0, 1.0), torch.ones(count)), -1)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = half.unbind(-1)
    theta[:, :, 2] = middle
    where = functional.affine_grid(theta, [count, 3, side, side], align_corners=False)
    cut = functional.grid_sample(images, where, padding_mode="border", align_corners=False)
    return Views(random_colours(cut), middle, half)


def random_colours(images: Tensor) -> Tensor:
    """Turn hue, and change saturation, contrast and brightness, of each image (B, 3, H, W) by its own amount."""
    count = len(images)
    angle = torch.empty(count, 1, 1).uniform_(-0.3, 0.3) * math.pi
    saturation = torch.empty(count, 1, 1).uniform_(0.5, 1.5)
    saturation[torch.rand(count) < 0.15] = 0.0
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    turn = angle.cos() * torch.eye(3) + (1 - angle.cos()) / 3 + angle.sin() * cross
    colour = (saturation * torch.eye(3) + (1 - saturation) * torch.tensor(_GREY)) @ turn
    contrast = torch.empty(count, 1, 1, 1).uniform_(0.7, 1.3)
    brightness = torch.empty(count, 1, 1, 1).uniform_(-0.15, 0.15)
    turned = torch.einsum("bij,bjhw->bihw", colour, images)
    return ((turned - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)


def blob_masks(count: int, patches: int, largest: float) -> Tensor:
    """Draw masks of blobs (count, n), bool: half of them empty, the others cover 0.1 to `largest` of the patches."""
    noise = functional.interpolate(torch.rand(count, 1, 4, 4), (patches, patches), mode="bilinear").flatten(1)
    share = torch.empty(count, 1).uniform_(0.1, largest) * (torch.rand(count, 1) < 0.5)
    place = noise.argsort(1).argsort(1)  # rank of each patch
    return place < (share * patches**2).round()


def seen_from(answers: Tensor, source: Views, target: Views, patches: int) -> tuple[Tensor, Tensor]:
    """Read what `target`'s patches were answered, at the places where `source`'s patches lie.

    Args:
        answers: (B, n, K) for the patches of `target`.
        source: the view whose patches ask.
        target: a view of the same scenes.
        patches: h = w.

    Returns:
        (B, n, K) interpolated answers, and (B, n) bool whether the place lies inside `target` at all.
    """
    places = (source.centres(patches) - target.middle[:, None]) / target.half[:, None]
    maps = answers.mT.unflatten(-1, (patches, patches))  # B K h w
    read = functional.grid_sample(maps, places[:, None], padding_mode="border", align_corners=False)
    return read[:, :, 0].mT, (places.abs() < 1).all(-1)
