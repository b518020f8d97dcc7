"""Count, mean and standard deviation of each latent channel, gathered in one pass that stays exact.

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

STATS_NAME = "latents_stats.json"

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

    count: values of each channel. mean, std: one number per channel; std divides by count.
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

    def normalize(self, z: Tensor) -> Tensor:
        """Bring latents (..., C, h, w) to mean 0 and deviation 1 in each channel."""
        return (z - self._column(self.mean, z)) / self._column(self.std, z)

    def denormalize(self, z: Tensor) -> Tensor:
        """Undo `normalize`, as is needed before decoding."""
        return z * self._column(self.std, z) + self._column(self.mean, z)

    def _column(self, values: tuple[float, ...], z: Tensor) -> Tensor:
        return torch.tensor(values, dtype=z.dtype, device=z.device)[:, None, None]
