"""How well a linear head on frozen patches names every pixel.

Letters: B samples, D feature width, h x w patches, C classes, S side of an image.
"""

import math
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from muse_core.data.classes import joined, refuse_nameless
from muse_core.data.vocabulary import counted, vocabulary_of
from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.maskpictures import Example, strip
from muse_core.evaluation.overlap import (
    IGNORED,
    LABEL_RULES,
    ImageOverlaps,
    PixelConfusion,
    Rule,
    beyond,
    refuse_beyond,
)
from muse_core.evaluation.patches import PatchStore, store_patches
from muse_core.evaluation.processes import Team, in_reading_order
from muse_core.evaluation.protocol import Protocol, Row, Scores
from muse_core.evaluation.reading import EvalData, Tally, mask_names, named
from muse_core.evaluation.savedkinds import MASKS
from muse_core.evaluation.savedmasks import saved_masks
from muse_core.evaluation.views import View, ViewName, answers, layer_for_segmenting, logits, looks
from muse_core.model.abilities import Featurizes
from muse_core.model.identity import checkpoint_of
from muse_core.progress import Progress, Silent
from muse_core.suggestions import choices


@dataclass(frozen=True)
class SegmentOptions:
    """How the head is trained and measured.

    classes: C; None for as many as the training masks hold. labels: a name from `LABEL_RULES`. layer: feature layer,
    None for the tokenizer's own for segmenting. view: how validation images are looked at. examples: rows of the strip.
    """

    classes: int | None = None
    labels: str = "plain"
    layer: str | None = None
    view: ViewName = "whole"
    epochs: int = 10
    batch_size: int = 16
    rate: float = 0.01
    decay: float = 1e-4
    seed: int = 0
    examples: int = 6


@dataclass(frozen=True)
class Segmented:
    """Scores, and some examples to look at."""

    scores: Scores
    examples: list[Example]


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
    masks: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Segmented:
    """Train a head on frozen patches of `train`, and measure it once, after its last epoch, on `validation`.

    Args:
        tokenizer: gives features.
        train, validation: data with masks.
        options: how the head is trained.
        baseline: the untouched encoder, measured the same way.
        names: of the classes, for the table; None for those that the data say.
        cache: folder where patch features are kept; None for one that is gone afterwards.
        masks: folder into which the mask of each validation image is written, or None.
        overwrite: whether masks of an earlier one in that folder may go.
        progress: who is told.

    Raises:
        MuseError: no features, no masks, none with a labelled pixel, fewer than two classes, an unknown label rule, a
            class beyond `options.classes`, two sets that name the classes of their masks and have none in common, or
            `masks` is in the way.
    """
    if masks is not None and train.team.rank == 0:
        MASKS.refuse(masks, overwrite)
    _rule(options.labels)  # an unknown one ends it before anything is read
    started, telling = time.perf_counter(), progress or Silent()
    alike = len({mask_names(data.source, options.labels) for data in (train, validation)} - {None}) < 2
    train, validation = _joined(train, validation)
    if names is None and (alike or vocabulary_of(train.source).masks):  # names of labels say little of masks
        names = mask_names(train.source, options.labels)
    with tempfile.TemporaryDirectory() if cache is None else nullcontext(cache) as own:
        folder = train.team.gather(own)[0]  # all processes write into that of the first
        store = store_patches(tokenizer, train, options.layer, Path(folder), telling)
        chosen = replace(options, classes=_class_count(store, options, train))
        found = _measure(tokenizer, store, validation, chosen, telling, masks, overwrite)
        if not found.confusion.counts.sum():
            raise _unlabelled(validation.name, options.labels)
        baselines = {"most frequent class": _most_frequent(found.confusion)}
        if baseline is not None:
            raw = store_patches(baseline, train, None, Path(folder), telling)
            untouched = _measure(baseline, raw, validation, replace(chosen, layer=None), telling)
            baselines = {"untouched encoder": _numbers(untouched.confusion), **baselines}
    scores = Scores(
        command="segment",
        tokenizer=named(tokenizer),
        checkpoint=checkpoint_of(tokenizer),
        metrics=_numbers(found.confusion),
        protocol=_protocol(train, validation, chosen, store, found.images),
        counts=found.tally.counts(),
        standard_errors={"miou": found.overlaps.standard_error()} if found.images > 1 else {},
        baselines=baselines,
        tables={"per class": _per_class(found.confusion, names)},
        pictures={"segment": strip(found.examples)},
        seconds=time.perf_counter() - started,
    )
    return Segmented(scores, found.examples)


def _rule(name: str) -> Rule:
    if name not in LABEL_RULES:
        raise MuseError(
            f"no label rule is called {name!r}",
            hint=choices(name, LABEL_RULES),
            exit_code=ExitCode.SETTINGS,
        )
    return LABEL_RULES[name]


def _joined(train: EvalData, validation: EvalData) -> tuple[EvalData, EvalData]:
    """Let the values of both sides' masks mean the same classes."""
    first, second = joined(train.source, validation.source, "masks")
    return replace(train, source=first), replace(validation, source=second)


def _class_count(store: PatchStore, options: SegmentOptions, train: EvalData) -> int:
    """Return how many classes there are: as asked, else as many as the training masks hold."""
    rule, asked, stored = _rule(options.labels), options.classes, set[int]()
    for number in store.sizes:
        stored |= set(torch.unique(store.piece(number)[1]).tolist())
    refuse_nameless(train.source, stored)
    there = set(rule(torch.tensor(sorted(stored))).tolist()) - {IGNORED}
    if not there:
        raise _unlabelled(train.name, options.labels)
    if len(there) < 2:
        raise _one_class(sorted(stored), options.labels, train.name)
    if asked is not None and max(there) >= asked:
        raise beyond(max(there), asked)
    return asked or max(there) + 1


def _one_class(stored: list[int], labels: str, name: str) -> MuseError:
    ignored = [value for value in stored if int(_rule(labels)(torch.tensor([value]))) == IGNORED]
    means = "means" if len(ignored) == 1 else "mean"
    told = f", and {_listed(ignored)} {means} ignored" if ignored else ""
    values = f"their value is {stored[0]}" if len(stored) == 1 else f"their values are {_listed(stored)}"
    return MuseError(
        f"the training masks of {name} hold {counted(1, 'class')}, which leaves nothing to choose between: "
        f"{values}{told}",
        hint="masks with a value below 255 for each class: 0 and 1, say",
    )


def _listed(values: list[int]) -> str:
    words = [str(value) for value in values]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _unlabelled(name: str, labels: str) -> MuseError:
    return MuseError(
        f"not one pixel of the masks of {name} has a label under the rule {labels}",
        hint=f"--label-rule {' or '.join(rule for rule in LABEL_RULES if rule != labels)}, or other masks",
    )


@dataclass(frozen=True)
class _Found:
    """What was measured. places: where in the data each image stands; `examples` are the first of them."""

    confusion: PixelConfusion
    overlaps: ImageOverlaps
    tally: Tally
    examples: list[Example]
    places: list[int]

    @property
    def images(self) -> int:
        return len(self.places)

    def joined(self, team: Team, most: int) -> "_Found":
        """Put together what all processes found, in the order of the data; keep `most` examples."""
        rows = [team.gather(part) for part in (torch.tensor(self.places, dtype=torch.int64), self.overlaps.rows())]
        places, overlaps = in_reading_order(list(zip(*rows, strict=True)))
        self.confusion.merge(team.gather(self.confusion.counts))
        self.overlaps.replace(overlaps)
        shown = [one for part in team.gather(list(zip(self.places, self.examples, strict=False))) for one in part]
        shown.sort(key=lambda one: one[0])
        return replace(self, examples=[example for _, example in shown[:most]], places=places.tolist())


def _measure(
    tokenizer: object,
    store: PatchStore,
    validation: EvalData,
    options: SegmentOptions,
    progress: Progress,
    masks: Path | None = None,
    overwrite: bool = False,
) -> _Found:
    assert isinstance(tokenizer, Featurizes)  # store_patches refused anything else
    assert options.classes is not None
    head, rule = _one_head(store, options, validation, progress), _rule(options.labels)
    layer, view = layer_for_segmenting(tokenizer, options.layer), View(options.view, validation.size)
    confusion, overlaps = PixelConfusion(options.classes), ImageOverlaps(options.classes)
    tally, examples, places = Tally(), list[Example](), list[int]()
    with saved_masks(masks, validation, overwrite) as saved:
        for look in looks(validation, view, tally, progress):
            found = logits(tokenizer, layer, head, look.images, view)
            for index, (key, stored) in enumerate(zip(look.keys, look.masks, strict=True)):
                refuse_nameless(validation.source, np.flatnonzero(np.bincount(stored.ravel())).tolist())
                said = answers(found[index : index + 1], (stored.shape[0], stored.shape[1])).cpu()
                labels = rule(torch.from_numpy(np.array(stored)))
                confusion.add(labels, said)
                overlaps.add(labels, said)
                places.append(look.positions[index])
                if saved is not None:
                    saved.add(look.positions[index], key, said.to(torch.uint8).numpy())
                if len(examples) < options.examples:
                    examples.append(_example(key, look.images[index], said, labels))
    return _Found(confusion, overlaps, tally, examples, places).joined(validation.team, options.examples)


def _example(key: str, image: Tensor, said: Tensor, labels: Tensor) -> Example:
    pixels = (image.permute(1, 2, 0).cpu() * 255).round().to(torch.uint8).numpy()
    return Example(key, pixels, said.to(torch.uint8).numpy(), labels.to(torch.uint8).numpy())


def _one_head(store: PatchStore, options: SegmentOptions, validation: EvalData, progress: Progress) -> PatchHead:
    """Train a head in the first process and hand it to the others: every pixel is named by the same one."""
    team = validation.team
    mine = train_head(store, options, validation.device, progress) if team.rank == 0 else None
    if team.world == 1 and mine is not None:
        return mine
    state = team.gather(None if mine is None else {name: value.cpu() for name, value in mine.state_dict().items()})[0]
    assert state is not None
    assert options.classes is not None
    head = PatchHead(store.width, options.classes)
    head.load_state_dict(state)
    return head.to(validation.device).eval()


def train_head(store: PatchStore, options: SegmentOptions, device: str, progress: Progress) -> PatchHead:
    """Train a head by SGD with momentum 0.9, its rate falling to 0 as half a cosine; ignored pixels have no loss.

    Raises:
        MuseError: a class beyond `options.classes`, or not one batch to learn from.
    """
    assert options.classes is not None
    generator, classes = torch.Generator().manual_seed(options.seed), options.classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        head = PatchHead(store.width, classes).to(device)
    rule, total, step, learned = _rule(options.labels), options.epochs * store.steps(options.batch_size), 0, 0
    optimizer = torch.optim.SGD(head.parameters(), lr=options.rate, momentum=0.9, weight_decay=options.decay)
    with progress.track("segmentation head", total) as tracker:
        for _ in range(options.epochs):
            for features, masks in store.shuffled(options.batch_size, generator):
                labels = rule(masks.to(device))
                refuse_beyond(labels, classes)
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
                learned += 1
    if not learned:
        raise MuseError(
            f"the head learned nothing: no batch of {counted(store.samples, 'training image')} has two of them and a "
            "labelled pixel",
            hint="more training images, or --set head_batch=2 or more",
        )
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


def _protocol(
    train: EvalData, validation: EvalData, options: SegmentOptions, store: PatchStore, images: int
) -> Protocol:
    recipe = {key: value for key, value in vars(options).items() if key not in ("view", "examples")}
    at = "nearest, measured at the crop's size" if options.view == "crop" else "measured at its stored size"
    return Protocol(
        {
            **validation.describe(),
            "crop": "none" if options.view != "crop" else "centre",
            "view": View(options.view, validation.size).describe(),
            "images": images,
            "train_data": train.name,
            "train_images": store.samples,
            "train_view": View("crop", train.size).describe(),
            "mask": at,
            "mean": "over classes present",
            "recipe": {"head": "batch norm, 1x1, bilinear", "optimizer": "SGD 0.9, half cosine", **recipe},
            "precision": "float32",
        }
    )
