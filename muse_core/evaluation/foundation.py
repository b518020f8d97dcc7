"""`fd-dinov2` and `fd-clip`: Frechet distances on DINOv2's and CLIP's features, as torch-fidelity extracts them.

Resizing, colours and taps are torch-fidelity's. The networks are made here, out of tensors: its own loader would run
DINOv2's repository from the network, and whatever a TorchScript file of CLIP contains.
Letters: B images, D feature width, N patches.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from muse_core.errors import MuseError
from muse_core.evaluation.fidelity import FidelityExtractor
from muse_core.evaluation.metrics import Frechet
from muse_core.evaluation.spec import Metric, MetricContext
from muse_core.evaluation.weights import CLIP, DINOV2, find_weights, read_weights
from muse_core.model.weights.parts import sha256

_HEAD = 64  # every published width of both is so many per head


def make_fd_dinov2(context: MetricContext) -> Metric:
    """Make the Frechet distance on DINOv2's class token.

    Raises:
        NotMeasuredError: DINOv2's weights are not on this machine.
    """
    return Frechet("fd-dinov2", load_dinov2(find_weights(DINOV2), context.device), "dinov2", context.reference)


def make_fd_clip(context: MetricContext) -> Metric:
    """Make the Frechet distance on CLIP's image embedding, before it is normalised.

    Raises:
        NotMeasuredError: CLIP's weights are not on this machine.
    """
    return Frechet("fd-clip", load_clip(find_weights(CLIP), context.device), "clip", context.reference)


@lru_cache(maxsize=1)
def load_dinov2(path: Path, device: str) -> FidelityExtractor:
    """Load DINOv2 from a file of its authors' names (dinov2_vits14, b or l, without registers).

    Raises:
        MuseError: the file is damaged, or holds another network.
    """
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase
    from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2

    class Loaded(FeatureExtractorDinoV2):  # type: ignore[misc]
        """torch-fidelity's extractor around a network that is there already."""

        def __init__(self, network: nn.Module) -> None:
            FeatureExtractorBase.__init__(self, "dinov2", ["dinov2"])
            self.feature_extractor_internal_dtype = torch.float32
            self.model = network.eval().requires_grad_(False)

    try:
        network, size = _dinov2(read_weights(path), FeatureExtractorDinoV2.INPUT_IMAGE_SIZE)
    except (RuntimeError, KeyError) as error:
        raise MuseError(f"{path} does not hold DINOv2 in its authors' layout: {error}") from error
    return FidelityExtractor(Loaded(network), f"dinov2 {size}, {sha256(path)[:12]}", device)


def _dinov2(state: Mapping[str, Tensor], side: int) -> tuple[nn.Module, str]:
    """Build DINOv2 for images of `side` pixels; also say which size it has."""
    from timm.models.vision_transformer import VisionTransformer

    width, _, patch, _ = state["patch_embed.proj.weight"].shape
    blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    network: nn.Module = VisionTransformer(
        img_size=side, patch_size=patch, embed_dim=width, depth=blocks, num_heads=width // _HEAD,
        init_values=1.0, num_classes=0, global_pool="token",
    )  # fmt: skip
    places = _stretched(state["pos_embed"], side // patch)
    rest = {name: value for name, value in state.items() if name not in ("mask_token", "pos_embed")}
    network.load_state_dict({**rest, "pos_embed": places})
    return network, f"{width} wide, {blocks} blocks"


def _stretched(places: Tensor, grid: int) -> Tensor:
    """Draw the places (1, 1 + N, D) of a square grid to another one, with the authors' tenth of a patch too much."""
    side = math.isqrt(places.shape[1] - 1)
    if side == grid:
        return places
    square = places[:, 1:].float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
    factor = (grid + 0.1) / side
    drawn = F.interpolate(square, scale_factor=(factor, factor), mode="bicubic")
    return torch.cat([places[:, :1], drawn.flatten(2).mT], 1)


@lru_cache(maxsize=1)
def load_clip(path: Path, device: str) -> FidelityExtractor:
    """Load CLIP's image tower from a file of OpenAI's names, which are open_clip's too.

    Raises:
        MuseError: the file is damaged, or holds another network.
    """
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase
    from torch_fidelity.feature_extractor_clip import FeatureExtractorCLIP, build_model

    class Loaded(FeatureExtractorCLIP):  # type: ignore[misc]
        """torch-fidelity's extractor around a network that is there already."""

        def __init__(self, network: Any) -> None:
            FeatureExtractorBase.__init__(self, "clip", ["clip"])
            self.feature_extractor_internal_dtype = torch.float32
            self.model = network
            self.resolution = network.visual.input_resolution

    state = read_weights(path)
    wanted = {key: value for key, value in state.items() if key.startswith("visual.") or key == "text_projection"}
    try:
        network: Any = build_model(wanted, torch.float32)
    except (RuntimeError, KeyError) as error:
        raise MuseError(f"{path} does not hold CLIP in OpenAI's layout: {error}") from error
    side = network.visual.input_resolution
    return FidelityExtractor(Loaded(network), f"clip {side} px, {sha256(path)[:12]}", device)
