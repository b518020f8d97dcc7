"""gFID: samples are drawn evenly, brought back to the tokenizer's units, decoded, and compared with real images."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from muse_core.errors import MuseError
from muse_core.evaluation import generation
from muse_core.evaluation.generation import GenerationOptions, measure_generation
from muse_core.evaluation.metrics import Frechet
from muse_core.evaluation.protocol import Scores
from muse_core.evaluation.spec import MetricContext, MetricSpec, NotMeasuredError
from muse_core.model.abilities import Latents, TokenizerInfo
from muse_core.model.generating import GeneratorInfo, Sampling
from muse_core.model.latent_stats import LatentStats
from tests.evaluation.fakes import SIDE, data, sample
from tests.evaluation.test_reconstruction import EXTRACTOR

COUNT = 21
IMAGES = [sample(key) for key in range(COUNT)]
STATS = LatentStats(0, (0.5, 0.25, 0.125), (2.0, 4.0, 8.0))


def make_frechet(context: MetricContext) -> Frechet:
    return Frechet("rfd-mean", EXTRACTOR, "mean", context.reference)


def make_absent(context: MetricContext) -> Frechet:
    raise NotMeasuredError("its weights are not here")


def spec(name: str) -> MetricSpec:
    return MetricSpec(help=name, target=f"tests.evaluation.test_generation:{name}", better="lower")


@pytest.fixture(autouse=True)
def known_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "DISTANCES", {"gfd-mean": spec("make_frechet"), "gfid": spec("make_absent")})


class Pixels:
    """Latents are the pixels themselves."""

    info = TokenizerInfo(
        "pixels", "nowhere", "none", SIDE, 1, False, tokens_at=lambda height, width: (height, width), latent_channels=3
    )

    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        assert z.shape[-2:] == size
        return z

    def encode(self, images: Tensor, *, sample: bool = False, generator: torch.Generator | None = None) -> Latents:
        return Latents(images)


@dataclass
class Recalls:
    """Returns real images one after another, as normalised latents; remembers what it was asked for."""

    stats: LatentStats | None = STATS
    grid: tuple[int, int] | None = (SIDE, SIDE)
    off_by: float = 0.0
    noise: list[Tensor] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    @property
    def info(self) -> GeneratorInfo:
        return GeneratorInfo("recalls", "a list", "none", "a list of images", 3, self.grid, 4, 0, self.stats)

    def generate(self, noise: Tensor, labels: Tensor, sampling: Sampling) -> Tensor:
        start = len(self.labels)
        images = [torch.from_numpy(one.image).permute(2, 0, 1) / 255 for one in IMAGES[start : start + len(labels)]]
        self.noise.append(noise)
        self.labels += labels.tolist()
        return STATS.normalize(torch.stack(images) + self.off_by)


def measure(generator: Recalls, batch_size: int = 7, **options: object) -> Scores:
    chosen = replace(GenerationOptions(samples=COUNT), **options)  # type: ignore[arg-type]
    real, train = data(IMAGES, batch_size=batch_size), data(IMAGES[:5])
    return measure_generation(Pixels(), generator, real, train, chosen)


def test_samples_that_are_the_real_images_have_no_distance() -> None:
    """So latents were brought back to raw ones by the statistics, and decoded, before they were compared."""
    scores = measure(Recalls())
    assert scores.metrics["gfd-mean"] == pytest.approx(0, abs=1e-6)
    assert scores.not_measured == {"gfid": "its weights are not here"}


def test_the_distance_of_shifted_samples_is_that_of_their_means() -> None:
    scores = measure(Recalls(off_by=10 / 255))
    assert scores.metrics["gfd-mean"] == pytest.approx(3 * 10**2, rel=0.02)  # a few bytes are clamped


def test_classes_take_turns_and_noise_depends_on_no_batch() -> None:
    one, other = Recalls(), Recalls()
    measure(one, batch_size=7)
    measure(other, batch_size=4)
    assert one.labels == [number % 4 for number in range(COUNT)]
    assert torch.equal(torch.cat(one.noise), torch.cat(other.noise))
    assert not torch.equal(one.noise[0][0], one.noise[0][1])


def test_the_protocol_says_how_samples_were_drawn() -> None:
    fields = measure(Recalls(), sampling=Sampling(50, 0.075, 4.0, 3, 0.1), seed=5).protocol.fields
    assert fields["sampler"] == "Euler, 50 points, shift 0.075"
    assert fields["guidance"] == "4, channels 3, from time 0.1"
    assert (fields["samples"], fields["images"], fields["seed"]) == (COUNT, COUNT, 5)


def test_without_statistics_they_are_measured_and_that_is_said() -> None:
    scores = measure(Recalls(stats=None))
    assert "latents normalised by statistics measured on 5 images of memory" in scores.notes
    assert scores.metrics["gfd-mean"] > 1  # not the ones it was trained on


def test_a_reference_file_takes_the_place_of_the_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "far.npz", mu=np.full(3, 1000.0), sigma=np.eye(3))
    scores = measure(Recalls(), reference=tmp_path / "far.npz")
    assert scores.metrics["gfd-mean"] > 1e6
    assert scores.counts["seen"] == 0


def test_latents_of_another_shape_are_refused() -> None:
    with pytest.raises(MuseError, match="makes 3 channels on 8 x 8 cells, pixels has 3 channels on 16 x 16 at 16"):
        measure(Recalls(grid=(8, 8)))
    with pytest.raises(MuseError, match="of 2 channels, the latents have 3"):
        measure(Recalls(stats=LatentStats(0, (0.0, 0.0), (1.0, 1.0))))
