"""What travels from shards to the model: a sample, a note that one was skipped, a batch.

Letters: H, W sides of a picture, S side after the transform, B samples in a batch.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from muse_core.data.vocabulary import reasons_in_words
from muse_core.errors import ExitCode, MuseError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

UNKNOWN_LABEL = -1
"""Label of a sample that carries no class."""

UNKNOWN_MASK = 255
"""Mask value where nothing is known: in batches in which only some samples carry a mask."""


@dataclass(frozen=True)
class Sample:
    """One decoded sample.

    image: (H, W, 3) uint8 RGB. caption: empty when there is none. label: class index or `UNKNOWN_LABEL`.
    mask: (H, W) uint8 of raw label values, or None. notes: what reading the image left out, as `ImageFile.notes`.
    """

    key: str
    image: NDArray[np.uint8]
    caption: str = ""
    label: int = UNKNOWN_LABEL
    mask: NDArray[np.uint8] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skip:
    """A sample that was passed over, and why.

    error: it is damaged, rather than filtered out on request. detail: what was seen in this one.
    """

    reason: str
    key: str
    error: bool = True
    detail: str = ""

    @property
    def example(self) -> str:
        """The sample as an example of its reason."""
        return f"{self.key}: {self.detail}" if self.detail else self.key


@dataclass
class Skips:
    """How many samples were read and how many passed over, by reason, with the first key of each reason.

    notes: how many images were read without something that they hold, by note.
    """

    seen: int = 0
    errors: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)

    def note(self, item: Sample | Skip) -> None:
        """Count one item of a source."""
        self.seen += 1
        if isinstance(item, Skip):
            self.errors += item.error
            self.reasons[item.reason] += 1
            self.examples.setdefault(item.reason, item.example)
        else:
            self.notes.update(item.notes)

    def merge(self, other: Skips) -> None:
        """Add the counts of another reader."""
        self.seen += other.seen
        self.errors += other.errors
        self.reasons.update(other.reasons)
        self.examples = {**other.examples, **self.examples}
        self.notes.update(other.notes)

    def in_words(self) -> str:
        """Say why samples were passed over, with the first of each reason; "" where none was."""
        return reasons_in_words(self.reasons, self.examples)

    def refuse_many(self, limit: float, least: int = 1000) -> None:
        """Stop the run when, after `least` samples, more than a fraction `limit` was damaged; 0 waits for none."""
        if (self.seen >= least or not limit) and self.errors > limit * self.seen:
            raise MuseError(
                f"{self.errors} of {self.seen} samples could not be used, more than the allowed {limit:.1%}: "
                f"{self.in_words()}",
                hint="muse inspect the shards, or raise the limit: --set data.limit_errors=0.05",
                exit_code=ExitCode.STOPPED,
            )


@dataclass
class Batch:
    """What a training or evaluation step sees.

    images: (B, 3, S, S) float32 in [0, 1]. labels: (B,) int64. masks: (B, S, S) uint8, or None when no sample has one.
    read_s: seconds that the busiest of its readers worked on it. cursor: for each lane this process reads, how many raw
    samples it had consumed after this batch; given to `Batches` it makes reading continue behind this batch. skipped,
    examples: samples passed over since reading began, by reason, and the first key of each. notes: images since then
    that were read without something that they hold, by note.
    """

    images: Tensor
    captions: list[str]
    labels: Tensor
    masks: Tensor | None
    keys: list[str]
    read_s: float = 0.0
    cursor: dict[int, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Batch:
        """The same batch with its tensors on a device, and its images in a number format."""
        masks = None if self.masks is None else self.masks.to(device, non_blocking=True)
        images, labels = self.images.to(device, dtype, non_blocking=True), self.labels.to(device, non_blocking=True)
        return replace(self, images=images, labels=labels, masks=masks)


def collate(samples: list[Sample], cursor: dict[int, int] | None = None, skips: Skips | None = None) -> Batch:
    """Stack samples whose pictures have one size."""
    import torch

    pixels = torch.from_numpy(np.stack([one.image for one in samples])).permute(0, 3, 1, 2)
    images = torch.empty(pixels.shape).copy_(pixels).div_(255)  # one tensor of this size is made, not two
    masks = None
    if any(one.mask is not None for one in samples):
        unknown = np.full(samples[0].image.shape[:2], UNKNOWN_MASK, np.uint8)
        masks = torch.from_numpy(np.stack([unknown if one.mask is None else one.mask for one in samples]))
    return Batch(
        images=images,
        captions=[one.caption for one in samples],
        labels=torch.tensor([one.label for one in samples], dtype=torch.int64),
        masks=masks,
        keys=[one.key for one in samples],
        cursor=cursor or {},
        skipped=dict(skips.reasons) if skips else {},
        examples=dict(skips.examples) if skips else {},
        notes=dict(skips.notes) if skips else {},
    )
