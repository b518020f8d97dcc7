"""LPIPS as a metric: the perceptual distance of each reconstruction, with weights from this machine.

Letters: B images, H x W pixels.
"""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from muse_core.evaluation.metrics import PerImage
from muse_core.evaluation.spec import Metric, MetricContext
from muse_core.evaluation.weights import LPIPS_HEADS, VGG16, find_weights, read_weights
from muse_core.losses.perceptual import LPIPS
from muse_core.model.weights.parts import sha256


def make_lpips(context: MetricContext) -> Metric:
    """Make LPIPS 0.1 on VGG16, per image, then the mean.

    Raises:
        NotMeasuredError: the weights of VGG16 or of LPIPS are not on this machine.
    """
    network, name = _load(find_weights(VGG16), find_weights(LPIPS_HEADS), context.device)

    @torch.no_grad()
    def compare(original: Tensor, reconstruction: Tensor) -> Tensor:
        return network.distances(reconstruction.float() / 255, original.float() / 255).double()

    return PerImage("lpips", compare, {"network": name, "pixels": "uint8, rounded once"})


@lru_cache(maxsize=2)
def _load(vgg: Path, heads: Path, device: str) -> tuple[LPIPS, str]:
    network = LPIPS.from_states(read_weights(vgg), read_weights(heads))
    return network.to(device), f"vgg16 {sha256(vgg)[:12]}, lpips {sha256(heads)[:12]}"
