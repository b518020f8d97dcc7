"""Images to shards of latents: one shard for each shard of images, by any number of processes, resumable after each.

A batch never spans two shards, so what a shard holds does not depend on who made it.
Letters: B images, C latent channels, S side of an image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muse_core.command_lines import quote
from muse_core.data.identity import is_affected_shard
from muse_core.data.sample import Sample, Skips, collate
from muse_core.data.sharding.tar import TarWriter
from muse_core.data.shards import INDEX_NAME
from muse_core.data.source import open_source
from muse_core.data.transforms import eval_transform
from muse_core.errors import ExitCode, MuseError
from muse_core.files import naming, read_json, write_json
from muse_core.image_files import READER
from muse_core.latents.job import RecordedJob, begin
from muse_core.latents.members import Format, members_of
from muse_core.latents.owned import DTYPES, JOB_NAME, LATENTS, PARTS
from muse_core.latents.units import Unit, units_of
from muse_core.model.abilities import Encodes
from muse_core.model.latent_stats import STATS_NAME, LatentStats, Moments
from muse_core.progress import Progress, Silent

TYPES: Mapping[str, torch.dtype] = {name: getattr(torch, name) for name in DTYPES}
LIMIT_ERRORS = 0.01
_LONGEST_KEY = 80  # what a plain tar header surely holds


@dataclass(frozen=True)
class LatentJob:
    """What decides the latents.

    data: shards or scenes. tokenizer: as `load_tokenizer` takes it. size: S; shorter side to it, then centre crop.
    dtype: float16 or float32. form: safetensors or npy members. flips: also of every mirror image.
    batch_size: images at once; part of the job, because it may change last digits.
    """

    data: str
    tokenizer: str
    size: int
    dtype: str = "float32"
    form: Format = "safetensors"
    flips: bool = False
    batch_size: int = 64

    def units(self) -> list[Unit]:
        """What becomes one shard each."""
        return units_of(open_source(self.data, size=self.size))


@dataclass(frozen=True)
class LatentReport:
    """What was written: shards and samples in all, what was skipped by reason, and the statistics.

    notes: how many images were read without something that they hold, by note.
    """

    folder: Path
    shards: int
    samples: int
    skipped: Mapping[str, int]
    shape: tuple[int, ...]
    stats: LatentStats
    notes: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able document."""
        return {**asdict(self), "folder": str(self.folder)}


def prepare(
    job: LatentJob, out: Path, *, resume: bool, overwrite: bool, progress: Progress | None = None
) -> tuple[LatentJob, list[Unit]]:
    """Make the folder ready; return the job as any process can do it from anywhere, and what of it is left to do.

    Raises:
        MuseError: the folder is in use by something else, or by another job, and `overwrite` is off; or data or weights
            are others than the job was begun with.
    """
    recorded: RecordedJob | None = None
    if resume and LATENTS.own_files(out) is not None:
        recorded = RecordedJob.read(out / JOB_NAME)
    else:
        LATENTS.refuse(out, overwrite, ["--resume to go on"], in_place=True)
    begun = begin(asdict(job), recorded, out, progress or Silent())
    if recorded is None and out.is_dir():
        LATENTS.clear(out)
    settled = replace(job, data=begun.settings["data"], tokenizer=begun.settings["tokenizer"])
    units = settled.units()
    _refuse_in_the_way(out, units)
    write_json(out / JOB_NAME, begun.to_json())
    if begun.reader != READER:
        _drop_affected(out, units)
        write_json(out / JOB_NAME, replace(begun, reader=READER).to_json())
    return settled, [unit for unit in units if not _is_done(out, unit)]


def _drop_affected(out: Path, units: Sequence[Unit]) -> None:
    """Remove latents of images that were read otherwise than they are now; they are made anew."""
    own = set(LATENTS.own_files(out) or ())
    for unit in units:
        if unit.shard is not None and is_affected_shard(unit.shard):
            for name in own & {f"{unit.name}.tar", f"{PARTS}/{unit.name}.json"}:
                (out / name).unlink()


def write_units(
    job: LatentJob, units: Sequence[Unit], out: Path, tokenizer: Encodes, device: str, done: Callable[[], None]
) -> None:
    """Write the shards of some units; `done` is called after each.

    Raises:
        MuseError: too many samples are damaged, or a latent is not finite in the type asked for.
    """
    skips = Skips()
    for unit in units:
        _write_unit(job, unit, out, tokenizer, device, skips)
        done()


def finish(job: LatentJob, out: Path) -> LatentReport:
    """Write index and statistics, once every unit is there; data and tokenizer are named as they first were typed.

    Raises:
        MuseError: not one image could be encoded.
    """
    parts = [read_json(out / PARTS / f"{unit.name}.json") for unit in job.units()]
    full = [part for part in parts if part["count"]]
    if not full:
        raise MuseError(f"not one image of {job.data} could be encoded", hint=f"muse inspect {quote(job.data)}")
    moments = Moments.from_json(full[0]["moments"])
    for part in full[1:]:  # in the order of the shards, so that who made them does not show
        moments = moments.merged(Moments.from_json(part["moments"]))
    skipped, notes = Counter[str](), Counter[str]()
    for part in parts:
        skipped.update(part["skipped"])
        notes.update(part.get("notes", {}))
    stats = LatentStats.of(moments)
    settings = {**asdict(job), **RecordedJob.read(out / JOB_NAME).typed}
    entries = [{key: part[key] for key in ("name", "count", "bytes", "sha256")} for part in full]
    samples, shape = sum(part["count"] for part in full), tuple(full[0]["shape"])
    report = LatentReport(out, len(full), samples, dict(skipped), shape, stats, dict(notes))
    write_json(out / STATS_NAME, {**asdict(stats), "shape": list(report.shape), "samples": report.samples, **settings})
    index = {"format": "muse-latents/1", "count": report.samples, "skipped": report.skipped, "settings": settings}
    write_json(out / INDEX_NAME, {**index, "shards": entries})
    return report


def _refuse_in_the_way(out: Path, units: Sequence[Unit]) -> None:
    """Refuse to go on where a file that muse did not write has the name of a shard to come."""
    foreign = set(LATENTS.strangers(out)) if out.is_dir() else set()
    names = [f"{unit.name}.tar" for unit in units if f"{unit.name}.tar" in foreign]
    if names:
        raise MuseError(f"{out / names[0]} is in the way, and muse did not write it", hint="move it, or another folder")


def _is_done(out: Path, unit: Unit) -> bool:
    part = out / PARTS / f"{unit.name}.json"
    if not part.is_file():
        return False
    said = read_json(part)
    tar = out / f"{unit.name}.tar"
    return not said["count"] or (tar.is_file() and tar.stat().st_size == said["bytes"])


def _write_unit(job: LatentJob, unit: Unit, out: Path, tokenizer: Encodes, device: str, skips: Skips) -> None:
    before, noted_before = skips.reasons.copy(), skips.notes.copy()
    aside = out / f".{unit.name}.tar.tmp"
    moments: Moments | None = None
    count, shape = 0, list[int]()
    with naming(out, inside=aside), aside.open("wb") as stream:
        tar = TarWriter(stream)
        for samples in _batches(unit, job, skips):
            z, flipped = _encode(job, samples, tokenizer, device)
            for number, sample in enumerate(samples):
                mirrored = None if flipped is None else flipped[number]
                tar.add(_key(sample, count + number), members_of(sample, z[number], mirrored, job.form))
            for part in (z, flipped):
                moments = moments if part is None else _added(moments, Moments.of(part))
            count, shape = count + len(samples), list(z.shape[1:])
        tar.close()
    entry = {"name": f"{unit.name}.tar", "count": count, "bytes": tar.bytes, "sha256": tar.sha256, "shape": shape}
    gathered = moments.to_json() if moments else None
    told = {"skipped": skips.reasons - before}
    if notes := skips.notes - noted_before:
        told["notes"] = notes
    write_json(out / PARTS / f"{unit.name}.json", {**entry, **told, "moments": gathered})
    if count:  # after its note, by which it is known
        aside.replace(out / f"{unit.name}.tar")
    aside.unlink(missing_ok=True)


def _batches(unit: Unit, job: LatentJob, skips: Skips) -> Iterator[list[Sample]]:
    transform, waiting = eval_transform(job.size), list[Sample]()
    for item in unit.read():
        skips.note(item)
        skips.refuse_many(LIMIT_ERRORS)
        if isinstance(item, Sample):
            waiting.append(transform(item))
        if len(waiting) == job.batch_size:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


@torch.inference_mode()
def _encode(job: LatentJob, samples: list[Sample], tokenizer: Encodes, device: str) -> tuple[Tensor, Tensor | None]:
    """Latents (B, C, h, w) of some images, and of their mirror images if asked, as they are stored."""
    images = collate(samples).images.to(device)
    z = _stored(job, tokenizer.encode(images).z, samples)
    return z, _stored(job, tokenizer.encode(images.flip(-1)).z, samples) if job.flips else None


def _stored(job: LatentJob, z: Tensor, samples: list[Sample]) -> Tensor:
    stored = z.cpu().to(TYPES[job.dtype])
    finite = torch.isfinite(stored).flatten(1).all(dim=1)
    if not bool(finite.all()):
        first = samples[int((~finite).nonzero()[0])].key
        raise MuseError(
            f"a latent of {first} is not finite as {job.dtype}",
            hint="--dtype float32" if job.dtype == "float16" else "muse inspect CHECKPOINT",
            exit_code=ExitCode.STOPPED,
        )
    return stored


def _added(before: Moments | None, more: Moments) -> Moments:
    return more if before is None else before.merged(more)


def _key(sample: Sample, number: int) -> str:
    """The name of a sample within its shard, where a tar can hold it; the whole key is in its json.

    A name that would lead out of a folder, where somebody unpacks the tar, is not handed on.
    """
    name = sample.key.partition("/")[2] or sample.key
    dotted = "." in name.rpartition("/")[2]  # readers would take what follows for the suffix
    leads_out = "\\" in name or not {"", ".", ".."}.isdisjoint(name.split("/"))
    return f"{number:08d}" if dotted or leads_out or not name.isascii() or len(name) > _LONGEST_KEY else name
