"""The built-in reconstruction metrics, made from their contexts and fed with pairs.

Letters: B images, H x W pixels, D feature width.
"""

import hashlib
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from muse_core.errors import MuseError
from muse_core.evaluation.frechet import Moments, frechet_distance
from muse_core.evaluation.pairs import Extractor, Pairs
from muse_core.evaluation.pixels import WINDOW, mean_of_finite, psnr, ssim
from muse_core.evaluation.protocol import Value
from muse_core.evaluation.spec import Measured, Metric, MetricContext, NotMeasuredError

_BYTES: Mapping[str, Value] = {"pixels": "uint8, rounded once", "data_range": 1.0}


class PerImage:
    """The mean over images of a number that each pair has."""

    def __init__(self, name: str, compare: Callable[[Tensor, Tensor], Tensor], recipe: Mapping[str, Value]) -> None:
        self._name = name
        self._compare = compare
        self._recipe = recipe
        self._values: list[Tensor] = []

    def update(self, pairs: Pairs) -> None:
        """Compare the next pairs."""
        self._values.append(self._compare(pairs.original, pairs.reconstruction).cpu())

    def result(self) -> Measured:
        """Return the mean; images reconstructed to the byte have no finite PSNR and are told apart."""
        values = torch.cat(self._values) if self._values else torch.zeros(0, dtype=torch.float64)
        if len(values) == 0:
            raise NotMeasuredError("no image was seen")
        mean = mean_of_finite(values)
        exact = int((~torch.isfinite(values)).sum())
        left_out = (f"{self._name}: {exact} images equal to the byte are not in the mean",)
        return Measured({self._name: mean}, self._recipe, left_out if exact and math.isfinite(mean) else ())


class Frechet:
    """Frechet distance between the features of originals and of reconstructions."""

    def __init__(self, name: str, extractor: Extractor, tap: str) -> None:
        self._name = name
        self._extractor = extractor
        self._tap = tap
        self._original, self._reconstruction = Moments(), Moments()

    def update(self, pairs: Pairs) -> None:
        """Add the features of the next pairs."""
        original, reconstruction = pairs.features(self._extractor, self._tap)
        self._original.add(original)
        self._reconstruction.add(reconstruction)

    def result(self) -> Measured:
        """Return the distance; with fewer images than dimensions, also a warning."""
        value = frechet_distance(self._reconstruction, self._original)
        count, width = self._original.count, len(self._original.mean)
        singular = f"{self._name}: {count} images for {width} feature dimensions, too few for a stable value"
        recipe: dict[str, Value] = {"extractor": self._extractor.name, "tap": self._tap, "covariance": "unbiased"}
        return Measured({self._name: value}, recipe, (singular,) if count <= width else ())


def make_psnr(context: MetricContext) -> Metric:
    """Make PSNR in dB."""
    return PerImage("psnr", psnr, _BYTES)


def make_ssim(context: MetricContext) -> Metric:
    """Make SSIM with scikit-image's defaults."""
    return PerImage("ssim", ssim, {**_BYTES, "window": WINDOW, "covariance": "sample"})


def make_fd_tiny_clip(context: MetricContext) -> Metric:
    """Make the Frechet distance on the image features of the tiny pack's CLIP.

    Raises:
        NotMeasuredError: the tiny pack is not there.
    """
    return Frechet("fd-tiny-clip", TinyClip(context.device), TinyClip.TAP)


class TinyClip:
    """The tiny pack's CLIP image tower: features of 64 x 64 bytes, before they are normalised.

    Raises:
        NotMeasuredError: the pack is not there.
    """

    TAP = "image"

    def __init__(self, device: str) -> None:
        from muse_core.model.weights.tiny import RESOLUTION, load_image_tower

        try:
            self._tower = load_image_tower()
        except (FileNotFoundError, MuseError) as error:
            raise NotMeasuredError(f"the tiny pack's CLIP image tower is not there: {error}") from error
        self._size = RESOLUTION
        self._modules = (self._tower.backbone.to(device), self._tower.projection.to(device))
        self.name = f"tiny-clip {weights_fingerprint(*self._modules)}"

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        """Map uint8 images (B, 3, H, W) of any size to {"image": (B, D)}."""
        pixels = images.float() / 255
        if pixels.shape[-2:] != (self._size, self._size):
            pixels = F.interpolate(pixels, (self._size, self._size), mode="bilinear", antialias=True)
        return {self.TAP: self._tower(pixels)}


def weights_fingerprint(*modules: torch.nn.Module) -> str:
    """First 12 hex digits of the sha256 of all parameters and buffers, in order."""
    digest = hashlib.sha256()
    for module in modules:
        for name, value in module.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()[:12]
