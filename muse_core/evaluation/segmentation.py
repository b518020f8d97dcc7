"""How well a linear head on frozen patches names every pixel, and the measure of that.

Letters: B samples, D feature width, h x w patches, C classes, S side of an image.
"""

import math
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.patches import PatchStore, store_patches
from muse_core.evaluation.protocol import Protocol, Row, Scores
from muse_core.evaluation.reading import EvalData, named
from muse_core.progress import Progress, Silent

IGNORED = 255


def plain_labels(masks: Tensor) -> Tensor:
    """Take stored values as classes; 255 is ignored."""
    return masks.long()


def ade20k_labels(masks: Tensor) -> Tensor:
    """ADE20K's rule: 0 means "other" and is ignored like 255; 1 to 150 are the classes 0 to 149."""
    labels = masks.long()
    return torch.where((labels == 0) | (labels == IGNORED), IGNORED, labels - 1)


LABEL_RULES: Mapping[str, Callable[[Tensor], Tensor]] = {"plain": plain_labels, "ade20k": ade20k_labels}


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
        _refuse_beyond(labels, classes)
        known = labels != IGNORED
        labels, said = labels[known], said[known]
        pairs = torch.bincount(labels * classes + said, minlength=classes**2)
        self.counts += pairs.view(classes, classes).cpu()

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
        """Share of pixels named right."""
        return float(self.counts.diagonal().sum()) / float(self.counts.sum())


def _refuse_beyond(labels: Tensor, classes: int) -> None:
    highest = int(torch.where(labels == IGNORED, -1, labels).max())
    if highest >= classes:
        raise MuseError(f"a mask holds class {highest}, but there are only {classes}", exit_code=ExitCode.SETTINGS)


@dataclass(frozen=True)
class SegmentOptions:
    """How the head is trained.

    classes: C. labels: a name from `LABEL_RULES`. layer: feature layer, None for the tokenizer's own for segmenting.
    """

    classes: int
    labels: str = "plain"
    layer: str | None = None
    epochs: int = 10
    batch_size: int = 16
    rate: float = 0.01
    decay: float = 1e-4
    seed: int = 0


class PatchHead(nn.Module):
    """Batch normalisation and a 1x1 convolution: a linear classifier of every patch, drawn up to pixels."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.classify = nn.Conv2d(width, classes, 1)
        nn.init.normal_(self.classify.weight, std=0.01)
        if self.classify.bias is not None:
            nn.init.zeros_(self.classify.bias)

    def forward(self, features: Tensor, cover: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Map (B, D, h, w) to logits (B, C, *size); the grid covers `cover` pixels, of which `size` are the image."""
        drawn = F.interpolate(self.classify(self.norm(features)), cover, mode="bilinear", align_corners=False)
        return drawn[..., : size[0], : size[1]]


def segment(
    tokenizer: object,
    train: EvalData,
    validation: EvalData,
    options: SegmentOptions,
    *,
    baseline: object | None = None,
    names: tuple[str, ...] | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Train a head on frozen patches of `train`, and measure it once, after its last epoch, on `validation`.

    Args:
        tokenizer: gives features.
        train, validation: data with masks.
        options: how the head is trained.
        baseline: the untouched encoder, measured the same way.
        names: of the classes, for the table.
        cache: folder where patch features are kept; None for one that is gone afterwards.
        progress: who is told.

    Raises:
        MuseError: no features, no masks, an unknown label rule, or a class beyond `options.classes`.
    """
    if options.labels not in LABEL_RULES:
        raise MuseError(
            f"no label rule is called {options.labels!r}",
            hint=f"choose from {', '.join(LABEL_RULES)}",
            exit_code=ExitCode.SETTINGS,
        )
    started, telling = time.perf_counter(), progress or Silent()
    with tempfile.TemporaryDirectory() if cache is None else nullcontext(cache) as folder:
        stores = [store_patches(tokenizer, data, options.layer, Path(folder), telling) for data in (train, validation)]
        found = _measure(stores[0], stores[1], options, train.device, telling)
        baselines = {}
        if baseline is not None:
            raw = [store_patches(baseline, data, None, Path(folder), telling) for data in (train, validation)]
            baselines["untouched encoder"] = _numbers(_measure(raw[0], raw[1], options, train.device, telling))
    return Scores(
        command="segment",
        tokenizer=named(tokenizer),
        metrics=_numbers(found),
        protocol=_protocol(train, validation, options, stores),
        counts=stores[1].counts,
        baselines={**baselines, "most frequent class": _most_frequent(found)},
        tables={"per class": _per_class(found, names)},
        seconds=time.perf_counter() - started,
    )


def _measure(
    train: PatchStore, validation: PatchStore, options: SegmentOptions, device: str, progress: Progress
) -> PixelConfusion:
    head = train_head(train, options, device, progress)
    rule, confusion = LABEL_RULES[options.labels], PixelConfusion(options.classes)
    with torch.no_grad():
        for index in range(validation.pieces):
            features, masks = validation.piece(index)
            for part, truth in zip(features.split(options.batch_size), masks.split(options.batch_size), strict=True):
                labels = rule(truth.to(device))
                logits = head(part.to(device), validation.cover, (labels.shape[-2], labels.shape[-1]))
                confusion.add(labels, logits.argmax(1))
    return confusion


def train_head(store: PatchStore, options: SegmentOptions, device: str, progress: Progress) -> PatchHead:
    """Train a head by SGD with momentum 0.9, its rate falling to 0 as half a cosine; ignored pixels have no loss."""
    generator = torch.Generator().manual_seed(options.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        head = PatchHead(store.width, options.classes).to(device)
    rule, total, step = LABEL_RULES[options.labels], options.epochs * store.steps(options.batch_size), 0
    optimizer = torch.optim.SGD(head.parameters(), lr=options.rate, momentum=0.9, weight_decay=options.decay)
    with progress.track("segmentation head", total) as tracker:
        for _ in range(options.epochs):
            for features, masks in store.shuffled(options.batch_size, generator):
                labels = rule(masks.to(device))
                _refuse_beyond(labels, options.classes)
                for group in optimizer.param_groups:
                    group["lr"] = options.rate * 0.5 * (1 + math.cos(math.pi * step / total))
                step += 1
                tracker.advance()
                if bool((labels == IGNORED).all()) or len(features) < 2:
                    continue  # no pixel to learn from, or no batch to normalise over
                logits = head(features.to(device), store.cover, (labels.shape[-2], labels.shape[-1]))
                loss = F.cross_entropy(logits, labels, ignore_index=IGNORED)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
    return head.eval()


def _numbers(confusion: PixelConfusion) -> dict[str, float]:
    return {"miou": confusion.mean_iou(), "pixel_accuracy": confusion.accuracy()}


def _most_frequent(confusion: PixelConfusion) -> dict[str, float]:
    """What naming every pixel after the most frequent class would score."""
    true = confusion.counts.sum(1)
    share = float(true.max()) / float(true.sum())
    return {"miou": share / int((true > 0).sum()), "pixel_accuracy": share}


def _per_class(confusion: PixelConfusion, names: tuple[str, ...] | None) -> list[Row]:
    rows: list[Row] = []
    for index, value in enumerate(confusion.iou().tolist()):
        if not math.isnan(value):
            name = names[index] if names and index < len(names) else str(index)
            rows.append({"class": name, "pixels": int(confusion.counts[index].sum()), "iou": value})
    return sorted(rows, key=lambda row: float(row["iou"] or 0))


def _protocol(train: EvalData, validation: EvalData, options: SegmentOptions, stores: list[PatchStore]) -> Protocol:
    return Protocol(
        {
            **validation.describe(),
            "images": stores[1].samples,
            "train_data": train.name,
            "train_images": stores[0].samples,
            "mask": "nearest, measured at the image's size",
            "mean": "over classes present",
            "recipe": {"head": "batch norm, 1x1, bilinear", "optimizer": "SGD 0.9, half cosine", **vars(options)},
            "precision": "float32",
        }
    )
