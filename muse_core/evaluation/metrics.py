"""The built-in reconstruction metrics, made from their contexts and fed with pairs.

Letters: B images, H x W pixels, D feature width.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from muse_core.evaluation.frechet import Moments, frechet_distance, read_reference
from muse_core.evaluation.pairs import Extractor, Pairs
from muse_core.evaluation.pixels import WINDOW, mean_of_finite, psnr, ssim
from muse_core.evaluation.processes import in_reading_order
from muse_core.evaluation.protocol import Value
from muse_core.evaluation.spec import Measured, Metric, MetricContext, NotMeasuredError

_BYTES: Mapping[str, Value] = {"pixels": "uint8, rounded once", "data_range": 1.0}


class PerImage:
    """The mean over images of a number that each pair has."""

    def __init__(self, name: str, compare: Callable[[Tensor, Tensor], Tensor], recipe: Mapping[str, Value]) -> None:
        self._name = name
        self._compare = compare
        self._recipe = recipe
        self._values: list[Tensor] = []
        self._positions: list[Tensor] = []

    def update(self, pairs: Pairs) -> None:
        """Compare the next pairs."""
        self._values.append(self._compare(pairs.original, pairs.reconstruction).cpu())
        self._positions.append(pairs.positions)

    def state(self) -> tuple[Tensor, Tensor]:
        """Return positions and values, each (n,)."""
        empty = torch.zeros(0, dtype=torch.float64)
        return torch.cat([empty.long(), *self._positions]), torch.cat([empty, *self._values])

    def merge(self, states: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Take the values of all processes, in the order of the data."""
        positions, values = in_reading_order(states)
        self._positions, self._values = [positions], [values]

    def result(self) -> Measured:
        """Return the mean; images reconstructed to the byte have no finite PSNR and are told apart."""
        values = torch.cat(self._values) if self._values else torch.zeros(0, dtype=torch.float64)
        if len(values) == 0:
            raise NotMeasuredError("no image was seen")
        mean = mean_of_finite(values)
        exact = int((~torch.isfinite(values)).sum())
        left_out = (f"{self._name}: {exact} images equal to the byte are not in the mean",)
        notes = left_out if exact and math.isfinite(mean) else ()
        finite = values[torch.isfinite(values)].double()
        errors = {self._name: float(finite.std()) / math.sqrt(len(finite))} if len(finite) > 1 else {}
        return Measured({self._name: mean}, self._recipe, notes, errors)


class Frechet:
    """Frechet distance between the features of what was made and those of originals, or a reference file's."""

    def __init__(self, name: str, extractor: Extractor, tap: str, reference: Path | None = None) -> None:
        self._name = name
        self.extractor = extractor
        self.tap = tap
        self._reference = None if reference is None else read_reference(reference, extractor.name, tap)
        self._original, self._reconstruction = Moments(), Moments()

    def named(self, name: str) -> "Frechet":
        """Return an empty one of another name, with the same extractor and reference."""
        other = Frechet(name, self.extractor, self.tap)
        other._reference = self._reference
        return other

    def add(self, images: Tensor, *, made: bool) -> None:
        """Add uint8 images (B, 3, H, W) that belong to no pair: made ones, or real ones."""
        (self._reconstruction if made else self._original).add(self.extractor(images)[self.tap])

    def update(self, pairs: Pairs) -> None:
        """Add the features of the next pairs."""
        original, reconstruction = pairs.features(self.extractor, self.tap)
        self._original.add(original)
        self._reconstruction.add(reconstruction)

    def state(self) -> tuple[Moments, Moments]:
        """Return what is known of originals and of reconstructions."""
        return self._original, self._reconstruction

    def merge(self, states: Sequence[tuple[Moments, Moments]]) -> None:
        """Join what all processes know."""
        self._original, self._reconstruction = Moments(), Moments()
        for original, reconstruction in states:
            self._original.merge(original)
            self._reconstruction.merge(reconstruction)

    def result(self) -> Measured:
        """Return the distance; with fewer images than dimensions, also a warning."""
        value = frechet_distance(self._reconstruction, self._reference or self._original)
        count, width = self._reconstruction.count, len(self._reconstruction.mean)
        singular = f"{self._name}: {count} images for {width} feature dimensions, too few for a stable value"
        recipe: dict[str, Value] = {"extractor": self.extractor.name, "tap": self.tap, "covariance": "unbiased"}
        if self._reference is not None:
            recipe["reference"] = self._reference.name
        return Measured({self._name: value}, recipe, (singular,) if count <= width else ())


def make_psnr(context: MetricContext) -> Metric:
    """Make PSNR in dB."""
    return PerImage("psnr", psnr, _BYTES)


def make_ssim(context: MetricContext) -> Metric:
    """Make SSIM with scikit-image's defaults."""
    return PerImage("ssim", ssim, {**_BYTES, "window": WINDOW, "covariance": "sample"})
