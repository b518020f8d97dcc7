"""The probe `knn`: the nearest training images vote on the class, and nothing is trained.

Letters: n validation samples, N training samples, D feature width, C classes.
"""

import time

import torch
from torch import Tensor
from torch.nn import functional as F

from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.features import (
    FeatureSet,
    chance_of,
    per_class,
    refuse_one_class,
    training_data,
    unseen_classes,
)
from muse_core.evaluation.options import KnnOptions, layer_names
from muse_core.evaluation.protocol import Protocol, Scores, errors_of_shares
from muse_core.evaluation.reading import named
from muse_core.evaluation.spec import ProbeContext

_CHUNK = 1024  # validation rows compared at once with all training rows


def measure(context: ProbeContext, options: KnnOptions) -> Scores:
    """Let the `k` training images of highest cosine vote on each validation image.

    Raises:
        MuseError: no training data, no labels, a single class, or fewer training samples than neighbours.
    """
    learning, layers = training_data(context), layer_names(options.layers)
    started = time.perf_counter()
    train = learning.features(options.features, layers)
    refuse_one_class(train)
    validation = context.validation.features(options.features, layers)
    said = vote(train, validation.features, options.k, context.device)
    metrics = {"top1": _accuracy(validation, said)}
    baselines = {"chance": {"top1": chance_of(train, validation)}}
    if context.baseline is not None:
        raw_train = learning.through(context.baseline).features(options.features)
        raw = context.validation.through(context.baseline).features(options.features)
        baselines["untouched encoder"] = {
            "top1": _accuracy(raw, vote(raw_train, raw.features, options.k, context.device))
        }
    fields = {
        **context.validation.data.describe(),
        "images": len(validation),
        "train_data": learning.data.name,
        "train_images": len(train),
        "layers": list(layers) or "the tokenizer's own for classifying",
        "recipe": {"similarity": "cosine", "vote": "one each, ties to the lower label", **options.model_dump()},
        "precision": "float32",
    }
    return Scores(
        command="probe knn",
        tokenizer=named(context.tokenizer),
        metrics=metrics,
        protocol=Protocol(fields),
        counts=validation.counts,
        standard_errors=errors_of_shares(metrics, len(validation)),
        baselines=baselines,
        tables={"per class": per_class(validation, said, context.validation.classes)},
        notes=unseen_classes(train, validation, context.validation.classes),
        seconds=time.perf_counter() - started,
    )


def vote(train: FeatureSet, rows: Tensor, k: int, device: str = "cpu") -> Tensor:
    """Return the class (n,) that most of the k nearest training rows have, for rows (n, D).

    Raises:
        MuseError: there are fewer than k training rows.
    """
    if k > len(train):
        raise MuseError(f"{k} neighbours of {len(train)} training samples", exit_code=ExitCode.SETTINGS)
    names, labels = torch.unique(train.labels, return_inverse=True)
    memory, labels = F.normalize(train.features, dim=1).to(device), labels.to(device)
    said = []
    for part in torch.split(rows, _CHUNK):
        near = (F.normalize(part.to(device), dim=1) @ memory.T).topk(k, 1).indices
        ballots = torch.zeros(len(part), len(names), device=device)
        ballots.scatter_add_(1, labels[near], torch.ones(len(part), k, device=device))
        said.append(ballots.argmax(1).cpu())
    winners: Tensor = names[torch.cat(said)]
    return winners


def _accuracy(validation: FeatureSet, said: Tensor) -> float:
    return float((said == validation.labels).double().mean())
