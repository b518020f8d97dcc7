"""The semantic stream's objective: an image lies nearest to its own caption, over all processes.

Letters: B images of this process, M images of all processes, E embedding width.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from muse_core.distributed import gather_rows
from muse_core.model.numbers import full


@dataclass(frozen=True)
class ContrastiveResult:
    """The loss, and how many captions an image was pushed away from, on average over all processes, rounded down (an
    int64 scalar: a number would have to be waited for)."""

    loss: Tensor
    negatives: Tensor


@dataclass(frozen=True)
class CaptionGroups:
    """Which samples have a caption at all, (B,) bool, and equal numbers for equal captions, (B,) int64."""

    positives: Tensor
    groups: Tensor


def caption_groups(captions: Sequence[str], device: torch.device | str = "cpu") -> CaptionGroups:
    """Number captions so that equal ones get equal numbers in every process; blank captions are no positives."""
    texts = [caption.strip() for caption in captions]
    return CaptionGroups(
        positives=torch.tensor([bool(text) for text in texts], dtype=torch.bool, device=device),
        groups=torch.tensor([_number(text) for text in texts], dtype=torch.int64, device=device),
    )


def _number(text: str) -> int:
    """Hash a caption to an int64; Python's own hash differs between processes."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def contrastive_loss(
    image: Tensor,
    text: Tensor,
    log_scale: Tensor,
    *,
    positives: Tensor | None = None,
    groups: Tensor | None = None,
    gather: Callable[[Tensor], Tensor] | None = None,
    max_scale: float = 100.0,
) -> ContrastiveResult:
    """Return the symmetric cross-entropy of images against captions and captions against images.

    Every process returns the loss of the whole batch, so that gradients **averaged** over processes, as data-parallel
    training does, equal those of one process with all samples.

    Args:
        image: (B, E) unit rows.
        text: (B, E) unit rows; row i describes image i.
        log_scale: () natural logarithm of the inverse temperature.
        positives: (B,) bool, False where the caption is missing; such a sample is left out altogether, neither
            pulled to the caption "" nor pushed from the captions of others. All True when None.
        groups: (B,) int64, equal for equal captions, in all processes (`caption_groups`); an equal caption of another
            image is not a negative. All different when None.
        gather: concatenates (B, ...) of all processes with gradient; the default does so when training is distributed.
        max_scale: the inverse temperature is never larger than this.
    """
    gathered = gather or gather_rows
    have = torch.ones(len(image), dtype=torch.int64, device=image.device) if positives is None else positives.long()
    captioned = gathered(have).bool()
    images, texts = gathered(full(image)), gathered(full(text))  # M E
    apart = _apart(captioned, None if groups is None else gathered(groups))

    scale: Tensor = _CappedLog.apply(full(log_scale), math.log(max_scale)).exp()
    with torch.autocast(image.device.type, enabled=False):  # at scale 100 half precision would round logits to 0.5
        logits = (scale * images @ texts.mT).masked_fill(~apart, -math.inf)  # M M
    own = torch.arange(len(images), device=image.device)
    count = captioned.sum().clamp_min(1)  # a batch without any caption costs 0 and has a gradient path
    both = F.cross_entropy(logits, own, reduction="sum") + F.cross_entropy(logits.mT, own, reduction="sum")
    return ContrastiveResult(both / (2 * count), negatives=(apart.sum() - len(images)) // count)


def _apart(captioned: Tensor, groups: Tensor | None) -> Tensor:
    """Mark the pairs (M, M) that are compared: different captions, and every image with its own.

    A sample without caption is compared with itself alone, which costs exactly 0: rows are not picked out, because how
    many there are would have to be asked of the device.
    """
    compared = captioned[:, None] & captioned[None, :]
    if groups is not None:
        compared = compared & (groups[:, None] != groups[None, :])
    return compared | torch.eye(len(captioned), dtype=torch.bool, device=captioned.device)


class _CappedLog(torch.autograd.Function):
    """min(value, cap) that can be left again: above the cap only a gradient that lowers the value passes.

    A plain clamp would hold a value that overshot the cap for ever, since its gradient there is 0.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, value: Tensor, cap: float) -> Tensor:
        ctx.save_for_backward(value > cap)
        return value.clamp(max=cap)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        (above,) = ctx.saved_tensors  # type: ignore[attr-defined]
        (gradient,) = gradients
        return torch.where(above & (gradient < 0), torch.zeros_like(gradient), gradient), None
