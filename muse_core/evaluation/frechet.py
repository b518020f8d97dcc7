"""Frechet distance between two sets of features, from running moments.

Letters: B features in a batch, D their width.
"""

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from muse_core.errors import MuseError
from muse_core.evaluation.spec import NotMeasuredError
from muse_core.marks import Mark
from muse_core.ownership import write_file


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


@dataclass(frozen=True)
class Reference:
    """Stored statistics: mu (D,), sigma (D, D), and what to call them in a protocol."""

    name: str
    mu: NDArray[np.float64]
    sigma: NDArray[np.float64]

    def statistics(self) -> dict[str, NDArray[np.float64]]:
        """Return "mu" and "sigma"."""
        return {"mu": self.mu, "sigma": self.sigma}


class HasStatistics(Protocol):
    """Anything with a mean and a covariance."""

    def statistics(self) -> dict[str, NDArray[np.float64]]:
        """Return "mu" (D,) and "sigma" (D, D)."""
        ...


def frechet_distance(first: HasStatistics, second: HasStatistics) -> float:
    """Return the Frechet distance between the Gaussians of two sets of features, as torch-fidelity computes it.

    Raises:
        NotMeasuredError: one of them has fewer than two rows, or they have different widths.
    """
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    one, other = first.statistics(), second.statistics()
    if one["mu"].shape != other["mu"].shape:
        raise NotMeasuredError(f"features are {len(one['mu'])} wide, those of the reference {len(other['mu'])}")
    result = fid_statistics_to_metric(one, other, verbose=False)
    return float(result[KEY_METRIC_FID])


def save_reference(moments: Moments, path: Path, overwrite: bool = False, /, **origin: str | int) -> None:
    """Write "mu" and "sigma" as npz, and beside them where they come from.

    Raises:
        MuseError: `path` is there and `overwrite` is off.
    """
    stream = io.BytesIO()
    np.savez(stream, origin=np.array(json.dumps(origin)), **moments.statistics())  # type: ignore[arg-type]
    write_file(path, stream.getvalue(), Mark("statistics"), overwrite=overwrite)


def read_reference(path: Path, extractor: str, tap: str) -> Reference:
    """Read statistics from an npz; one that says which features it holds has to hold these.

    Raises:
        MuseError: it cannot be read, or has no "mu" and "sigma" that fit each other.
        NotMeasuredError: it holds other features.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            mu, sigma = np.asarray(file["mu"], np.float64), np.asarray(file["sigma"], np.float64)
            origin = json.loads(str(file["origin"])) if "origin" in file else {}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise MuseError(
            f"{path} is no file of reference statistics: {error}",
            hint="an npz with mu and sigma; muse eval --save-stats",
        ) from None
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)) or not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise MuseError(f"{path}: mu {mu.shape} and sigma {sigma.shape} are no mean and covariance")
    if origin and (origin.get("extractor"), origin.get("tap")) != (extractor, tap):
        raise NotMeasuredError(f"{path} holds features of {origin.get('extractor')}, not of {extractor}")
    return Reference(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}", mu, sigma)
