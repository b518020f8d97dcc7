"""Frechet distance between two sets of features, from running moments.

Letters: B features in a batch, D their width.
"""

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from muse_core.evaluation.spec import NotMeasuredError


class Moments:
    """Mean and covariance of rows seen a batch at a time, in float64; merging two equals having seen both."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self.scatter = torch.zeros(0, 0, dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        """Take in rows (B, D)."""
        if len(rows) == 0:
            return
        rows = rows.detach().cpu().double()
        mean = rows.mean(0)
        centred = rows - mean
        self._join(len(rows), mean, centred.T @ centred)

    def merge(self, other: Self) -> None:
        """Take in everything another one has seen."""
        if other.count:
            self._join(other.count, other.mean, other.scatter)

    def _join(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        if self.count == 0:
            self.count, self.mean, self.scatter = count, mean.clone(), scatter.clone()
            return
        total = self.count + count
        step = mean - self.mean
        self.scatter = self.scatter + scatter + torch.outer(step, step) * (self.count * count / total)
        self.mean = self.mean + step * (count / total)
        self.count = total

    def covariance(self) -> Tensor:
        """Return the unbiased covariance (D, D).

        Raises:
            NotMeasuredError: fewer than two rows were seen.
        """
        if self.count < 2:
            raise NotMeasuredError(f"a covariance needs at least 2 images, got {self.count}")
        return self.scatter / (self.count - 1)

    def statistics(self) -> dict[str, NDArray[np.float64]]:
        """Return "mu" (D,) and "sigma" (D, D): the two arrays of a reference file."""
        return {"mu": self.mean.numpy(), "sigma": self.covariance().numpy()}


def frechet_distance(first: Moments, second: Moments) -> float:
    """Return the Frechet distance between the Gaussians of two sets of features, as torch-fidelity computes it.

    Raises:
        NotMeasuredError: one of them has fewer than two rows.
    """
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    result = fid_statistics_to_metric(first.statistics(), second.statistics(), verbose=False)
    return float(result[KEY_METRIC_FID])
