"""How well images survive encoding and decoding: one decode per image feeds every metric.

Letters: B images, H x W pixels.
"""

import time
from collections.abc import Callable, Collection, Mapping
from typing import cast

import torch
from torch import Tensor

from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.pairs import Pairs
from muse_core.evaluation.protocol import Protocol, Scores, Value
from muse_core.evaluation.reading import EvalData, Tally, named, read
from muse_core.evaluation.spec import Measured, Metric, MetricContext, MetricSpec, NotMeasuredError
from muse_core.model.abilities import Decodes, Encodes
from muse_core.progress import Progress, Silent
from muse_core.registry import import_path


def evaluate(
    tokenizer: object,
    data: EvalData,
    metrics: Mapping[str, MetricSpec],
    *,
    required: Collection[str] = (),
    progress: Progress | None = None,
) -> Scores:
    """Measure reconstructions of every image of `data`, whose images are on the tokenizer's device.

    Args:
        tokenizer: encodes and decodes.
        data: what to read and how.
        metrics: which to measure, by name.
        required: names that must be measured; any other whose parts are missing is listed in `not_measured`.
        progress: who is told.

    Raises:
        MuseError: the tokenizer cannot reconstruct, no image could be read, a reconstruction is not finite, or a
            required metric cannot be measured (exit code 4).
    """
    if not (isinstance(tokenizer, Encodes) and isinstance(tokenizer, Decodes)):
        raise MuseError(f"{named(tokenizer)} cannot reconstruct: it does not both encode and decode")
    started = time.perf_counter()
    missing: dict[str, str] = {}
    running = _made(metrics, MetricContext(data.device), required, missing)
    tally = Tally()
    for batch in read(data, progress or Silent(), "reconstructing", tally):
        pairs = Pairs(batch.images, reconstruct(tokenizer, tokenizer, batch.images), batch.keys)
        for metric in running.values():
            metric.update(pairs)
    found = _results(running, required, missing)
    return Scores(
        command="eval",
        tokenizer=named(tokenizer),
        metrics={key: value for measured in found for key, value in measured.values.items()},
        protocol=_protocol(data, tally.seen, found),
        counts=tally.counts(),
        notes=[note for measured in found for note in measured.notes],
        not_measured=missing,
        seconds=time.perf_counter() - started,
    )


@torch.no_grad()
def reconstruct(encoder: Encodes, decoder: Decodes, images: Tensor) -> Tensor:
    """Encode and decode images (B, 3, H, W); the result has their size and is not clamped."""
    height, width = images.shape[-2:]
    return decoder.decode(encoder.encode(images).z, (height, width))


def _made(
    metrics: Mapping[str, MetricSpec], context: MetricContext, required: Collection[str], missing: dict[str, str]
) -> dict[str, Metric]:
    made = {}
    for name, spec in metrics.items():
        try:
            made[name] = _import(name, spec)(context)
        except NotMeasuredError as reason:
            if name in required:
                raise
            missing[name] = str(reason)
    if not made:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in missing.items()) or "none was asked for"
        raise MuseError(f"there is no metric to measure ({reasons})", hint="muse ls metrics")
    return made


def _import(name: str, spec: MetricSpec) -> Callable[[MetricContext], Metric]:
    try:
        return cast(Callable[[MetricContext], Metric], import_path(spec.target))
    except (ImportError, AttributeError, ValueError) as error:
        raise MuseError(
            f"the metric {name!r} could not be loaded: {error}",
            hint=f"muse plugins check {name}",
            exit_code=ExitCode.PLUGIN,
        ) from error


def _results(running: Mapping[str, Metric], required: Collection[str], missing: dict[str, str]) -> list[Measured]:
    found = []
    for name, metric in running.items():
        try:
            found.append(metric.result())
        except NotMeasuredError as reason:
            if name in required:
                raise
            missing[name] = str(reason)
    return found


def _protocol(data: EvalData, images: int, found: list[Measured]) -> Protocol:
    fields: dict[str, Value] = {
        **data.describe(),
        "images": images,
        "reference": "the originals, cropped alike",
        "precision": "float32",
    }
    return Protocol(fields, {key: measured.recipe for measured in found for key in measured.values})
