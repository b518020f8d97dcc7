"""What stored masks mean, and how far named and true pixels overlap.

Letters: C classes, n images.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from muse_core.errors import ExitCode, MuseError

IGNORED = 255
Rule = Callable[[Tensor], Tensor]
"""Stored mask values to int64 classes; 255 is ignored."""


def plain_labels(masks: Tensor) -> Tensor:
    """Take stored values as classes; 255 is ignored."""
    return masks.long()


def ade20k_labels(masks: Tensor) -> Tensor:
    """ADE20K's rule: 0 means "other" and is ignored like 255; 1 to 150 are the classes 0 to 149."""
    labels = masks.long()
    return torch.where((labels == 0) | (labels == IGNORED), IGNORED, labels - 1)


LABEL_RULES: Mapping[str, Rule] = {"plain": plain_labels, "ade20k": ade20k_labels}


class PixelConfusion:
    """Counts of pixels by true and by named class, in whole numbers."""

    def __init__(self, classes: int) -> None:
        self.counts = torch.zeros(classes, classes, dtype=torch.int64)  # true, named

    def add(self, labels: Tensor, said: Tensor) -> None:
        """Take in labels and answers of equal shape, int64; labels of 255 are ignored.

        Raises:
            MuseError: a label is no class.
        """
        classes = len(self.counts)
        refuse_beyond(labels, classes)
        known = labels != IGNORED
        labels, said = labels[known], said[known]
        pairs = torch.bincount(labels * classes + said, minlength=classes**2)
        self.counts += pairs.view(classes, classes).cpu()

    def merge(self, parts: Sequence[Tensor]) -> None:
        """Replace the counts by the sum of those of all processes."""
        self.counts = sum(parts, torch.zeros_like(self.counts))

    def iou(self) -> Tensor:
        """Intersection over union per class, float64 (C,); not a number where a class is neither true nor named."""
        hit = self.counts.diagonal().double()
        return hit / (self.counts.sum(0) + self.counts.sum(1) - self.counts.diagonal())

    def mean_iou(self) -> float:
        """Mean over the classes present: true somewhere, or named somewhere.

        Raises:
            MuseError: there is no pixel with a class.
        """
        values = self.iou()
        present = values[~values.isnan()]
        if not len(present):
            raise MuseError("there is no pixel with a class to measure on")
        return float(present.mean())

    def accuracy(self) -> float:
        """Share of pixels named right.

        Raises:
            MuseError: there is no pixel with a class.
        """
        if not self.counts.sum():
            raise MuseError("there is no pixel with a class to measure on")
        return float(self.counts.diagonal().sum()) / float(self.counts.sum())


def refuse_beyond(labels: Tensor, classes: int) -> None:
    """Refuse labels that are no class.

    Raises:
        MuseError: with exit code 3.
    """
    highest = int(torch.where(labels == IGNORED, -1, labels).max())
    if highest >= classes:
        raise beyond(highest, classes)


def beyond(highest: int, classes: int) -> MuseError:
    """Make the error for a mask with a class that does not exist."""
    return MuseError(
        f"a mask holds class {highest}, but there are only {classes}",
        hint=f"--classes {highest + 1}, or another --label-rule",
        exit_code=ExitCode.SETTINGS,
    )


class ImageOverlaps:
    """Hits, true pixels and named pixels of every image by class, for the spread of the mean over images."""

    DRAWS = 200

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._rows: list[Tensor] = []  # 3 C each

    def add(self, labels: Tensor, said: Tensor) -> None:
        """Take in one image's labels and answers, int64 of equal shape; labels of 255 are ignored."""
        known = labels != IGNORED
        labels, said = labels[known], said[known]
        parts = (labels[labels == said], labels, said)
        self._rows.append(torch.stack([torch.bincount(part, minlength=self._classes).cpu() for part in parts]))

    def rows(self) -> Tensor:
        """Return what was counted, in the order it was taken in: int64 (n, 3, C)."""
        return torch.stack(self._rows) if self._rows else torch.zeros(0, 3, self._classes, dtype=torch.int64)

    def replace(self, rows: Tensor) -> None:
        """Hold other rows (n, 3, C) instead."""
        self._rows = list(rows)

    def standard_error(self) -> float:
        """Return the deviation of the mean IoU over sets of images drawn with replacement (bootstrap, seeded)."""
        rows = self.rows().double()  # n 3 C
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randint(len(rows), (self.DRAWS, len(rows)), generator=generator)
        times = torch.zeros(self.DRAWS, len(rows), dtype=torch.float64)
        times.scatter_add_(1, drawn, torch.ones_like(times))
        hit, true, named_ = torch.einsum("dn,nkc->kdc", times, rows)
        means = (hit / (true + named_ - hit)).nanmean(-1)
        means = means[~means.isnan()]  # sets of images without a labelled pixel say nothing
        return float(means.std()) if len(means) > 1 else 0.0
