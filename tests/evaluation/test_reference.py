"""Reference statistics: written once, compared with later, refused when they are of something else."""

from pathlib import Path

import numpy as np
import pytest

from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.builtin import FD_TINY_CLIP, PSNR
from muse_core.evaluation.metrics import Frechet
from muse_core.evaluation.reconstruction import evaluate, reference_statistics
from muse_core.evaluation.spec import MetricContext, MetricSpec
from tests.evaluation.fakes import Passes, data, sample
from tests.evaluation.test_reconstruction import EXTRACTOR

IMAGES = [sample(key) for key in range(30)]
OTHERS = [sample(key) for key in range(100, 140)]


def make_frechet(context: MetricContext) -> Frechet:
    return Frechet("fd-mean", EXTRACTOR, "mean", context.reference)


def make_frechet_top(context: MetricContext) -> Frechet:
    return Frechet("fd-top", EXTRACTOR, "top", context.reference)


def spec(name: str) -> MetricSpec:
    return MetricSpec(help=name, target=f"tests.evaluation.test_reference:{name}", better="lower")


METRICS = {"fd-mean": spec("make_frechet")}


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    reference_statistics(data(IMAGES), "fd-mean", METRICS["fd-mean"], tmp_path / "own.npz")
    return tmp_path / "own.npz"


def test_stored_statistics_of_the_originals_say_what_the_originals_say(stored: Path) -> None:
    own = evaluate(Passes(0.05), data(IMAGES), METRICS)
    other = evaluate(Passes(0.05), data(IMAGES), METRICS, reference=stored)
    assert other.metrics["fd-mean"] == pytest.approx(own.metrics["fd-mean"], rel=1e-9)
    assert str(other.protocol.metrics["fd-mean"]["reference"]).startswith("own.npz ")
    assert other.protocol.column("fd-mean") != own.protocol.column("fd-mean")


def test_other_statistics_say_something_else(stored: Path, tmp_path: Path) -> None:
    reference_statistics(data(OTHERS), "fd-mean", METRICS["fd-mean"], tmp_path / "others.npz")
    own, other = (
        evaluate(Passes(0.0), data(IMAGES), METRICS, reference=path).metrics["fd-mean"]
        for path in (stored, tmp_path / "others.npz")
    )
    assert own == pytest.approx(0, abs=1e-6)
    assert other > 1e-3


def test_a_file_with_nothing_but_mu_and_sigma_will_do(stored: Path, tmp_path: Path) -> None:
    with np.load(stored) as file:
        np.savez(tmp_path / "bare.npz", mu=file["mu"], sigma=file["sigma"])
    scores = evaluate(Passes(0.0), data(IMAGES), METRICS, reference=tmp_path / "bare.npz")
    assert scores.metrics["fd-mean"] == pytest.approx(0, abs=1e-6)


def test_statistics_of_other_features_are_not_compared_with(stored: Path) -> None:
    top = {"psnr": PSNR, "fd-top": spec("make_frechet_top")}
    scores = evaluate(Passes(0.05), data(IMAGES), top, reference=stored)
    assert "holds features of mean colours" in scores.not_measured["fd-top"]
    with pytest.raises(MuseError, match="holds features") as caught:
        evaluate(Passes(0.05), data(IMAGES), top, reference=stored, required=["fd-top"])
    assert caught.value.exit_code == ExitCode.FILE


def test_statistics_of_another_width_are_not_compared_with(tmp_path: Path) -> None:
    np.savez(tmp_path / "wide.npz", mu=np.zeros(5), sigma=np.eye(5))
    scores = evaluate(Passes(0.05), data(IMAGES), {"psnr": PSNR, **METRICS}, reference=tmp_path / "wide.npz")
    assert scores.not_measured["fd-mean"] == "features are 3 wide, those of the reference 5"


@pytest.mark.parametrize("content", [b"text", b""])
def test_a_damaged_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(MuseError, match="no file of reference statistics"):
        evaluate(Passes(), data(IMAGES), METRICS, reference=tmp_path / "bad.npz")


def test_a_file_that_would_unpickle_or_does_not_fit_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", mu=np.array([{}], dtype=object), sigma=np.eye(1))
    np.savez(tmp_path / "askew.npz", mu=np.zeros(3), sigma=np.eye(4))
    with pytest.raises(MuseError, match="no file of reference statistics"):
        evaluate(Passes(), data(IMAGES), METRICS, reference=tmp_path / "objects.npz")
    with pytest.raises(MuseError, match="no mean and covariance"):
        evaluate(Passes(), data(IMAGES), METRICS, reference=tmp_path / "askew.npz")


def test_only_a_frechet_distance_has_statistics(tmp_path: Path) -> None:
    with pytest.raises(MuseError, match="psnr has no reference statistics"):
        reference_statistics(data(IMAGES), "psnr", PSNR, tmp_path / "x.npz")
    scores = reference_statistics(data(IMAGES), "fd-tiny-clip", FD_TINY_CLIP, tmp_path / "clip.npz")
    assert scores.metrics["images"] == 30
    with np.load(tmp_path / "clip.npz") as file:
        assert file["sigma"].shape == (scores.metrics["width"],) * 2
