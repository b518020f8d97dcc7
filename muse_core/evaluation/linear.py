"""The linear probe: one linear classifier on frozen features, its recipe chosen without looking at the test data.

Letters: n samples, B in a step, D feature width, C classes, K recipes that are trained side by side.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from muse_core.errors import MuseError
from muse_core.evaluation.features import (
    FeatureSet,
    ProbeData,
    chance_of,
    per_class,
    refuse_one_class,
    training_data,
    unseen_classes,
)
from muse_core.evaluation.options import LinearOptions, layer_names
from muse_core.evaluation.protocol import Protocol, Row, Scores, Value, errors_of_shares
from muse_core.evaluation.reading import named
from muse_core.evaluation.spec import ProbeContext
from muse_core.progress import Progress, Silent

_MOMENTUM = 0.9
_CHUNK = 4096  # rows scored at once: every recipe has a logit for every class


@dataclass(frozen=True)
class Recipe:
    """How one classifier is trained."""

    rate: float
    decay: float


@dataclass(frozen=True)
class Scaling:
    """Rows to unit length, then to zero mean and unit variance per dimension as seen on the training rows."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> "Scaling":
        """Measure training rows (n, D)."""
        unit = F.normalize(rows.float(), dim=1)
        return cls(unit.mean(0), unit.std(0, correction=0).clamp_min(1e-6))

    def __call__(self, rows: Tensor) -> Tensor:
        """Scale rows (n, D)."""
        return (F.normalize(rows.float(), dim=1) - self.mean) / self.deviation


@dataclass(frozen=True)
class Heads:
    """K linear classifiers: weight (D, K, C), bias (K, C)."""

    weight: Tensor
    bias: Tensor

    def logits(self, rows: Tensor) -> Tensor:
        """Map rows (B, D) to (B, K, C)."""
        return torch.addmm(self.bias.flatten(), rows, self.weight.flatten(1)).view(len(rows), *self.bias.shape)

    def best(self, rows: Tensor, k: int) -> Tensor:
        """Return the classes with the k largest logits, best first: (n, K, k) on the CPU; -1 where one diverged."""
        return torch.cat([self._best(part, k).cpu() for part in torch.split(rows, _CHUNK)])

    def surprise(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy of labels (n,), in nats: (K,) on the CPU."""
        total = torch.zeros(len(self.bias), dtype=torch.float64)
        for part, truth in zip(torch.split(rows, _CHUNK), torch.split(labels, _CHUNK), strict=True):
            likely = self.logits(part).log_softmax(-1)
            total -= likely[torch.arange(len(part), device=part.device), :, truth].double().sum(0).cpu()
        return total / len(rows)

    def _best(self, rows: Tensor, k: int) -> Tensor:
        logits = self.logits(rows)
        classes = logits.topk(k, -1).indices
        return torch.where(torch.isfinite(logits).all(-1, keepdim=True), classes, -1)


@dataclass(frozen=True)
class _Found:
    """What probing found: top-1 and top-5, the sweep, and the class said for each validation sample (n,)."""

    metrics: dict[str, float]
    sweep: list[Row]
    said: Tensor


def measure(context: ProbeContext, options: LinearOptions) -> Scores:
    """Train on the training features, choose on a held-out part of them, score once on the validation features.

    Raises:
        MuseError: no training data, no labels, or a single class.
    """
    learning = training_data(context)
    started = time.perf_counter()
    layers = layer_names(options.layers, options.blocks)
    train = learning.features(options.features, layers)
    validation = context.validation.features(options.features, layers)
    found = _probe(train, validation, options, context)
    frequent = float((validation.labels == train.labels.mode().values).double().mean())
    chance = {f"top{k}": chance_of(train, validation, k) for k in (1, 5) if f"top{k}" in found.metrics}
    baselines = {"chance": chance, "most frequent class": {"top1": frequent}}
    if context.baseline is not None:
        raw_train = learning.through(context.baseline).features(options.features)
        raw_validation = context.validation.through(context.baseline).features(options.features)
        baselines["untouched encoder"] = _probe(raw_train, raw_validation, options, context).metrics
    return Scores(
        command="probe linear",
        tokenizer=named(context.tokenizer),
        metrics=found.metrics,
        protocol=_protocol(learning, context.validation, options, layers, (len(train), len(validation))),
        counts=validation.counts,
        standard_errors=errors_of_shares(found.metrics, len(validation)),
        baselines=baselines,
        tables={"sweep": found.sweep, "per class": per_class(validation, found.said, context.validation.classes)},
        notes=unseen_classes(train, validation, context.validation.classes),
        seconds=time.perf_counter() - started,
    )


def _probe(train: FeatureSet, validation: FeatureSet, options: LinearOptions, context: ProbeContext) -> _Found:
    refuse_one_class(train)
    names = torch.unique(train.labels)  # only classes that occur in training can be said
    recipes = [Recipe(rate, decay) for rate in options.rates for decay in options.decays]
    labels = torch.searchsorted(names, train.labels).to(context.device)
    held_out, kept = _split(len(train), options)
    rows = Scaling.of(train.features[kept])(train.features).to(context.device)
    heads = fit(rows[kept], labels[kept], len(names), recipes, options, context.progress, "linear sweep")
    accuracy = _accuracy(heads.best(rows[held_out], 1), labels[held_out].cpu())
    surprise = heads.surprise(rows[held_out], labels[held_out])
    best = _choose(accuracy, surprise, len(held_out))

    scaling = Scaling.of(train.features)  # the chosen recipe is trained again, on everything
    everything = scaling(train.features).to(context.device)
    head = fit(everything, labels, len(names), [recipes[best]], options, context.progress, "linear classifier")
    said = head.best(scaling(validation.features).to(context.device), min(5, len(names)))
    said = torch.where(said < 0, -1, names[said.clamp_min(0)])
    metrics = {"top1": float(_accuracy(said[..., :1], validation.labels))}
    if len(names) > 5:
        metrics["top5"] = float(_accuracy(said, validation.labels))
    sweep: list[Row] = [
        {
            "rate": recipe.rate,
            "decay": recipe.decay,
            "held-out top1": float(accuracy[index]),
            "held-out loss": float(surprise[index]),
            "chosen": int(index == best),
        }
        for index, recipe in enumerate(recipes)
    ]
    return _Found(metrics, sweep, said[:, 0, 0])


def fit(
    rows: Tensor,
    labels: Tensor,
    classes: int,
    recipes: Sequence[Recipe],
    options: LinearOptions,
    progress: Progress | None = None,
    what: str = "linear probe",
) -> Heads:
    """Train one linear classifier per recipe, all in the same pass over the data.

    Cross-entropy with Nesterov momentum from zero weights, rate falling to 0 as half a cosine; the decay is the
    factor of 1/2 |weight|^2 in the loss. The gradient is written out: for one linear layer it is two products.

    Args:
        rows: (n, D) scaled features. labels: (n,) int64 below `classes`.
        classes: C.
        recipes: K of them.
        options: epochs, least steps, batch size and seed.
        progress: who is told. what: under which name.
    """
    shape = (rows.shape[1], len(recipes), classes)
    weight, bias = rows.new_zeros(shape), rows.new_zeros(shape[1:])
    velocity = [torch.zeros_like(weight), torch.zeros_like(bias)]
    rates = rows.new_tensor([recipe.rate for recipe in recipes])[:, None]  # K 1
    decays = rows.new_tensor([recipe.decay for recipe in recipes])[:, None]
    order = torch.Generator().manual_seed(options.seed)
    epochs = max(options.epochs, math.ceil(options.least_steps / math.ceil(len(rows) / options.batch_size)))
    steps, step = epochs * math.ceil(len(rows) / options.batch_size), 0
    with (progress or Silent()).track(what, epochs) as tracker:
        for _ in range(epochs):
            for index in torch.split(torch.randperm(len(rows), generator=order), options.batch_size):
                part = index.to(rows.device)
                gradients = _gradients(Heads(weight, bias), rows[part], labels[part], decays)
                now = rates * (0.5 * (1 + math.cos(math.pi * step / steps)))
                for value, gradient, speed in zip((weight, bias), gradients, velocity, strict=True):
                    speed.mul_(_MOMENTUM).add_(gradient)
                    # In place: K recipes have so many weights that every copy of them counts.
                    value.addcmul_(gradient, now, value=-1).addcmul_(speed, now, value=-_MOMENTUM)
                step += 1
            tracker.advance()
    return Heads(weight, bias)


def _gradients(heads: Heads, rows: Tensor, labels: Tensor, decays: Tensor) -> tuple[Tensor, Tensor]:
    error = heads.logits(rows).softmax(-1)  # B K C
    error[torch.arange(len(rows), device=rows.device), :, labels] -= 1
    error /= len(rows)
    gradient = (rows.T @ error.flatten(1)).view_as(heads.weight)
    return gradient.addcmul_(decays, heads.weight), error.sum(0)


def _split(n: int, options: LinearOptions) -> tuple[Tensor, Tensor]:
    """Return the indices (held out, kept) of n training samples, shuffled by the seed."""
    count = max(1, round(options.holdout * n))
    if n - count < 1:
        raise MuseError(f"{n} training samples are too few to hold some out")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(options.seed))
    return order[:count], order[count:]


def _choose(accuracy: Tensor, surprise: Tensor, held_out: int) -> int:
    """Pick the recipe with the lowest loss among those within a standard error of the best accuracy.

    Accuracy alone would often be a tie, or luck, on a small held-out part.
    """
    best = float(accuracy.max())
    error = math.sqrt(best * (1 - best) / held_out)
    return int(torch.where(accuracy >= best - error, surprise.nan_to_num(nan=torch.inf), torch.inf).argmin())


def _accuracy(said: Tensor, labels: Tensor) -> Tensor:
    """Share of samples whose label is among the classes said: (n, K, k) and (n,) to (K,)."""
    return (said == labels[:, None, None]).any(-1).double().mean(0)


def _protocol(
    train: ProbeData,
    validation: ProbeData,
    options: LinearOptions,
    layers: tuple[str, ...],
    images: tuple[int, int],
) -> Protocol:
    recipe: dict[str, Value] = {
        "scaling": "unit length, then standardised on the training features",
        "optimizer": "SGD, Nesterov momentum 0.9, half cosine",
        "selection": "held-out part of training: lowest loss within a standard error of the best top-1; then all of it",
        **options.model_dump(mode="json", exclude={"layers", "blocks"}),
    }
    fields: dict[str, Value] = {
        **validation.data.describe(),
        "images": images[1],
        "train_data": train.data.name,
        "train_images": images[0],
        "layers": list(layers) or "the tokenizer's own for classifying",
        "recipe": recipe,
        "precision": "float32",
    }
    return Protocol(fields)
