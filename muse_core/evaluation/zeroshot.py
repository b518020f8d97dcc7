"""Classify images by sentences alone: the class whose description lies nearest wins.

Letters: B images, C classes, T templates, E embedding width.
"""

import hashlib
import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn import functional as F

from muse_core.data.classes import onto
from muse_core.data.vocabulary import in_words, vocabulary_of
from muse_core.errors import ExitCode, MuseError, MuseWarning
from muse_core.evaluation.confusionpicture import draw_confusion
from muse_core.evaluation.processes import Team
from muse_core.evaluation.protocol import Protocol, Row, Scores, errors_of_shares
from muse_core.evaluation.reading import HOW_LABELS, EvalData, Tally, named, read, unlabelled
from muse_core.files import write_atomically
from muse_core.model.abilities import Aligns
from muse_core.model.identity import checkpoint_of
from muse_core.progress import Progress, Silent

_TEXTS_AT_ONCE = 512


def zeroshot(
    tokenizer: object,
    data: EvalData,
    *,
    classes: Sequence[str] | None = None,
    templates: Sequence[str] = ("{}",),
    top: Sequence[int] = (1, 5),
    baseline: object | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Measure zero-shot classification of every labelled image of `data`.

    Args:
        tokenizer: aligns images with text.
        data: what to read and how.
        classes: names as they go into a sentence, joined by name with those of the data, or by number where the data
            have none; default: those of the data, ImageNet's for WordNet ids.
        templates: sentences with one "{}" each, for the class.
        top: which top-k accuracies.
        baseline: another aligned tokenizer, the untouched encoder, measured on the same images.
        cache: folder where embedded classes are kept, or None.
        progress: who is told.

    Raises:
        MuseError: no alignment, no class names, fewer than two classes, other classes than the data name, a template
            without its place, a label without a class, or no labelled image.
    """
    started = time.perf_counter()
    telling = progress or Silent()
    names = tuple(classes or _named_by(data))
    _check(data, names, templates)
    source, renamed = onto(data.source, names)
    data = replace(data, source=source)
    runs = {"": _Run(tokenizer, names, templates, max(top), cache)}
    if baseline is not None:
        runs["untouched encoder"] = _Run(baseline, names, templates, max(top), cache)
    tally = Tally()
    for batch in read(data, telling, f"zero-shot on {data.name}", tally):
        known = batch.labels >= 0
        tally.skip("unlabelled", int((~known).sum()))  # -1 is "unknown"; 0 is a class like any other
        images, labels = batch.images[known], batch.labels[known].cpu()
        for run in runs.values():
            run.add(images, labels)
    for run in runs.values():
        run.join(data.team)
    measured = runs.pop("")
    if not measured.images:
        raise unlabelled(data.name, tally.seen)
    usable = [k for k in top if k < len(names)]
    found = measured.accuracies(usable)
    return Scores(
        command="zeroshot",
        tokenizer=named(tokenizer),
        checkpoint=checkpoint_of(tokenizer),
        metrics=found,
        protocol=_protocol(data, measured.images, names, templates),
        counts=tally.counts(),
        standard_errors=errors_of_shares(found, measured.images),
        pictures={"zeroshot": measured.confusion()},
        baselines={
            "chance": {f"top{k}": k / len(names) for k in usable},
            **{name: run.accuracies(usable) for name, run in runs.items()},
        },
        tables={"per class": measured.per_class()},
        notes=[*renamed, *_notes(names)],
        not_measured={f"top{k}": f"there are only {len(names)} classes" for k in top if k >= len(names)},
        seconds=time.perf_counter() - started,
    )


def _named_by(data: EvalData) -> list[str]:
    """Return what the data call their classes, in words."""
    return [one.shown for one in in_words(vocabulary_of(data.source).classes or ())]


class _Run:
    """One tokenizer's answers so far."""

    def __init__(
        self, tokenizer: object, names: tuple[str, ...], templates: Sequence[str], most: int, cache: Path | None
    ) -> None:
        if not isinstance(tokenizer, Aligns):
            raise MuseError(
                f"{named(tokenizer)} does not align images with text",
                hint="a tokenizer of stage 2 or 3, with its text tower on disk",
            )
        self._tokenizer = tokenizer
        self._names = names
        self._most = min(most, len(names))
        self._rows = class_embeddings(tokenizer, names, templates, cache)
        self._hits = torch.zeros(self._most, dtype=torch.int64)  # answers whose k-th guess is the right one
        self._said = torch.zeros(len(names), len(names), dtype=torch.int64)  # label, first guess
        self.images = 0

    @torch.no_grad()
    def add(self, images: Tensor, labels: Tensor) -> None:
        """Take in images (B, 3, H, W) and their labels (B,)."""
        if not len(labels):
            return
        embedded = self._tokenizer.image_embed(images).float()
        if not torch.isfinite(embedded).all():
            raise MuseError(f"image embeddings of {named(self._tokenizer)} are not finite", hint="it diverged")
        guesses = (embedded @ self._rows.to(embedded.device).T).topk(self._most, -1).indices.cpu()  # B k
        self._hits += (guesses == labels[:, None]).sum(0)
        self._said += torch.bincount(labels * len(self._names) + guesses[:, 0], minlength=self._said.numel()).view_as(
            self._said
        )
        self.images += len(labels)

    def join(self, team: Team) -> None:
        """Take in what all processes have seen."""
        parts = team.gather((self._hits, self._said, self.images))
        self._hits, self._said = (
            sum(column, torch.zeros_like(column[0])) for column in list(zip(*parts, strict=True))[:2]
        )
        self.images = sum(images for _, _, images in parts)

    def accuracies(self, top: Sequence[int]) -> dict[str, float]:
        """Return the top-k accuracies."""
        return {f"top{k}": float(self._hits[:k].sum()) / self.images for k in top}

    def confusion(self) -> bytes:
        """Draw which class was said for which."""
        return draw_confusion(self._said, self._names)

    def per_class(self) -> list[Row]:
        """Return a row for each class that occurs, the worst first."""
        rows: list[Row] = []
        for label in torch.nonzero(self._said.sum(1)).flatten().tolist():
            said = self._said[label]
            wrong = said.clone()
            wrong[label] = 0
            other = self._names[int(wrong.argmax())] if wrong.any() else None
            share = float(said[label]) / int(said.sum())
            rows.append({"class": self._names[label], "images": int(said.sum()), "top1": share, "taken for": other})
        return sorted(rows, key=lambda row: float(row["top1"] or 0))


@torch.no_grad()
def class_embeddings(
    tokenizer: Aligns, names: Sequence[str], templates: Sequence[str], cache: Path | None = None
) -> Tensor:
    """Embed every class: the sentences of all templates, their mean, unit length again. Returns (C, E) on the CPU."""
    path = None if cache is None else cache / f"{_text_key(tokenizer, names, templates)}.safetensors"
    if path is not None and path.exists():
        try:
            return load_file(path)["classes"]
        except (SafetensorError, KeyError):
            path.unlink()  # not whole; it is made again below
    texts = [template.replace("{}", name) for name in names for template in templates]
    parts = [texts[start : start + _TEXTS_AT_ONCE] for start in range(0, len(texts), _TEXTS_AT_ONCE)]
    rows = torch.cat([tokenizer.text_embed(part).float().cpu() for part in parts])
    means = F.normalize(rows, dim=-1).view(len(names), len(templates), -1).mean(1)
    embedded = F.normalize(means, dim=-1)
    if path is not None:
        try:
            write_atomically(path, save({"classes": embedded}))
        except OSError as problem:  # what is measured does not depend on it
            warnings.warn(f"embedded classes are not kept: {path}: {problem.strerror or problem}", MuseWarning, 2)
    return embedded


def _text_key(tokenizer: Aligns, names: Sequence[str], templates: Sequence[str]) -> str:
    """Fingerprint classes, templates, and what the text tower says of two fixed sentences."""
    rows = tokenizer.text_embed(["a picture of a cat", "two dogs"]).float().cpu().contiguous()
    wording = json.dumps([list(names), list(templates)])
    return hashlib.sha256(rows.numpy().tobytes() + wording.encode()).hexdigest()[:24]


def _check(data: EvalData, names: tuple[str, ...], templates: Sequence[str]) -> None:
    if not names and "label" not in data.source.fields:
        raise MuseError(f"no image of {data.name} has a label", hint=HOW_LABELS)
    if not names:
        raise MuseError(
            f"{data.name} does not say what its labels mean",
            hint="--classes FILE with one line per label, the first line for label 0",
        )
    if len(names) < 2:
        raise MuseError(f"one class ({names[0]!r}) leaves nothing to choose between", exit_code=ExitCode.SETTINGS)
    bad = [template for template in templates if template.count("{}") != 1]
    if bad or not templates:
        raise MuseError(
            f"a template needs exactly one {{}} for the class: {bad[:3] or 'there is none'}",
            exit_code=ExitCode.SETTINGS,
        )


def _notes(names: tuple[str, ...]) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    return [f"classes with equal names cannot be told apart: {', '.join(twice)}"] if twice else []


def _protocol(data: EvalData, images: int, names: tuple[str, ...], templates: Sequence[str]) -> Protocol:
    wording = hashlib.sha256(json.dumps([list(names), list(templates)]).encode()).hexdigest()[:12]
    return Protocol(
        {
            **data.describe(),
            "images": images,
            "classes": len(names),
            "templates": list(templates) if len(templates) <= 3 else len(templates),
            "wording": wording,
            "text": "normalised, mean over templates, normalised",
            "precision": "float32",
        }
    )
