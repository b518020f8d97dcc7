"""Count, mean and standard deviation of each latent channel: gathered in one exact pass, or read from a file.

Letters: B images, C latent channels, h x w tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from muse_core.errors import MuseError
from muse_core.files import read_json
from muse_core.model.locating import STATS_NAME as STATS_NAME
from muse_core.model.weights.reading import open_tensors

PUBLISHED_NAME = "latents_stats.pt"
"""What the authors of VA-VAE call theirs."""

Channels = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """count: values of one channel; mean (C,); squares (C,): the sum of squared distances from the mean."""

    count: int
    mean: Channels
    squares: Channels

    @classmethod
    def of(cls, z: Tensor) -> Moments:
        """Of latents (B, C, h, w)."""
        values = z.detach().cpu().to(torch.float64).movedim(1, 0).flatten(1).numpy()
        mean = values.mean(axis=1)
        return cls(values.shape[1], mean, ((values - mean[:, None]) ** 2).sum(axis=1))

    def merged(self, other: Moments) -> Moments:
        """Of both together, by the update of Chan, Golub and LeVeque, which never subtracts large sums."""
        count = self.count + other.count
        away = other.mean - self.mean
        mean = self.mean + away * (other.count / count)
        squares = self.squares + other.squares + away**2 * (self.count * other.count / count)
        return Moments(count, mean, squares)

    def to_json(self) -> dict[str, Any]:
        """Return numbers that are read back as they are."""
        return {"count": self.count, "mean": self.mean.tolist(), "squares": self.squares.tolist()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Moments:
        """Read what `to_json` gave."""
        return cls(int(document["count"]), np.array(document["mean"]), np.array(document["squares"]))


@dataclass(frozen=True)
class LatentStats:
    """What a generator normalises latents with; it lies beside them and never acts inside `encode`.

    count: values of each channel, 0 where nobody tells. mean, std: one number per channel, or one for all; std divides
    by count.
    """

    count: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, moments: Moments) -> LatentStats:
        """From gathered moments."""
        std = np.sqrt(moments.squares / moments.count)
        return cls(moments.count, tuple(moments.mean.tolist()), tuple(std.tolist()))

    @classmethod
    def read(cls, folder: Path) -> LatentStats:
        """Read them from a folder of latents.

        Raises:
            MuseError: there are none, or they are damaged.
        """
        document = read_json(folder / STATS_NAME)
        try:
            return cls(int(document["count"]), tuple(document["mean"]), tuple(document["std"]))
        except (KeyError, TypeError, ValueError) as error:
            raise MuseError(f"{folder / STATS_NAME} does not hold statistics of latents: {error}") from None

    @classmethod
    def from_scale(cls, scale: float, shift: float = 0.0) -> LatentStats:
        """Read the config of SD-VAE and its like: normalised latents are (z - shift) * scale."""
        return cls(0, (shift,), (1 / scale,))

    @classmethod
    def from_file(cls, path: Path) -> LatentStats:
        """Read a file of `mean` and `std`, each (1, C, 1, 1), as VA-VAE and VTP publish it.

        Raises:
            MuseError: it is missing, holds more than tensors, lacks one of the two, or has more than one per channel.
        """
        tensors = open_tensors(path, "latent statistics")
        if not {"mean", "std"} <= set(tensors):
            raise tensors.refuse("holds no mean and std")
        mean, std = (tuple(tensors[name].double().flatten().tolist()) for name in ("mean", "std"))
        if len(mean) != len(std) or any(max(tensors.shapes[name]) != len(mean) for name in ("mean", "std")):
            raise tensors.refuse("does not hold one mean and one std per channel")
        return cls(0, mean, std)

    @classmethod
    def beside(cls, place: Path) -> LatentStats | None:
        """Read the statistics that lie in a folder, or in that of a file; None where none do.

        Raises:
            MuseError: they are damaged.
        """
        if not place.exists():
            return None
        folder = place if place.is_dir() else place.parent
        if (folder / PUBLISHED_NAME).is_file():
            return cls.from_file(folder / PUBLISHED_NAME)
        return cls.read(folder) if (folder / STATS_NAME).is_file() else None

    def normalize(self, z: Tensor) -> Tensor:
        """Bring latents (..., C, h, w) to mean 0 and deviation 1 in each channel."""
        return (z - self._column(self.mean, z)) / self._column(self.std, z)

    def denormalize(self, z: Tensor) -> Tensor:
        """Undo `normalize`, as is needed before decoding."""
        return z * self._column(self.std, z) + self._column(self.mean, z)

    def _column(self, values: tuple[float, ...], z: Tensor) -> Tensor:
        return torch.tensor(values, dtype=z.dtype, device=z.device)[:, None, None]
