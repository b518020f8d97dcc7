"""Metrics that compare whole sets of features, computed by torch-fidelity's own functions.

Letters: B images, n images in all, D feature width. In torch-fidelity's order: first what was made, then what is real.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from muse_core.evaluation.pairs import Extractor, Pairs
from muse_core.evaluation.processes import in_reading_order
from muse_core.evaluation.protocol import Value
from muse_core.evaluation.spec import Measured, NotMeasuredError

if TYPE_CHECKING:
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

SEED = 2020
"""torch-fidelity's default, so that the same subsets are drawn."""


class FeatureBank:
    """All features of originals and reconstructions, float32 on the CPU: 8 kB per image and side for 2048 of them."""

    def __init__(self, extractor: Extractor, tap: str) -> None:
        self._extractor, self._tap = extractor, tap
        self._original: list[Tensor] = []
        self._reconstruction: list[Tensor] = []
        self._positions: list[Tensor] = []

    def add(self, pairs: Pairs) -> None:
        """Take in the features of the next pairs."""
        original, reconstruction = pairs.features(self._extractor, self._tap)
        self._positions.append(pairs.positions)
        self._original.append(original.float().cpu())
        self._reconstruction.append(reconstruction.float().cpu())

    def rows(self) -> tuple[Tensor, Tensor]:
        """Return the features (n, D) of reconstructions, then of originals.

        Raises:
            NotMeasuredError: nothing was seen.
        """
        if not self._original:
            raise NotMeasuredError("no image was seen")
        return torch.cat(self._reconstruction), torch.cat(self._original)

    def state(self) -> tuple[Tensor, ...]:
        """Return positions (n,), features of originals and of reconstructions (n, D)."""
        parts = (self._positions, self._original, self._reconstruction)
        return tuple(torch.cat(part) if part else torch.zeros(0) for part in parts)

    def merge(self, states: Sequence[tuple[Tensor, ...]]) -> None:
        """Take the features of all processes, in the order of the data: subsets are drawn by place."""
        positions, original, reconstruction = in_reading_order(states)
        if len(positions):
            self._positions, self._original, self._reconstruction = [positions], [original], [reconstruction]

    def recipe(self, **more: Value) -> dict[str, Value]:
        """Return what the features depend on, and more."""
        return {"extractor": self._extractor.name, "tap": self._tap, **more}


class _OnBank:
    """A metric of all features at once."""

    def __init__(self, extractor: Extractor, tap: str) -> None:
        self._bank = FeatureBank(extractor, tap)

    def update(self, pairs: Pairs) -> None:
        """Take in the next pairs."""
        self._bank.add(pairs)

    def state(self) -> tuple[Tensor, ...]:
        """Return the features seen."""
        return self._bank.state()

    def merge(self, states: Sequence[tuple[Tensor, ...]]) -> None:
        """Take the features of all processes."""
        self._bank.merge(states)


class Kid(_OnBank):
    """Kernel distance: squared maximum mean discrepancy, cubic kernel, mean over random subsets."""

    SUBSETS = 100
    SUBSET = 1000

    def result(self) -> Measured:
        """Return "kid" and "kid_std"; fewer images than a subset make a smaller subset, which the recipe tells."""
        from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

        # Cubed products of 32-bit features lose the digits in which two sets differ: sum them as 64-bit numbers.
        made, real = (rows.double() for rows in self._bank.rows())
        subset = min(self.SUBSET, len(made))
        if subset < 2:
            raise NotMeasuredError(f"a kernel distance needs at least 2 images, got {len(made)}")
        found = kid_features_to_metric(
            made, real, kid_subsets=self.SUBSETS, kid_subset_size=subset, rng_seed=SEED, verbose=False
        )
        recipe = self._bank.recipe(kernel="polynomial of degree 3", subsets=self.SUBSETS, subset=subset, seed=SEED)
        return Measured({"kid": found[KEY_METRIC_KID_MEAN], "kid_std": found[KEY_METRIC_KID_STD]}, recipe)


class PrecisionRecall(_OnBank):
    """Share of reconstructions near originals, and of originals near reconstructions, by k-nearest-neighbour balls."""

    NEIGHBOURS = 3
    WHOLE = 10_000  # beyond so many images the distances are made in parts: all at once they take 4 n^2 bytes

    def result(self) -> Measured:
        """Return "precision" and "recall"."""
        from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

        made, real = self._bank.rows()
        if len(made) <= self.NEIGHBOURS:
            raise NotMeasuredError(f"precision and recall need more than {self.NEIGHBOURS} images, got {len(made)}")
        found = prc_features_to_metric(
            made,
            real,
            prc_neighborhood=self.NEIGHBOURS,
            prc_batch_size=self.WHOLE,
            save_cpu_ram=len(made) > self.WHOLE,
            verbose=False,
        )
        values = {"precision": found[KEY_METRIC_PRECISION], "recall": found[KEY_METRIC_RECALL]}
        return Measured(values, self._bank.recipe(neighbours=self.NEIGHBOURS))


class InceptionScore(_OnBank):
    """How surely and how variously a classifier names the reconstructions."""

    SPLITS = 10

    def result(self) -> Measured:
        """Return "inception_score" and "inception_score_std" over splits."""
        from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

        logits, _ = self._bank.rows()
        if len(logits) < self.SPLITS:
            raise NotMeasuredError(f"the Inception score needs at least {self.SPLITS} images, got {len(logits)}")
        found = isc_features_to_metric(logits, self.SPLITS, True, SEED)
        values = {"inception_score": found[KEY_METRIC_ISC_MEAN], "inception_score_std": found[KEY_METRIC_ISC_STD]}
        return Measured(values, self._bank.recipe(splits=self.SPLITS, seed=SEED))


class FidelityExtractor:
    """One of torch-fidelity's feature extractors as ours: several taps from one pass.

    Args:
        network: takes uint8 images, returns a tuple in the order of `features_list`.
        name: what it is and which weights it has.
        device: where it runs.
    """

    def __init__(self, network: "FeatureExtractorBase", name: str, device: str) -> None:
        self._network = network.to(device)
        self._device = device
        self.name = name

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        """Map uint8 images (B, 3, H, W) to features (B, D) by tap."""
        found: Mapping[str, Tensor] = self._network.convert_features_tuple_to_dict(
            self._network(images.to(self._device))
        )
        return found
