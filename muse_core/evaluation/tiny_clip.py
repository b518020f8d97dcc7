"""`fd-tiny-clip`: the Frechet distance on the image features of the tiny pack's CLIP.

Letters: B images, H x W pixels, D feature width.
"""

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from muse_core.errors import MuseError
from muse_core.evaluation.metrics import Frechet
from muse_core.evaluation.spec import Metric, MetricContext, NotMeasuredError

NAME = "fd-tiny-clip"


def make_fd_tiny_clip(context: MetricContext) -> Metric:
    """Make the Frechet distance on the image features of the tiny pack's CLIP.

    Raises:
        NotMeasuredError: the tiny pack is not there.
    """
    return Frechet(NAME, TinyClip(context.device), TinyClip.TAP, context.reference)


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


def register_with_torch_fidelity() -> str:
    """Make the extractor known to torch-fidelity, for its own functions and command; returns the name to ask for."""
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor

    class TinyClipFeatures(FeatureExtractorBase):  # type: ignore[misc]
        """The extractor in torch-fidelity's words."""

        def __init__(self, name: str, features_list: Sequence[str], **_: object) -> None:
            super().__init__(name, features_list)
            self._extract = TinyClip("cpu")

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return (TinyClip.TAP,)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return TinyClip.TAP

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, images: Tensor) -> tuple[Tensor]:
            return (self._extract(images)[TinyClip.TAP],)

    if NAME not in FEATURE_EXTRACTORS_REGISTRY:
        register_feature_extractor(NAME, TinyClipFeatures)
    return NAME


def weights_fingerprint(*modules: torch.nn.Module) -> str:
    """First 12 hex digits of the sha256 of all parameters and buffers, in order."""
    digest = hashlib.sha256()
    for module in modules:
        for name, value in module.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()[:12]
