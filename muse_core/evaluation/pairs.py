"""Original and reconstruction as bytes, decoded once and rounded once for every metric.

Letters: B images, H x W pixels, D feature width.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from muse_core.evaluation.pixels import to_bytes


class Extractor(Protocol):
    """A network that describes images; metrics that use the same one share its work."""

    @property
    def name(self) -> str:
        """Return what it is and which weights it has, so that equal names mean equal features."""

    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        """Map uint8 images (B, 3, H, W) to named features (B, D)."""


class Pairs:
    """One batch of originals and their reconstructions.

    Args:
        original: (B, 3, H, W) in [0, 1].
        reconstruction: (B, 3, H, W), nominally in [0, 1], not clamped.
        keys: name of each image.
        positions: where each stands in the data, counted over all processes.

    Raises:
        MuseError: a value is not finite.
        ValueError: the two have different shapes.
    """

    def __init__(
        self,
        original: Tensor,
        reconstruction: Tensor,
        keys: Sequence[str] = (),
        positions: Sequence[int] = (),
    ) -> None:
        if original.shape != reconstruction.shape:
            raise ValueError(f"originals {tuple(original.shape)}, reconstructions {tuple(reconstruction.shape)}")
        self.original = to_bytes(original)
        self.reconstruction = to_bytes(reconstruction)
        self.keys = tuple(keys)
        self.positions = torch.tensor(positions or range(len(original)), dtype=torch.int64)
        self._features: dict[str, tuple[Mapping[str, Tensor], Mapping[str, Tensor]]] = {}

    def __len__(self) -> int:
        return len(self.original)

    def features(self, extractor: Extractor, tap: str) -> tuple[Tensor, Tensor]:
        """Return one kind of features of originals and reconstructions, each (B, D); computed once per extractor."""
        if extractor.name not in self._features:
            self._features[extractor.name] = extractor(self.original), extractor(self.reconstruction)
        original, reconstruction = self._features[extractor.name]
        return original[tap], reconstruction[tap]
