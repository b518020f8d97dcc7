"""Distances between images as networks see them.

Nothing here is downloaded or looked up: networks and weights come in. Images are (B, 3, H, W) in [0, 1]; predictions
may leave that range and keep their gradient there. The target needs no gradient and gets none.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import vgg16

from muse_core.errors import ExitCode, MuseError
from muse_core.model.images import imagenet_normalize
from muse_core.model.numbers import full

_VGG_TAPS = (3, 8, 15, 22, 29)  # relu1_2, 2_2, 3_3, 4_3, 5_3 in torchvision's vgg16().features
VGG_LAYERS = _VGG_TAPS[-1] + 1
VGG_WIDTHS = (64, 128, 256, 512, 512)  # channels of the taps
_UNIT_FLOOR = 1e-10
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
CONVNEXT_SIDE = 224

PARTS = ("lpips", "convnext_s")


class Perceptual(Protocol):
    """Any distance of images that a training step can use."""

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean distance of the batch, a scalar."""
        ...


class _Frozen(nn.Module):
    """A judge: it never trains, and stays in eval mode whatever it is part of."""

    def train(self, mode: bool = True) -> Self:
        return super().train(False)

    def freeze(self) -> None:
        self.requires_grad_(False).eval()


class LPIPS(_Frozen):
    """LPIPS (Zhang et al. 2018, arXiv 1801.03924), version 0.1 on VGG16, summed over five taps.

    Args:
        vgg: torchvision's `vgg16().features`.
        heads: five tensors (1, C, 1, 1): how much each channel of each tap counts.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, vgg: nn.Sequential, heads: Sequence[Tensor]) -> None:
        super().__init__()
        self.vgg = vgg[:VGG_LAYERS]
        self.heads = nn.ParameterList(nn.Parameter(head.detach().clone()) for head in heads)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))
        self.freeze()

    @classmethod
    def from_states(cls, vgg: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> Self:
        """Build from torchvision's VGG16 state dict and the published file of head weights (`vgg.pth`).

        Raises:
            MuseError: when a weight is missing from either.
        """
        try:
            published = [heads[f"lin{tap}.model.1.weight"] for tap in range(len(_VGG_TAPS))]
            features = {key.removeprefix("features."): vgg[key] for key in vgg if key.startswith("features.")}
            with torch.device("meta"):
                network = vgg16(weights=None).features
            network.load_state_dict(features, assign=True)
        except (KeyError, RuntimeError) as error:
            raise MuseError(f"these are not the weights of VGG16 and of LPIPS on it: {error}") from error
        return cls(network, published)

    def distances(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return one distance per image, (B,)."""
        with torch.no_grad():
            wanted = [_unit(tap) for tap in self._taps(target)]
        layers = [
            (_unit(ours) - theirs).square().mul(head).sum(1).mean((1, 2))
            for ours, theirs, head in zip(self._taps(prediction), wanted, self.heads, strict=True)
        ]
        return torch.stack(layers).sum(0)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean distance of the batch."""
        return self.distances(prediction, target).mean()

    def _taps(self, images: Tensor) -> list[Tensor]:
        x = (full(images) * 2 - 1 - self.shift) / self.scale
        taps = []
        for index, layer in enumerate(self.vgg):
            x = layer(x)
            if index in _VGG_TAPS:
                taps.append(x)
        return taps


class ConvNextLogits(_Frozen):
    """Mean squared distance of the class logits of a torchvision ConvNeXt.

    Args:
        network: maps ImageNet-normalised (B, 3, 224, 224) to logits (B, classes).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.freeze()

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over images and classes."""
        with torch.no_grad():
            wanted = self._logits(target)
        return F.mse_loss(full(self._logits(prediction)), full(wanted))

    def _logits(self, images: Tensor) -> Tensor:
        side = (CONVNEXT_SIDE, CONVNEXT_SIDE)
        resized = F.interpolate(full(images), side, mode="bilinear", align_corners=False, antialias=True)
        logits: Tensor = self.network(imagenet_normalize(resized))
        return logits


class FeatureDistance:
    """Squared distance of unit feature vectors, mean over positions and layers; from 0 to 4.

    Shaped like LPIPS but with any network and no learnt channel weights, so its numbers are its own.

    Args:
        features: maps images (B, 3, H, W) in [0, 1] to one (B, C, h, w) per layer.
    """

    def __init__(self, features: Callable[[Tensor], Sequence[Tensor]]) -> None:
        self.features = features

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean distance of the batch."""
        with torch.no_grad():
            wanted = [_unit(layer) for layer in self.features(target)]
        layers = [
            (_unit(ours) - theirs).square().sum(1).mean()
            for ours, theirs in zip(self.features(prediction), wanted, strict=True)
        ]
        return torch.stack(layers).mean()


class CombinedPerceptual:
    """The weighted mean of several distances; weights need not sum to 1.

    Args:
        parts: (weight, distance), at least one.
    """

    def __init__(self, parts: Sequence[tuple[float, Perceptual]]) -> None:
        self.parts = tuple(parts)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the weighted mean distance of the batch."""
        total = sum(weight for weight, _ in self.parts)
        terms = [weight * distance(prediction, target) for weight, distance in self.parts]
        return torch.stack(terms).sum() / total


def parse_perceptual(name: str) -> dict[str, float]:
    """Read a distance's name: parts, then their weights, joined by dashes.

    `lpips-convnext_s-1.0-0.1` is LPIPS with weight 1 and ConvNeXt-S logits with weight 0.1; one part needs no weight.

    Raises:
        MuseError: for unknown or repeated parts, or weights that do not fit them.
    """
    words = name.split("-")
    parts = [word for word in words if word in PARTS]
    weights = [_weight(word, name) for word in words[len(parts) :]]
    fits = words[: len(parts)] == parts and len(set(parts)) == len(parts) > 0
    if fits and len(parts) == 1 and not weights:
        weights = [1.0]
    if not fits or len(weights) != len(parts) or not 0 < sum(weights) < math.inf or min(weights) < 0:
        raise _bad_name(name)
    return dict(zip(parts, weights, strict=True))


def _weight(word: str, name: str) -> float:
    try:
        return float(word)
    except ValueError as error:
        raise _bad_name(name) from error


def _bad_name(name: str) -> MuseError:
    return MuseError(
        f"perceptual loss {name!r} is not a list of parts ({', '.join(PARTS)}) followed by one weight for each",
        hint='write for example "lpips-convnext_s-1.0-0.1", or one part alone: "lpips"',
        exit_code=ExitCode.SETTINGS,
    )


def _unit(features: Tensor) -> Tensor:
    """Scale every position's channel vector of (B, C, h, w) to length 1; the floor is LPIPS's own."""
    exact = full(features)  # B C h w
    length: Tensor = torch.linalg.vector_norm(exact, dim=1, keepdim=True)
    return exact / (length + _UNIT_FLOOR)
