"""A data set in memory and tokenizers whose right answers are known."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from muse_core.data.sample import Sample, Skip
from muse_core.data.source import reader_of
from muse_core.evaluation.reading import EvalData
from muse_core.model.abilities import Attention, Features, Latents

SIDE = 16


class MemorySource:
    """Samples and skips from memory, read as `muse_core.data` reads any source."""

    max_lanes = 1
    fields = frozenset({"image", "label"})

    def __init__(
        self, items: Sequence[Sample | Skip], classes: tuple[str, ...] | None = None, name: str = "memory"
    ) -> None:
        self.items, self.classes, self.name, self.count = list(items), classes, name, len(items)

    def lane(self, index: int, lanes: int, *, seed: int, start: int = 0) -> Iterator[Sample | Skip]:
        while True:
            yield from self.items

    def once(self, index: int = 0, readers: int = 1, run: int = 1) -> Iterator[Sample | Skip]:
        yield from (item for number, item in enumerate(self.items) if reader_of(number, readers, run) == index)


def sample(key: int, label: int = -1, mask: np.ndarray | None = None, brightness: int = 0) -> Sample:
    """A noise image; `brightness` is added to its first channel, so that a class can be seen in it."""
    image = np.random.default_rng(key).integers(0, 128, (SIDE, SIDE, 3)).astype(np.uint8)
    image[..., 0] = np.minimum(image[..., 0] // 4 + brightness, 255)
    return Sample(f"sample-{key:04d}", image, label=label, mask=mask)


def data(items: Sequence[Sample | Skip], classes: tuple[str, ...] | None = None, **reading: object) -> EvalData:
    return EvalData(MemorySource(items, classes), size=SIDE, **{"batch_size": 7, **reading})  # type: ignore[arg-type]


def bright_classes(n: int, classes: int, start: int = 0) -> list[Sample | Skip]:
    """Samples whose label shows in the mean of their first channel."""
    return [sample(start + k, label=k % classes, brightness=(k % classes) * 200 // classes) for k in range(n)]


class Passes:
    """Encodes an image as itself; decoding adds a constant."""

    def __init__(self, off_by: float = 0.0) -> None:
        self.off_by = off_by
        self.decoded = 0

    def encode(self, images: Tensor, *, sample: bool = False, generator: torch.Generator | None = None) -> Latents:
        return Latents(images)

    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        self.decoded += len(z)
        return z + self.off_by


class MeanColours:
    """Features are the mean colours of an image's quarters; counts how many images it has seen."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain
        self.seen = 0

    def features(self, images: Tensor, layer: str | None = None) -> Features:
        self.seen += len(images)
        patch = self.gain * torch.nn.functional.adaptive_avg_pool2d(images, 2)
        return Features(patch, patch.mean((-2, -1)))


class Nearest:
    """Sentences with the name of class k lie at brightness k; images where their brightness is."""

    logit_scale = 1.0

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = list(classes)
        self.texts = 0

    def _angle(self, share: Tensor) -> Tensor:
        return torch.stack([torch.cos(share), torch.sin(share)], -1)

    def image_embed(self, images: Tensor) -> Tensor:
        red = (images[:, 0].mean((-2, -1)) * 255 - 15.5) / 200  # the noise below has mean 15.5
        return self._angle(red)

    def text_embed(self, texts: list[str]) -> Tensor:
        self.texts += len(texts)
        known = [next((k for k, name in enumerate(self.classes) if name in text), 0) for text in texts]
        return self._angle(torch.tensor(known, dtype=torch.float32) / len(self.classes))


class Looks:
    """Attention given beforehand for any image: a map (n, n), on a grid, behind prefix tokens."""

    def __init__(self, maps: Tensor, grid: tuple[int, int], prefix: int = 0) -> None:
        self.maps, self.grid, self.prefix = maps, grid, prefix

    def attention(self, images: Tensor, layer: int = -1) -> Attention:
        n = self.prefix + len(self.maps)
        weights = torch.full((len(images), 2, n, n), 1.0)
        weights[..., self.prefix :, self.prefix :] = self.maps
        return Attention(weights / weights.sum(-1, keepdim=True), self.prefix, self.grid)
