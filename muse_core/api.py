"""The stable Python interface; the commands are thin callers of it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from muse_core.data.sharding.options import ShardOptions
from muse_core.data.sharding.shard import shard
from muse_core.data.source import open_source
from muse_core.data.writer import write_shards
from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.features import ProbeData
from muse_core.evaluation.named import metrics_named
from muse_core.evaluation.probing import run_probe
from muse_core.evaluation.processes import ALONE, Team
from muse_core.evaluation.protocol import Scores
from muse_core.evaluation.reading import EvalData
from muse_core.evaluation.reconstruction import evaluate as measure_reconstruction, reference_statistics
from muse_core.evaluation.segmentation import Segmented, SegmentOptions, segment as measure_segmentation
from muse_core.evaluation.spec import ProbeContext, ProbeSpec
from muse_core.evaluation.zeroshot import zeroshot as measure_zeroshot
from muse_core.home import cache_folder as cache_folder
from muse_core.inspection.findings import Inspection
from muse_core.inspection.inspect import inspect as look_at
from muse_core.model.abilities import Described
from muse_core.model.load import late_teacher, load_teacher, load_tokenizer, untouched_baseline
from muse_core.ownership import refuse_taken
from muse_core.progress import Progress, Silent
from muse_core.registry import discover
from muse_core.settings.layers import resolve
from muse_core.settings.presets import preset_for
from muse_core.settings.train import TrainSettings
from muse_core.stages.start import RunSummary, train as train_stage
from muse_core.suggestions import choices

__all__ = [
    "ShardOptions",
    "evaluate",
    "inspect",
    "load_teacher",
    "load_tokenizer",
    "probe",
    "segment",
    "shard",
    "train",
    "write_shards",
    "zeroshot",
]


def train(
    stage: int = 1,
    size: str = "tiny",
    data: str | None = None,
    out: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> RunSummary:
    """Train one stage.

    Args:
        stage: 1 topology, 2 semantics, 3 synergy.
        size: tiny, 1b or 3b.
        data: shards, or "demo"; default: the preset's. Beside data of your own nothing is held out unless `overrides`
            name it as "data.val".
        out: run folder; default: a new one.
        overrides: any other setting by its dotted key, as in {"training.steps": 20}.
        progress: who is told.

    Raises:
        MuseError: a setting is wrong (exit code 3), something is missing (4), or training had to stop (7).
    """
    flags = {"run.stage": stage, "run.size": size, "data.train": data, "run.out": out, **(overrides or {})}
    settings, origins = resolve(TrainSettings, command="train", flags=flags, preset=preset_for)
    return train_stage(settings, origins, progress)


def evaluate(
    tokenizer: object,
    data: str,
    metrics: Sequence[str] | None = None,
    *,
    limit: int | None = None,
    batch_size: int = 64,
    size: int | None = None,
    reference: Path | None = None,
    images: Path | None = None,
    overwrite: bool = False,
    team: Team = ALONE,
    progress: Progress | None = None,
) -> Scores:
    """Measure reconstruction; without `metrics`, every metric whose parts are on disk.

    Args:
        tokenizer: encodes and decodes.
        data: shards, or "demo:val".
        metrics: names, or None for all.
        limit: use so many images.
        batch_size: images at a time; changes no number.
        size: shorter side in pixels; default: the tokenizer's own.
        reference: an npz with "mu" and "sigma" that Frechet distances compare with; default: the originals.
        images: folder for originals and reconstructions as PNG.
        overwrite: whether pictures of another evaluation in that folder may go.
        team: who else measures with this process.
        progress: who is told.

    Raises:
        MuseError: an unknown metric, unreadable data, or a metric asked for by name that cannot be measured.
    """
    return measure_reconstruction(
        tokenizer,
        replace(_data(tokenizer, data, limit, batch_size, size=size), team=team),
        metrics_named(metrics),
        required=tuple(metrics or ()),
        reference=reference,
        images=images,
        overwrite=overwrite,
        progress=progress,
    )


def save_statistics(
    data: str,
    target: Path,
    size: int,
    metric: str = "rfid",
    *,
    limit: int | None = None,
    batch_size: int = 64,
    device: str = "cpu",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Scores:
    """Write the statistics of data for `evaluate(reference=...)`: images of `size` pixels, on a metric's features.

    Raises:
        MuseError: the metric is no Frechet distance or cannot be made here, the data are unreadable, or `target` is
            there and `overwrite` is off.
    """
    refuse_taken(target, overwrite, [data], "npz")
    read = EvalData(open_source(data, split="val", size=size), size, batch_size, limit, device)
    return reference_statistics(read, metric, metrics_named([metric])[metric], target, progress, overwrite=overwrite)


def probe(
    name: str,
    tokenizer: object,
    data: str,
    val_data: str,
    settings: Any = None,
    *,
    limit: int | None = None,
    train_limit: int | None = None,
    team: Team = ALONE,
    progress: Progress | None = None,
) -> Scores:
    """Measure with one probe; features are cached under $MUSE_CACHE, and read by all processes of the team.

    Raises:
        MuseError: an unknown probe, unreadable data, or what the probe itself refuses.
    """
    known = discover("muse.probes")
    if name not in known:
        raise MuseError(f"no probe is called {name}", hint=choices(name, known), exit_code=ExitCode.USAGE)
    spec: ProbeSpec = known[name].load()
    progress = progress or Silent()

    def through(where: str, split: str, most: int | None) -> ProbeData:
        read = _data(tokenizer, where, most, 64, split)
        return ProbeData(tokenizer, read, cache=cache_folder() / "features", progress=progress, team=team)

    context = ProbeContext(
        tokenizer=tokenizer,
        validation=through(val_data, "val", limit),
        train=through(data, "train", train_limit) if spec.train else None,
        baseline=untouched_baseline(tokenizer),
        teacher=late_teacher(tokenizer),
        device=str(getattr(tokenizer, "device", "cpu")),
        progress=progress,
    )
    return run_probe(name, spec, context, settings)


def zeroshot(
    tokenizer: object,
    data: str,
    classes: Sequence[str] | None = None,
    templates: Sequence[str] | None = None,
    *,
    top: Sequence[int] = (1, 5),
    limit: int | None = None,
    batch_size: int = 64,
    team: Team = ALONE,
    progress: Progress | None = None,
) -> Scores:
    """Classify by text; classes default to what the data say, templates to the bare class.

    Raises:
        MuseError: the tokenizer is not aligned with text, or the data have no labels.
    """
    return measure_zeroshot(
        tokenizer,
        replace(_data(tokenizer, data, limit, batch_size), team=team),
        classes=classes,
        templates=templates or ("{}",),
        top=top,
        baseline=untouched_baseline(tokenizer),
        cache=cache_folder() / "text",
        progress=progress,
    )


def segment(
    tokenizer: object,
    data: str,
    val_data: str,
    options: SegmentOptions | None = None,
    *,
    size: int | None = None,
    limit: int | None = None,
    train_limit: int | None = None,
    batch_size: int = 64,
    baseline: bool = False,
    masks: Path | None = None,
    overwrite: bool = False,
    team: Team = ALONE,
    progress: Progress | None = None,
) -> Segmented:
    """Train a linear head on frozen patches, and measure mIoU; patch features are cached under $MUSE_CACHE.

    Args:
        tokenizer: gives features.
        data, val_data: with masks; the head learns from the first and is measured on the second.
        options: how the head is trained.
        size: shorter side of the images in pixels; default: the tokenizer's own.
        limit, train_limit: use so many images of `val_data` and of `data`.
        batch_size: images at a time; changes no number.
        baseline: measure the untouched encoder as well.
        masks: folder for the mask of each validation image, or None.
        overwrite: whether masks of an earlier one in that folder may go.
        team: who else measures with this process.
        progress: who is told.

    Raises:
        MuseError: no features, no masks, no untouched encoder where one was asked for, or wrong options.
    """
    chosen = options or SegmentOptions()
    untouched = untouched_baseline(tokenizer) if baseline else None
    if baseline and untouched is None:
        raise MuseError("only MUSE tokenizers have an untouched encoder to compare with", exit_code=ExitCode.USAGE)
    train = _data(tokenizer, data, train_limit, batch_size, "train", size)
    validation = _data(tokenizer, val_data, limit, batch_size, "val", size)
    return measure_segmentation(
        tokenizer,
        replace(train, team=team),
        replace(validation, team=team),
        chosen,
        baseline=untouched,
        cache=cache_folder() / "patches",
        masks=masks,
        overwrite=overwrite,
        progress=progress,
    )


def inspect(
    where: str | Path, *, deep: bool = False, readers: int | None = None, progress: Progress | None = None
) -> Inspection:
    """Look through shards, a folder of images, a tokenizer or a run; what is wrong is in `problems`.

    Args:
        where: data, or whatever `load_tokenizer` takes.
        deep: of shards, decode every picture, rather than read its header.
        readers: of shards, say whether so many ranks x workers can be fed.
        progress: who is told.

    Raises:
        MuseError: there is nothing of that kind.
    """
    return look_at(where, deep=deep, readers=readers, progress=progress)


def _data(
    tokenizer: object, where: str, limit: int | None, batch_size: int, split: str = "val", size: int | None = None
) -> EvalData:
    size = size or (tokenizer.info.resolution if isinstance(tokenizer, Described) else 224)
    device = str(getattr(tokenizer, "device", "cpu"))
    source = open_source(where, split=split, size=size)
    return EvalData(source, size=size, batch_size=batch_size, limit=limit, device=device)
