"""Frozen features of a data set: read in one pass, kept on disk, read again at no cost.

Letters: n samples, B images, D feature width.
"""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from muse_core.data.classes import changes_of, joined, refuse_beyond
from muse_core.data.identity import has_affected, identity_of
from muse_core.data.sample import Sample
from muse_core.data.vocabulary import counted, shortened, vocabulary_of
from muse_core.errors import MuseError
from muse_core.evaluation.processes import ALONE, Team, in_reading_order
from muse_core.evaluation.protocol import Counts, Row
from muse_core.evaluation.reading import EvalData, Tally, named, read, unlabelled
from muse_core.evaluation.spec import ProbeContext
from muse_core.files import write_atomically
from muse_core.identity import FIRST_READER
from muse_core.image_files import READER
from muse_core.json_text import utf8
from muse_core.model.abilities import Featurizes
from muse_core.model.identity import checkpoint_of
from muse_core.progress import Progress, Silent

Kind = Literal["pooled", "patch"]


@dataclass(frozen=True)
class FeatureSet:
    """Features (n, D) float32 and labels (n,) int64 of the samples that have a label, on the CPU."""

    features: Tensor
    labels: Tensor
    counts: Counts

    def __len__(self) -> int:
        return len(self.labels)

    def class_count(self) -> int:
        """Return how many different labels occur."""
        return len(torch.unique(self.labels))


@dataclass(frozen=True)
class ProbeData:
    """Data as a probe sees it through a tokenizer.

    cache: folder where features are kept, or None. team: who shares the reading of features; `data` itself is whole.
    seen: of how many samples features were asked for, and the counts of each time.
    """

    tokenizer: object
    data: EvalData
    cache: Path | None = None
    progress: Progress = Silent()
    team: Team = ALONE
    seen: list[tuple[int, Counts]] = field(default_factory=list, compare=False, repr=False)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes that labels index, where the data says them."""
        return self.data.classes

    def through(self, tokenizer: object) -> "ProbeData":
        """The same data seen through another tokenizer."""
        return replace(self, tokenizer=tokenizer)

    def features(self, kind: Kind = "pooled", layers: tuple[str, ...] = ()) -> FeatureSet:
        """Return the features of every labelled sample, from the cache when it has them.

        Args:
            kind: "pooled": the feature the tokenizer pools itself; "patch": the mean over its patches.
            layers: names from `info.feature_layers`, concatenated; none for the tokenizer's own choice.

        Raises:
            MuseError: the tokenizer has no features, a feature is not finite, or not one sample has a label.
        """
        if not isinstance(self.tokenizer, Featurizes):
            raise MuseError(f"{named(self.tokenizer)} gives no features")
        # The first process says which file is meant: digits of another device would name another one.
        mine = self._path(self.tokenizer, kind, layers) if self.team.rank == 0 else None
        (path,) = self.team.gather((mine,))[0]
        found, reader = _load(path) if path else (None, READER)
        stale = found is not None and self.team.rank == 0 and is_stale(self.data, reader)
        # Either all processes extract or none: one that found the file while another did not would wait for ever.
        if not all(self.team.gather(found is not None and not stale)):
            found = self._extract(self.tokenizer, kind, layers)
            if path and self.team.rank == 0:
                self._keep(found, path)
        assert found is not None
        if not len(found):
            raise unlabelled(self.data.name, found.counts["seen"])
        refuse_beyond(self.data.source, int(found.labels.max()), vocabulary_of(self.data.source).classes)
        self.seen.append((len(found), found.counts))
        return found

    def _keep(self, found: FeatureSet, path: Path) -> None:
        try:
            _save(found, path)
        except OSError as problem:  # what is measured does not depend on it
            self.progress.warn(f"features are not kept, and will be read anew: {path}: {problem.strerror or problem}")

    def _path(self, tokenizer: Featurizes, kind: Kind, layers: tuple[str, ...]) -> Path | None:
        if self.cache is None:
            return None
        what = {
            "behaviour": behaviour(tokenizer, self.data.size, self.data.device, layers),
            "kind": kind,
            "layers": layers,
            **inputs(tokenizer, self.data),
        }
        digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        return self.cache / f"{digest[:24]}.safetensors"

    def _extract(self, tokenizer: Featurizes, kind: Kind, layers: tuple[str, ...]) -> FeatureSet:
        tally, rows, labels, places = Tally(), list[Tensor](), list[Tensor](), list[Tensor]()
        shared = replace(self.data, team=self.team)
        for batch in read(shared, self.progress, f"features of {self.data.name}", tally):
            known = batch.labels >= 0
            tally.skip("unlabelled", int((~known).sum()))
            if known.any():
                rows.append(_features(tokenizer, batch.images[known], kind, layers).cpu())
                labels.append(batch.labels[known].cpu())
                places.append(torch.tensor(batch.positions)[known.cpu()])
        mine = tuple(torch.cat(part) if part else torch.zeros(0, dtype=torch.int64) for part in (places, rows, labels))
        _, features, truth = in_reading_order(self.team.gather(mine))
        return FeatureSet(features, truth, tally.counts())


@torch.no_grad()
def _features(tokenizer: Featurizes, images: Tensor, kind: Kind, layers: tuple[str, ...]) -> Tensor:
    parts = []
    for layer in layers or (None,):
        found = tokenizer.features(images, layer)
        parts.append(found.pooled if kind == "pooled" else found.patch.mean((-2, -1)))
    joined = torch.cat(parts, 1).float()
    if not torch.isfinite(joined).all():
        raise MuseError(f"features of {named(tokenizer)} are not finite", hint="the checkpoint diverged")
    return joined


def behaviour(tokenizer: Featurizes, size: int, device: str, layers: tuple[str, ...] = ()) -> str:
    """Fingerprint a tokenizer by what it does to two fixed noise images: other weights, other digits.

    It asks nothing of where the tokenizer keeps its weights, and a change of a setting that matters shows as well.
    """
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(20260509)).to(device)
    digest = hashlib.sha256()
    for layer in layers or (None,):
        found = tokenizer.features(images, layer)
        for part in (found.patch, found.pooled):
            digest.update(part.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def inputs(tokenizer: object, data: EvalData) -> dict[str, Any]:
    """Return what features are made of, for the key of a cache: weights and data by what they hold, not by their path.

    The reader of images is no part of it: what it made stays of use where no file is read otherwise by another.
    """
    origin, numbers = checkpoint_of(tokenizer), changes_of(data.source)
    return {
        "weights": origin and {key: value for key, value in origin.items() if key != "path"},
        "content": content(data),
        "reading": {key: value for key, value in data.describe().items() if key not in ("data", "reader")},
        "limit": data.limit,
        **({"numbers": numbers} if numbers else {}),
    }


def content(data: EvalData) -> str:
    """Fingerprint what a source holds without reading it through; its first sample counts where it has no checksums."""
    identity = identity_of(data.source)
    known = all(file.digest for file in identity.files)
    first = b"" if known else first_sample(data)
    return hashlib.sha256(identity.fingerprint().encode() + first).hexdigest()


def is_stale(data: EvalData, reader: int) -> bool:
    """Return whether something made by a reader of images would be otherwise by this one."""
    return reader != READER and has_affected(data.source)


def first_sample(data: EvalData) -> bytes:
    """Return the pixels of a source's first sample, or its name when it cannot be read; nothing for an empty source."""
    for item in data.source.once():
        return item.image.tobytes() if isinstance(item, Sample) else utf8(item.key)
    return b""


def _save(found: FeatureSet, path: Path) -> None:
    tensors = {"features": found.features.contiguous(), "labels": found.labels.contiguous()}
    write_atomically(path, save(tensors, metadata={"counts": json.dumps(found.counts), "reader": str(READER)}))


def _load(path: Path) -> tuple[FeatureSet | None, int]:
    """Read cached features, and which reader of images they come from.

    A file that is not whole is as good as none, since it can be made again.
    """
    if not path.exists():
        return None, READER
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            counts: Counts = json.loads(metadata["counts"])
            found = FeatureSet(file.get_tensor("features"), file.get_tensor("labels"), counts)
            return found, int(metadata.get("reader", FIRST_READER))
    except (SafetensorError, KeyError, TypeError, ValueError):
        return None, READER


def training_data(context: ProbeContext) -> ProbeData:
    """Return the data a probe learns from.

    Raises:
        MuseError: there is none, or it is the data that is measured.
    """
    if context.train is None:
        raise MuseError("this probe learns from labelled data", hint="--data TRAIN --val-data VALIDATION")
    if first_sample(context.train.data) == first_sample(context.validation.data):
        raise MuseError(
            f"training and validation data begin with the same sample ({context.train.data.name},"
            f" {context.validation.data.name}): the score would be of images that were trained on",
            hint="--data demo:train --val-data demo:val",
        )
    return context.train


def joined_by_name(context: ProbeContext) -> ProbeContext:
    """Let the labels of training and validation data mean the same classes.

    Raises:
        MuseError: both name their classes, and have no name in common.
    """
    if context.train is None:
        return context
    train, validation = context.train, context.validation
    first, second = joined(train.data.source, validation.data.source)
    return replace(
        context,
        train=replace(train, data=replace(train.data, source=first)),
        validation=replace(validation, data=replace(validation.data, source=second)),
    )


def refuse_one_class(train: FeatureSet) -> None:
    """Refuse training data of a single class: whatever learned from them would always be right, or never.

    Raises:
        MuseError: there is but one.
    """
    if train.class_count() < 2:
        raise MuseError("a classifier needs at least two classes; every training sample has the same label")


def per_class(validation: FeatureSet, said: Tensor, names: tuple[str, ...] | None) -> list[Row]:
    """Return a row with the accuracy of each class that occurs, given the class said for each sample (n,)."""
    right = said == validation.labels
    rows: list[Row] = []
    for label in torch.unique(validation.labels).tolist():
        mine = validation.labels == label
        name = names[label] if names and label < len(names) else str(label)
        rows.append({"class": name, "images": int(mine.sum()), "top1": float(right[mine].double().mean())})
    return rows


def chance_of(train: FeatureSet, validation: FeatureSet, k: int = 1) -> float:
    """Return the expected top-k accuracy of guessing classes of the training data; one never shown is never right."""
    seen = torch.isin(validation.labels, torch.unique(train.labels)).double().mean()
    return float(seen) * min(k / train.class_count(), 1.0)


def unseen_classes(train: FeatureSet, validation: FeatureSet, names: tuple[str, ...] | None = None) -> list[str]:
    """Return a note when validation has classes that training never showed."""
    unseen = sorted(set(validation.labels.tolist()) - set(train.labels.tolist()))
    if not unseen:
        return []
    listed = shortened([names[label] if names else str(label) for label in unseen])
    occurs = "occurs" if len(unseen) == 1 else "occur"
    amount = counted(len(unseen), "class")
    return [f"{amount} of the validation data never {occurs} in training and cannot be right: {listed}"]
