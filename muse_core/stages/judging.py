"""From settings to what the losses compare with: structure teacher, text tower, perceptual networks."""

from collections.abc import Callable, Mapping

import torch
from einops import rearrange
from torch import Tensor
from transformers import InternVLVisionModel

from muse_core.errors import MuseError
from muse_core.losses.perceptual import (
    LPIPS,
    CombinedPerceptual,
    ConvNextLogits,
    FeatureDistance,
    Perceptual,
    parse_perceptual,
)
from muse_core.model.captions import CaptionCache
from muse_core.model.checkpoint import CheckpointState
from muse_core.model.images import imagenet_normalize
from muse_core.model.network import MuseNetwork
from muse_core.model.teacher import StructureTeacher
from muse_core.model.text import TextTower
from muse_core.model.weights import published, tiny
from muse_core.model.weights.filling import digest_of
from muse_core.model.weights.parts import tiny_hashes
from muse_core.settings.train import LossSettings
from muse_core.stages.objective import Judges

TINY_PERCEPTUAL = "tiny-features"
TINY_PERCEPTUAL_LAYERS = 2


def active_losses(losses: LossSettings) -> dict[str, float]:
    """Name the objectives whose weight is not 0."""
    names = ("pixel", "perceptual", "topology", "contrastive", "adversarial")
    return {name: getattr(losses, name) for name in names if getattr(losses, name) > 0}


def build_judges(
    size: str, losses: LossSettings, caption_width: int, device: torch.device, dtype: torch.dtype = torch.float32
) -> Judges:
    """Load what the active losses compare with, to compute in a number format.

    Raises:
        MuseError: a part is missing, damaged, or of another width than the network was built for.
    """
    active = active_losses(losses)
    return Judges(
        teacher=_teacher(size).to(device, dtype) if "topology" in active else None,
        text=CaptionCache(_text(size, caption_width).to(device, dtype)) if "contrastive" in active else None,
        perceptual=_perceptual(size, losses.perceptual_kind, device, dtype) if "perceptual" in active else None,
    )


def _teacher(size: str) -> StructureTeacher:
    return StructureTeacher(tiny.load_teacher_model() if size == "tiny" else published.load_teacher(size))


def _text(size: str, caption_width: int) -> TextTower:
    tower = tiny.load_text() if size == "tiny" else published.load_text(size)
    if tower.width != caption_width:
        raise MuseError(
            f"the text tower {tower.name} is {tower.width} wide, the network was built for {caption_width}",
            hint="start from a checkpoint that was trained with this tower, or --init none",
        )
    return tower


def _perceptual(size: str, kind: str, device: torch.device, dtype: torch.dtype) -> Perceptual:
    if kind == TINY_PERCEPTUAL:
        return FeatureDistance(tiny_features(tiny.load_backbone().to(device, dtype), TINY_PERCEPTUAL_LAYERS))
    if size == "tiny":
        raise MuseError(
            f"losses.perceptual_kind {kind} needs published weights, which size tiny does without",
            hint=f"--set losses.perceptual_kind={TINY_PERCEPTUAL}",
        )
    parts = parse_perceptual(kind)
    return CombinedPerceptual([(weight, _distance(size, name, device, dtype)) for name, weight in parts.items()])


def _distance(size: str, name: str, device: torch.device, dtype: torch.dtype) -> Perceptual:
    if name == "lpips":
        return LPIPS.from_states(*published.load_lpips_states(size)).to(device, dtype)
    return ConvNextLogits(published.load_convnext(size)).to(device, dtype)


def tiny_features(vision: InternVLVisionModel, layers: int) -> Callable[[Tensor], list[Tensor]]:
    """Return the first layers of the pack's backbone as image features, each (B, D, h, w)."""

    def features(images: Tensor) -> list[Tensor]:
        hidden = vision.embeddings(imagenet_normalize(images))
        height = images.shape[-2] // int(vision.config.patch_size[0])
        found = []
        for layer in vision.encoder.layer[:layers]:
            hidden = layer(hidden)
            found.append(rearrange(hidden[:, 1:], "b (h w) d -> b d h w", h=height))
        return found

    return features


def frozen_parts(size: str, network: MuseNetwork, judges: Judges, *, encoder_trained: bool) -> dict[str, str]:
    """Hash the parts that a checkpoint names instead of holding them, by role."""
    if size == "tiny":
        used = {"teacher", "text"} | (set() if encoder_trained else {"backbone"})
        return {role: digest for role, digest in tiny_hashes().items() if role in used}
    hashes = {} if encoder_trained else {"encoder": digest_of(network.encoder.vision)}
    if judges.text:
        hashes["text"] = judges.text.tower.digest()
    if judges.teacher:
        hashes["teacher"] = digest_of(judges.teacher.model)
    return hashes


def refuse_other_judges(checkpoint: object, state: CheckpointState, here: Mapping[str, str]) -> None:
    """Refuse to go on with a run when a frozen part is another one than it was trained with.

    Raises:
        MuseError: names the parts.
    """
    changed = [role for role, digest in state.frozen.items() if role in here and here[role] != digest]
    if changed:
        raise MuseError(
            f"{checkpoint} was trained with another {', '.join(changed)} than lies under $MUSE_WEIGHTS now",
            hint="put back the weights it was trained with, or start a new run from it with --init",
        )
