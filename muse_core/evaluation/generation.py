"""How well a tokenizer's latents can be generated: samples of a generator, decoded, against real images (gFID).

Letters: B samples, C latent channels, h x w tokens.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from muse_core.command_lines import quote
from muse_core.errors import MuseError
from muse_core.evaluation import builtin
from muse_core.evaluation.metrics import Frechet
from muse_core.evaluation.pixels import to_bytes
from muse_core.evaluation.protocol import Protocol, Scores, Value
from muse_core.evaluation.reading import EvalData, Tally, named, read
from muse_core.evaluation.spec import Measured, MetricContext, MetricSpec, NotMeasuredError
from muse_core.model.abilities import Decodes, Described, Encodes, TokenizerInfo
from muse_core.model.generating import Generates, GeneratorInfo, Sampling
from muse_core.model.identity import checkpoint_of
from muse_core.model.latent_stats import LatentStats, Moments
from muse_core.progress import Progress, Silent
from muse_core.registry import import_path

DISTANCES: Mapping[str, MetricSpec] = {"gfid": builtin.RFID, "gfd-tiny-clip": builtin.FD_TINY_CLIP}
"""By name: the metric of reconstructions whose extractor is used."""


@dataclass(frozen=True)
class GenerationOptions:
    """How many samples are drawn, how, and what they are compared with.

    samples: as many of each class as of any other, in turn. seed: of their noise; changing the batch changes no sample.
    reference: npz of "mu" and "sigma" to compare with, None for the images of the data.
    """

    samples: int = 50_000
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    reference: Path | None = None

    def describe(self) -> dict[str, Value]:
        """Return what of the drawing belongs into a protocol."""
        one = self.sampling
        guidance = f"{one.guidance:g}, channels {one.guidance_channels or 'all'}, from time {one.guidance_start:g}"
        return {
            "samples": self.samples,
            "sampler": f"Euler, {one.points} points, shift {one.shift:g}",
            "guidance": "none" if one.guidance == 1 else guidance,
            "labels": "each class in turn",
            "seed": self.seed,
        }


def measure_generation(
    tokenizer: object,
    generator: Generates,
    data: EvalData,
    stats_data: EvalData,
    options: GenerationOptions,
    *,
    progress: Progress | None = None,
) -> Scores:
    """Decode samples of a generator and compare them with real images, by every extractor that is on this machine.

    Args:
        tokenizer: whose latents the generator makes; it decodes.
        generator: trained on normalised latents of this tokenizer.
        data: real images; their size is that of the samples.
        stats_data: what latents are normalised by when no statistics lie beside the generator; it is read then only.
        options: how samples are drawn.
        progress: who is told.

    Raises:
        MuseError: the tokenizer cannot decode, the generator makes other latents than it has, a sample is not finite,
            or no distance can be measured.
    """
    if not (isinstance(tokenizer, Decodes) and isinstance(tokenizer, Described)):
        raise MuseError(f"{named(tokenizer)} cannot decode what a generator makes")
    started, told = time.perf_counter(), progress or Silent()
    missing: dict[str, str] = {}
    distances = _distances(MetricContext(data.device, options.reference), missing)
    shape = latent_shape(tokenizer.info, generator.info, data.size)
    stats, origin = _statistics(tokenizer, generator.info, stats_data, told)
    tally = Tally()
    if options.reference is None:
        for batch in read(data, told, "real images", tally):
            _add(distances, to_bytes(batch.images), made=False)
    for z in _samples(generator, shape, data, options, told):
        images = tokenizer.decode(stats.denormalize(z), (data.size, data.size))
        _add(distances, to_bytes(images), made=True)
    found = [measured for one in distances.items() if (measured := _result(*one, missing))]
    if not found:
        raise MuseError(f"no distance could be measured: {'; '.join(missing.values())}")
    fields = {**data.describe(), **options.describe(), "images": tally.seen, "precision": "float32"}
    info = generator.info
    return Scores(
        command="generate",
        tokenizer=named(tokenizer),
        checkpoint=checkpoint_of(tokenizer),
        metrics={key: value for one in found for key, value in one.values.items()},
        protocol=Protocol(
            {**fields, "generator": info.architecture}, {key: one.recipe for one in found for key in one.values}
        ),
        counts=tally.counts(),
        notes=[
            f"{info.parameters / 1e6:,.1f} M parameters on {shape[1]} x {shape[2]} cells, from {info.source}, "
            "which does not say how long it was trained",
            f"latents normalised by {origin}",
            *(note for one in found for note in one.notes),
        ],
        not_measured=missing,
        seconds=time.perf_counter() - started,
    )


def latent_shape(tokenizer: TokenizerInfo, info: GeneratorInfo, size: int) -> tuple[int, int, int]:
    """Return the shape (C, h, w) that a tokenizer's latents have at a size, if the generator makes such.

    Raises:
        MuseError: it makes others.
    """
    grid, channels = tokenizer.tokens_at(size, size), tokenizer.latent_channels
    if channels != info.channels or info.grid not in (None, grid):
        made = f"{info.channels} channels" + (f" on {info.grid[0]} x {info.grid[1]} cells" if info.grid else "")
        raise MuseError(
            f"the generator {info.source} makes {made}, "
            f"{tokenizer.name} has {channels or 'no'} channels on {grid[0]} x {grid[1]} at {size} pixels",
            hint="name a generator that was trained on this tokenizer, and --size-px of its training",
        )
    return info.channels, *grid


def _statistics(
    tokenizer: Described, info: GeneratorInfo, data: EvalData, progress: Progress
) -> tuple[LatentStats, str]:
    """Return what normalises the latents, and where that comes from."""
    stats, where = info.stats, "the statistics beside the generator"
    if stats is None:
        stats, where = LatentStats.beside(Path(tokenizer.info.source)), "the statistics beside the tokenizer"
    if stats is None:
        stats, where = measured_statistics(tokenizer, data, progress)
    if len(stats.mean) not in (1, info.channels):
        raise MuseError(f"{where} are of {len(stats.mean)} channels, the latents have {info.channels}")
    return stats, where


def measured_statistics(tokenizer: object, data: EvalData, progress: Progress) -> tuple[LatentStats, str]:
    """Measure mean and deviation of each channel over data, and say so.

    Raises:
        MuseError: the tokenizer cannot encode, or there is no image.
    """
    if not isinstance(tokenizer, Encodes):
        raise MuseError(f"{named(tokenizer)} has no statistics of latents beside it and cannot encode any")
    tally, moments = Tally(), None
    with torch.no_grad():
        for batch in read(data, progress, "statistics of latents", tally):
            more = Moments.of(tokenizer.encode(batch.images).z)
            moments = more if moments is None else moments.merged(more)
    if moments is None:
        raise MuseError(f"not one image of {data.name} could be encoded", hint=f"muse inspect {quote(data.name)}")
    return LatentStats.of(moments), f"statistics measured on {tally.seen} images of {data.name}"


def _samples(
    generator: Generates, shape: tuple[int, int, int], data: EvalData, options: GenerationOptions, progress: Progress
) -> Iterator[Tensor]:
    """Draw normalised latents (B, C, h, w); each sample's noise has a seed of its own."""
    with progress.track("samples", options.samples) as tracker:
        for first in range(0, options.samples, data.batch_size):
            numbers = range(first, min(first + data.batch_size, options.samples))
            noise = torch.stack([_noise(shape, options.seed + number) for number in numbers])
            labels = torch.tensor([number % generator.info.classes for number in numbers])
            yield generator.generate(noise.to(data.device), labels, options.sampling)
            tracker.advance(len(numbers))


def _noise(shape: tuple[int, int, int], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _distances(context: MetricContext, missing: dict[str, str]) -> dict[str, Frechet]:
    made = {}
    for name, spec in DISTANCES.items():
        try:
            like: Frechet = import_path(spec.target)(context)
        except NotMeasuredError as reason:
            missing[name] = str(reason)
        else:
            made[name] = like.named(name)
    return made


def _add(distances: Mapping[str, Frechet], images: Tensor, *, made: bool) -> None:
    for distance in distances.values():
        distance.add(images, made=made)


def _result(name: str, distance: Frechet, missing: dict[str, str]) -> Measured | None:
    try:
        return distance.result()
    except NotMeasuredError as reason:
        missing[name] = str(reason)
        return None
