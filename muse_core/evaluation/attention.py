"""The probe `topology`: does attention stay on the object, and does it agree with the teacher's?

Letters: B images, n = h*w patches. Rows of every map are queries.
"""

import hashlib
import time
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from muse_core.data.sample import UNKNOWN_MASK
from muse_core.errors import MuseError
from muse_core.evaluation.options import TopologyOptions
from muse_core.evaluation.protocol import Protocol, Row, Scores
from muse_core.evaluation.reading import Tally, named, read
from muse_core.evaluation.spec import ProbeContext
from muse_core.evaluation.topology import (
    Grid,
    ObjectRanking,
    TeacherMaps,
    attention_kl,
    colour_similarity,
    patch_objects,
    squared_distances,
)
from muse_core.model.abilities import Attends, Described
from muse_core.model.blocks import attention_layers
from muse_core.model.teacher import resize_attention

RAW = "untouched encoder"


@dataclass
class _Stream:
    """What is known so far about one source of attention."""

    kl: float = 0.0
    images: int = 0
    entropy: float = 0.0
    reach: float = 0.0
    ranking: ObjectRanking = field(default_factory=ObjectRanking)

    def add(self, maps: Tensor, target: Tensor | None, objects: Tensor | None, grid: Grid) -> None:
        """Take in maps (B, n, n) whose rows sum to 1."""
        distance = squared_distances(grid).to(maps.device).sqrt()
        self.images += len(maps)
        self.entropy -= float(torch.xlogy(maps, maps).sum(-1).mean(-1).sum())
        self.reach += float((maps * distance).sum(-1).mean(-1).sum())
        if target is not None:
            self.kl += float(attention_kl(maps, target).sum())
        if objects is not None:
            self.ranking.add(maps, objects, grid)

    def merge(self, other: Self) -> None:
        """Take in everything another one has seen."""
        self.kl += other.kl
        self.images += other.images
        self.entropy += other.entropy
        self.reach += other.reach
        self.ranking.merge(other.ranking)

    def scores(self, with_kl: bool) -> dict[str, float]:
        """Return the numbers this stream has."""
        kl = {"kl": self.kl / self.images} if with_kl else {}
        return {**kl, **_ranked(self.ranking)}


class _Survey:
    """All sources of attention over one grid: the tokenizer's layers, and everything they are compared with."""

    def __init__(self, grid: Grid, layers: list[int]) -> None:
        self.grid = grid
        self.layers = {layer: _Stream() for layer in layers}
        self.raw = _Stream()
        self.rankings = {name: ObjectRanking() for name in ("teacher", "distance only", "mean patch colour")}
        self.teacher = TeacherMaps(grid)
        self.masked = 0  # images with a mask

    def add(
        self, images: Tensor, maps: dict[int, Tensor], raw: Tensor | None, target: Tensor | None, masks: Tensor | None
    ) -> None:
        """Take in one batch: maps by layer, the untouched encoder's, the teacher's, and masks where there are any."""
        objects = None if masks is None else patch_objects(masks, self.grid)
        self.masked += 0 if masks is None else int((masks != UNKNOWN_MASK).flatten(1).any(1).sum())
        for layer, found in maps.items():
            self.layers[layer].add(found, target, objects, self.grid)
        if raw is not None:
            self.raw.add(raw, target, objects, self.grid)
        if target is not None:
            self.teacher.add(target)
        if objects is not None:
            near = -squared_distances(self.grid).to(images.device)
            self.rankings["distance only"].add(near, objects, self.grid)
            self.rankings["mean patch colour"].add(colour_similarity(images, self.grid), objects, self.grid)
            if target is not None:
                self.rankings["teacher"].add(target, objects, self.grid)

    def merge(self, other: Self) -> None:
        """Take in everything another one, of the same layers, has seen."""
        _refuse_other_grid(self.grid, other.grid)
        self.masked += other.masked
        for layer, stream in self.layers.items():
            stream.merge(other.layers[layer])
        self.raw.merge(other.raw)
        for name, ranking in self.rankings.items():
            ranking.merge(other.rankings[name])
        self.teacher.merge(other.teacher)


def measure(context: ProbeContext, options: TopologyOptions) -> Scores:
    """Compare attention with the teacher's, and with the objects of the masks, beside what needs no learning.

    Raises:
        MuseError: the tokenizer shows no attention, has no such layer, or there is neither a teacher nor a mask.
    """
    tokenizer = context.tokenizer
    if not isinstance(tokenizer, Attends):
        raise MuseError(f"{named(tokenizer)} shows no attention")
    started, tally = time.perf_counter(), Tally()
    count = tokenizer.info.attention_layers if isinstance(tokenizer, Described) else 1
    layers = attention_layers(options.layer, count)
    survey: _Survey | None = None
    shared = replace(context.validation.data, team=context.validation.team)
    for batch in read(shared, context.progress, "attention", tally):
        maps, grid = _maps(tokenizer, batch.images, layers)
        survey = survey or _Survey(grid, layers)
        _refuse_other_grid(survey.grid, grid)
        target = None if context.teacher is None else context.teacher(batch.images, grid)
        survey.add(batch.images, maps, _raw(context.baseline, batch.images, grid), target, batch.masks)
    whole, *others = shared.team.gather(survey)  # whoever had no batch has none; all have one together, or `read` ends
    assert whole is not None
    for other in filter(None, others):
        whole.merge(other)
    return _scores(context, whole, tally, options, time.perf_counter() - started)


def _refuse_other_grid(one: Grid, other: Grid) -> None:
    if one != other:
        raise MuseError(f"attention grids of {one} and {other} cannot be averaged")


@torch.no_grad()
def _maps(tokenizer: Attends, images: Tensor, layers: list[int]) -> tuple[dict[int, Tensor], Grid]:
    maps, grid = {}, (0, 0)
    for layer in layers:
        attention = tokenizer.attention(images, layer)
        maps[layer], grid = attention.patches().mean(1).float(), attention.grid
    return maps, grid


@torch.no_grad()
def _raw(baseline: object | None, images: Tensor, grid: Grid) -> Tensor | None:
    if not isinstance(baseline, Attends):
        return None
    attention = baseline.attention(images, -1)
    return resize_attention(attention.patches().mean(1).float(), attention.grid, grid)


def _scores(context: ProbeContext, survey: _Survey, tally: Tally, options: TopologyOptions, seconds: float) -> Scores:
    taught = survey.teacher.count > 0
    last = survey.layers[max(survey.layers)]
    metrics = last.scores(taught)
    missing = _missing(taught, metrics, survey.masked)
    if not metrics:
        raise MuseError("attention was compared with nothing: " + "; ".join(missing.values()))
    baselines = {name: _ranked(ranking) for name, ranking in survey.rankings.items()}
    baselines[RAW] = survey.raw.scores(taught) if survey.raw.images else {}
    notes = []
    if taught:
        sigma, baselines["distance only"]["kl"] = survey.teacher.best_gaussian()
        baselines["uniform"] = {"kl": survey.teacher.uniform_kl()}
        baselines["best map that ignores the image"] = {"kl": survey.teacher.kl_of(survey.teacher.mean())}
        if baselines["uniform"]["kl"] > 0:
            metrics["kl_over_uniform"] = metrics["kl"] / baselines["uniform"]["kl"]
        else:
            missing["kl_over_uniform"] = "the teacher looks everywhere alike"
        notes.append(f"distance only: the Gaussian fitted to these images has sigma {sigma:.3g} patches")
    return Scores(
        command="probe topology",
        tokenizer=named(context.tokenizer),
        metrics=metrics,
        protocol=_protocol(context, survey, options, last.images),
        counts=tally.counts(),
        baselines={name: found for name, found in baselines.items() if found},
        tables={"per layer": _per_layer(survey, taught)},
        notes=notes,
        not_measured=missing,
        seconds=seconds,
    )


def _ranked(ranking: ObjectRanking) -> dict[str, float]:
    found = ranking.result()
    return {} if found is None else {"auc": found.auc, "auc_distance_matched": found.auc_distance_matched}


def _missing(taught: bool, metrics: dict[str, float], masked: int) -> dict[str, str]:
    missing = {} if taught else {"kl": "there is no teacher to compare with"}
    if "auc" not in metrics:
        reason = "no mask shows an object beside something else" if masked else "not one image has a mask"
        missing["auc"] = missing["auc_distance_matched"] = reason
    return missing


def _per_layer(survey: _Survey, taught: bool) -> list[Row]:
    return [
        {
            "layer": layer,
            **stream.scores(taught),
            "entropy": stream.entropy / stream.images,
            "reach": stream.reach / stream.images,
        }
        for layer, stream in survey.layers.items()
    ]


def _protocol(context: ProbeContext, survey: _Survey, options: TopologyOptions, images: int) -> Protocol:
    return Protocol(
        {
            **context.validation.data.describe(),
            "images": images,
            "grid": list(survey.grid),
            "layer": options.layer if options.layer != "all" else "last",
            "heads": "mean",
            "teacher": _teacher_fingerprint(context, survey.grid),
            "patch of an object": "more than half of its pixels",
            "precision": "float32",
        }
    )


def _teacher_fingerprint(context: ProbeContext, grid: Grid) -> str:
    """Name the teacher by what it answers to a fixed noise image."""
    if context.teacher is None:
        return "none"
    size = context.validation.data.size
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(20260509))
    answer = context.teacher(image.to(context.device), grid)
    return hashlib.sha256(answer.float().cpu().contiguous().numpy().tobytes()).hexdigest()[:12]
