"""How well images survive encoding and decoding: one decode per image feeds every metric.

Letters: B images, H x W pixels.
"""

import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.frechet import Moments, save_reference
from muse_core.evaluation.metrics import Frechet
from muse_core.evaluation.pairs import Pairs
from muse_core.evaluation.pixels import to_bytes
from muse_core.evaluation.processes import Team
from muse_core.evaluation.protocol import Protocol, Scores, Value
from muse_core.evaluation.reading import EvalData, Tally, named, read
from muse_core.evaluation.savedpairs import SavedPairs, noise_of
from muse_core.evaluation.spec import Measured, Metric, MetricContext, MetricSpec, NotMeasuredError, Shares
from muse_core.model.abilities import Decodes, Encodes
from muse_core.model.identity import checkpoint_of
from muse_core.progress import Progress, Silent
from muse_core.registry import import_path


def evaluate(
    tokenizer: object,
    data: EvalData,
    metrics: Mapping[str, MetricSpec],
    *,
    required: Collection[str] = (),
    reference: Path | None = None,
    images: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Scores:
    """Measure reconstructions of every image of `data`, whose images are on the tokenizer's device.

    Args:
        tokenizer: encodes and decodes.
        data: what to read and how.
        metrics: which to measure, by name.
        required: names that must be measured; any other whose parts are missing is listed in `not_measured`.
        reference: statistics that Frechet distances compare with, or None for the originals.
        images: folder into which originals and reconstructions go as PNG, or None.
        overwrite: whether pictures of another evaluation in that folder may go.
        progress: who is told.

    Raises:
        MuseError: the tokenizer cannot reconstruct, no image could be read, a reconstruction is not finite, a
            required metric cannot be measured (exit code 4), or the folder for pictures holds something else.
    """
    if not (isinstance(tokenizer, Encodes) and isinstance(tokenizer, Decodes)):
        raise MuseError(f"{named(tokenizer)} cannot reconstruct: it does not both encode and decode")
    started = time.perf_counter()
    missing: dict[str, str] = {}
    running = _made(metrics, MetricContext(data.device, reference), required, missing)
    tally = Tally()
    noise = None if images is None else reconstruct(tokenizer, tokenizer, noise_of(data))
    saved = None if images is None or noise is None else SavedPairs(images, data, noise, overwrite)
    for batch in read(data, progress or Silent(), "reconstructing", tally):
        pairs = Pairs(batch.images, reconstruct(tokenizer, tokenizer, batch.images), batch.keys, batch.positions)
        for metric in running.values():
            metric.update(pairs)
        if saved is not None:
            saved.update(pairs)
    _join(running, data.team, required, missing)
    found = _results(running, required, missing)
    return Scores(
        command="eval",
        tokenizer=named(tokenizer),
        checkpoint=checkpoint_of(tokenizer),
        metrics={key: value for measured in found for key, value in measured.values.items()},
        protocol=_protocol(data, tally.seen, found),
        counts=tally.counts(),
        standard_errors={key: value for measured in found for key, value in measured.errors.items()},
        notes=[*(note for measured in found for note in measured.notes), *_unread(reference, found)],
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
            missing[name] = reason.told
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


def _join(running: dict[str, Metric], team: Team, required: Collection[str], missing: dict[str, str]) -> None:
    """Let every process know what all have seen."""
    if team.world == 1:
        return
    for name, metric in list(running.items()):
        if isinstance(metric, Shares):
            metric.merge(team.gather(metric.state()))
            continue
        why = f"the metric {name!r} cannot be measured by several processes"
        if name in required:
            raise NotMeasuredError(why, hint="--devices cpu, or another single device")
        del running[name]
        missing[name] = why


def reference_statistics(
    data: EvalData,
    name: str,
    spec: MetricSpec,
    target: Path,
    progress: Progress | None = None,
    *,
    overwrite: bool = False,
) -> Scores:
    """Write the statistics of `data` that a Frechet distance can be compared with; no tokenizer is needed.

    Args:
        data: what to read and how.
        name, spec: the metric whose features are meant.
        target: the npz file.
        progress: who is told.
        overwrite: replace whatever file has that name.

    Raises:
        MuseError: the metric is no Frechet distance, cannot be made here, there are too few images, or `target` is
            there.
    """
    metric = _import(name, spec)(MetricContext(data.device))
    if not isinstance(metric, Frechet):
        raise MuseError(f"{name} has no reference statistics: it is no Frechet distance", hint="--metric rfid")
    started, tally, moments = time.perf_counter(), Tally(), Moments()
    for batch in read(data, progress or Silent(), f"statistics of {data.name}", tally):
        moments.add(metric.extractor(to_bytes(batch.images))[metric.tap])
    whole = Moments()
    for part in data.team.gather(moments):
        whole.merge(part)
    fields = {**data.describe(), "images": tally.seen, "extractor": metric.extractor.name, "tap": metric.tap}
    if data.team.rank == 0:
        save_reference(whole, target, overwrite, **{key: str(value) for key, value in fields.items()})
    return Scores(
        command="eval statistics",
        tokenizer="the data itself",
        metrics={"images": float(whole.count), "width": float(len(whole.mean))},
        protocol=Protocol(fields),
        counts=tally.counts(),
        notes=[f"muse eval --reference {target} compares with these"],
        seconds=time.perf_counter() - started,
    )


def _results(running: Mapping[str, Metric], required: Collection[str], missing: dict[str, str]) -> list[Measured]:
    found = []
    for name, metric in running.items():
        try:
            found.append(metric.result())
        except NotMeasuredError as reason:
            if name in required:
                raise
            missing[name] = reason.told
    return found


def _unread(reference: Path | None, found: list[Measured]) -> list[str]:
    if reference is None or any("reference" in measured.recipe for measured in found):
        return []
    return [f"the reference {reference} was not used: no Frechet distance was measured"]


def _protocol(data: EvalData, images: int, found: list[Measured]) -> Protocol:
    fields: dict[str, Value] = {
        **data.describe(),
        "images": images,
        "reference": "the originals, cropped alike",
        "precision": "float32",
    }
    return Protocol(fields, {key: measured.recipe for measured in found for key in measured.values})
