"""How an image of any size is named pixel by pixel: in one piece, or in windows of the tokenizer's own size.

Letters: B images, H x W pixels, D feature width, C classes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from muse_core.data.sample import UNKNOWN_MASK, Sample
from muse_core.data.transforms import LONGEST, eval_transform
from muse_core.data.vocabulary import counted
from muse_core.errors import MuseError
from muse_core.evaluation.reading import EvalData, Tally, named, samples, settle
from muse_core.model.abilities import Described, Featurizes
from muse_core.progress import Progress, Tracker

MASKS_HINT = "a shard with masks has NAME.seg.png beside each image; 255 in it means ignored"
ViewName = Literal["whole", "sliding", "crop"]
Mask = NDArray[np.uint8]
Head = Callable[[Tensor, tuple[int, int], tuple[int, int]], Tensor]
"""Features (B, D, h, w), the pixels (high, wide) under their grid, and the image's size, to logits (B, C, H, W)."""


@dataclass(frozen=True)
class View:
    """How images are looked at. Sliding windows are squares of `size` and overlap by a third.

    name: "whole": shorter side to `size`, in one piece; "sliding": the same image, in windows; "crop": its centre only.
    """

    name: ViewName
    size: int

    def describe(self) -> str:
        """Say it for a protocol."""
        shorter = f"shorter side {self.size}"
        words = {"whole": f"{shorter}, in one piece", "sliding": f"{shorter}, windows of {self.size}, a third shared"}
        return words.get(self.name, f"{shorter}, centre crop")


@dataclass(frozen=True)
class Look:
    """Images of one size: pixels (B, 3, H, W), masks, each of the size it is measured at, and places in the data."""

    images: Tensor
    masks: tuple[Mask, ...]
    keys: tuple[str, ...]
    positions: tuple[int, ...]


def looks(data: EvalData, view: View, tally: Tally, progress: Progress) -> Iterator[Look]:
    """Read every image that has a mask; neighbours of one size come together, at most `data.batch_size` of them.

    Raises:
        MuseError: no usable sample, or not one with a mask.
    """
    used = 0
    with progress.track(f"naming pixels of {data.name}", data.share) as tracker:
        for _, alike in groupby(_with_masks(data, view, tally, tracker), lambda one: (one[0], one[2].image.shape)):
            waiting = [(position, seen, measured) for _, position, seen, measured in alike]
            used += len(waiting)
            yield _look(waiting, data.device)
    settle(data, tally, progress)
    if not sum(data.team.gather(used)):
        raise MuseError(
            f"not one of the {counted(tally.seen, 'sample')} of {data.name} has a mask that labels a pixel",
            hint=MASKS_HINT,
        )


def _with_masks(
    data: EvalData, view: View, tally: Tally, tracker: Tracker
) -> Iterator[tuple[tuple[int, int], int, Sample, Sample]]:
    """Read what has a mask: its batch, its place, and the sample as it is looked at and as it is measured."""
    for position, sample in samples(data, tally):
        tracker.advance()
        if sample.mask is None or bool((sample.mask == UNKNOWN_MASK).all()):
            tally.skip("no mask", 1)
        elif view.name != "crop" and max(sample.mask.shape) > LONGEST * min(sample.mask.shape):
            tally.skip(f"more than {LONGEST} times as long as wide, which only --view crop takes", 1)
        else:
            yield data.batch_of(position), position, *_seen(sample, view)


def _seen(sample: Sample, view: View) -> tuple[Sample, Sample]:
    """Return the sample as it is looked at, and as it is measured: a crop is measured as cropped, else at its size."""
    if view.name == "crop":
        crop = eval_transform(view.size)(sample)
        return crop, crop
    height, width = sample.image.shape[:2]
    shorter = min(height, width)
    if shorter == view.size:
        return sample, sample
    size = (max(view.size, width * view.size // shorter), max(view.size, height * view.size // shorter))
    image = np.asarray(Image.fromarray(sample.image).resize(size, Image.Resampling.BICUBIC))
    return Sample(sample.key, image), sample


def _look(waiting: list[tuple[int, Sample, Sample]], device: str) -> Look:
    pixels = torch.from_numpy(np.stack([seen.image for _, seen, _ in waiting])).to(device)
    masks = tuple(measured.mask for _, _, measured in waiting if measured.mask is not None)
    keys = tuple(measured.key for _, _, measured in waiting)
    places = tuple(position for position, _, _ in waiting)
    return Look(pixels.permute(0, 3, 1, 2).float().div_(255).contiguous(), masks, keys, places)


@torch.no_grad()
def logits(tokenizer: Featurizes, layer: str | None, head: Head, images: Tensor, view: View) -> Tensor:
    """Name the pixels of images (B, 3, H, W): logits (B, C, H, W).

    Raises:
        MuseError: the image is not square and the tokenizer knows nothing else.
    """
    height, width = images.shape[-2:]
    if view.name != "sliding":
        _refuse_oblong(tokenizer, (height, width))
        return _piece(tokenizer, layer, head, images)
    total, times = None, images.new_zeros(height, width)
    for top in _starts(height, view.size):
        for left in _starts(width, view.size):
            window = (..., slice(top, top + view.size), slice(left, left + view.size))
            part = _piece(tokenizer, layer, head, images[window])
            if total is None:
                total = part.new_zeros(len(images), part.shape[1], height, width)
            total[window] += part
            times[window[1:]] += 1
    assert total is not None  # there is always a first window
    return total / times


def _piece(tokenizer: Featurizes, layer: str | None, head: Head, images: Tensor) -> Tensor:
    features = tokenizer.features(images, layer).patch.float()
    if not torch.isfinite(features).all():
        raise MuseError(f"features of {named(tokenizer)} are not finite", hint="the checkpoint diverged")
    size = (images.shape[-2], images.shape[-1])
    return head(features, cover_of(tokenizer, layer, features, size), size)


def cover_of(tokenizer: object, layer: str | None, features: Tensor, size: tuple[int, int]) -> tuple[int, int]:
    """Pixels under a grid of features (..., h, w): its sides times the stride, where the tokenizer says what that is.

    More than `size` where the image was padded.
    """
    layers = tokenizer.info.feature_layers if isinstance(tokenizer, Described) else {}
    if layer is None or layer not in layers:
        return size
    return (features.shape[-2] * layers[layer].stride, features.shape[-1] * layers[layer].stride)


def layer_for_segmenting(tokenizer: object, layer: str | None) -> str | None:
    """Return the feature layer asked for, else the tokenizer's own for segmenting."""
    return layer or (tokenizer.info.layer_for.get("segment") if isinstance(tokenizer, Described) else None)


def _starts(length: int, window: int) -> list[int]:
    """Where windows begin: every two thirds of a window, and the last at the end."""
    last = max(length - window, 0)
    return sorted({*range(0, last, max(1, 2 * window // 3)), last})


def _refuse_oblong(tokenizer: object, size: tuple[int, int]) -> None:
    if size[0] != size[1] and isinstance(tokenizer, Described) and tokenizer.info.square_only:
        raise MuseError(f"{named(tokenizer)} takes square images only, not {size[0]} x {size[1]}", "--view sliding")


def answers(found: Tensor, size: tuple[int, int], at_once: int = 16) -> Tensor:
    """Return the class with the largest logit for every pixel of an image of `size`: (1, C, H, W) to int64 (H', W').

    Logits are drawn to `size` bilinearly, a few classes at a time: 150 classes of a photograph would not fit memory.
    """
    if tuple(found.shape[-2:]) == size:
        return found[0].argmax(0)
    best = found.new_full(size, -torch.inf)
    said = torch.zeros(size, dtype=torch.int64, device=found.device)
    for first in range(0, found.shape[1], at_once):
        part = torch.nn.functional.interpolate(found[:, first : first + at_once], size, mode="bilinear")
        value, index = part[0].max(0)
        better = value > best
        best, said = torch.where(better, value, best), torch.where(better, index + first, said)
    return said
