"""The mean and the spread of latents: what a generator works with, kept beside a tokenizer and never inside it."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from muse_core.model.weights.reading import open_tensors


@dataclass(frozen=True)
class LatentStats:
    """Normalised latents are (z - mean) / std; both broadcast to (1, C, h, w)."""

    mean: Tensor
    std: Tensor

    def normalise(self, z: Tensor) -> Tensor:
        """Bring raw latents (B, C, h, w) to zero mean and unit spread."""
        return (z - self.mean.to(z)) / self.std.to(z)

    def restore(self, z: Tensor) -> Tensor:
        """Undo `normalise`."""
        return z * self.std.to(z) + self.mean.to(z)

    @classmethod
    def from_scale(cls, scale: float, shift: float = 0.0) -> "LatentStats":
        """Read the config of SD-VAE and its like: normalised latents are (z - shift) * scale."""
        return cls(torch.tensor(shift), torch.tensor(1 / scale))

    @classmethod
    def from_file(cls, path: Path) -> "LatentStats":
        """Read a file of `mean` and `std`, as VA-VAE and VTP publish it.

        Raises:
            MuseError: it is missing, holds more than tensors, or lacks one of the two.
        """
        tensors = open_tensors(path, "latent statistics")
        if not {"mean", "std"} <= set(tensors):
            raise tensors.refuse("holds no mean and std")
        return cls(tensors["mean"].float(), tensors["std"].float())
