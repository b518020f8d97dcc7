"""`evaluate`: one decode per image, honest counts, missing parts listed, nothing guessed."""

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from muse_core.data.sample import Sample, Skip
from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.builtin import PSNR, SSIM
from muse_core.evaluation.fidelity import InceptionScore
from muse_core.evaluation.metrics import Frechet, make_psnr, make_ssim
from muse_core.evaluation.pairs import Pairs
from muse_core.evaluation.reconstruction import evaluate
from muse_core.evaluation.spec import Measured, Metric, MetricContext, MetricSpec, NotMeasuredError
from tests.evaluation.fakes import MeanColours, Passes, data, sample

METRICS = {"psnr": PSNR, "ssim": SSIM}
IMAGES = [sample(key) for key in range(20)]


class Colours:
    """An extractor that counts its calls."""

    name = "mean colours"
    calls = 0

    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        Colours.calls += 1
        return {"mean": images.float().mean((-2, -1)), "top": images.float().amax((-2, -1))}


EXTRACTOR = Colours()


def make_frechet(context: MetricContext) -> Metric:
    return Frechet("fd-mean", EXTRACTOR, "mean")


def make_frechet_top(context: MetricContext) -> Metric:
    return Frechet("fd-top", EXTRACTOR, "top")


def make_absent(context: MetricContext) -> Metric:
    raise NotMeasuredError("inception.pth is not in MUSE_WEIGHTS")


def spec(name: str) -> MetricSpec:
    return MetricSpec(help=name, target=f"tests.evaluation.test_reconstruction:{name}", better="lower")


def test_a_constant_error_has_the_psnr_of_that_error() -> None:
    scores = evaluate(Passes(off_by=2 / 255), data(IMAGES), METRICS)
    assert scores.metrics["psnr"] == pytest.approx(10 * math.log10(255**2 / 4), abs=1e-9)
    assert scores.counts == {"seen": 20, "skipped": {}}
    assert scores.protocol.fields["images"] == 20


def test_batches_and_limits_change_no_more_than_they_say() -> None:
    whole = evaluate(Passes(0.01), data(IMAGES), METRICS)
    for batch_size in (1, 20):
        assert evaluate(Passes(0.01), data(IMAGES, batch_size=batch_size), METRICS).metrics == pytest.approx(
            dict(whole.metrics), abs=1e-12
        )
    part = evaluate(Passes(0.01), data(IMAGES, limit=9), METRICS)
    assert part.counts["seen"] == 9
    assert part.protocol.fields["partial"] is True
    assert part.protocol.column("psnr") != whole.protocol.column("psnr")


def test_one_decode_and_one_extraction_per_image_feed_all_metrics() -> None:
    tokenizer = Passes(0.01)
    Colours.calls = 0
    wanted = {**METRICS, "fd-mean": spec("make_frechet"), "fd-top": spec("make_frechet_top")}
    scores = evaluate(tokenizer, data(IMAGES, batch_size=10), wanted)
    assert tokenizer.decoded == 20
    assert Colours.calls == 4  # two batches, original and reconstruction
    assert set(scores.metrics) == {"psnr", "ssim", "fd-mean", "fd-top"}


def test_damaged_samples_are_counted_by_reason() -> None:
    items: list[Sample | Skip] = [*IMAGES[:10], Skip("image cannot be decoded", "x"), *IMAGES[10:]]
    scores = evaluate(Passes(0.01), data(items), METRICS)
    assert scores.counts == {"seen": 20, "skipped": {"image cannot be decoded": 1}}


def test_metrics_whose_parts_are_absent_are_listed_with_the_reason() -> None:
    scores = evaluate(Passes(0.01), data(IMAGES), {**METRICS, "rfid": spec("make_absent")})
    assert scores.not_measured == {"rfid": "inception.pth is not in MUSE_WEIGHTS"}
    assert "rfid" not in scores.metrics


def test_a_metric_asked_for_by_name_and_missing_ends_with_code_4() -> None:
    with pytest.raises(MuseError, match=r"inception\.pth") as caught:
        evaluate(Passes(), data(IMAGES), {**METRICS, "rfid": spec("make_absent")}, required=["rfid"])
    assert caught.value.exit_code == ExitCode.FILE


def test_a_metric_that_cannot_be_loaded_ends_with_code_5() -> None:
    with pytest.raises(MuseError, match="could not be loaded") as caught:
        evaluate(Passes(), data(IMAGES), {"bad": spec("nothing_here")})
    assert caught.value.exit_code == ExitCode.PLUGIN


def test_one_image_has_no_frechet_distance_rather_than_a_wrong_one() -> None:
    scores = evaluate(Passes(0.01), data(IMAGES[:1]), {**METRICS, "fd-mean": spec("make_frechet")})
    assert "at least 2" in scores.not_measured["fd-mean"]


def test_few_images_make_a_note_beside_the_frechet_distance() -> None:
    scores = evaluate(Passes(0.01), data(IMAGES[:3]), {"fd-mean": spec("make_frechet")})
    assert any("3 images for 3 feature dimensions" in note for note in scores.notes)


def test_images_equal_to_the_byte_are_told_apart_from_the_mean() -> None:
    class HalfExact(Passes):
        def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
            out = z.clone()
            out[0] += 2 / 255
            return out

    scores = evaluate(HalfExact(), data(IMAGES[:14]), METRICS)
    assert scores.metrics["psnr"] == pytest.approx(42.11, abs=0.01)
    assert scores.notes == ["psnr: 12 images equal to the byte are not in the mean"]


def test_a_reconstruction_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(MuseError, match="not finite"):
        evaluate(Passes(float("nan")), data(IMAGES), METRICS)


@pytest.mark.parametrize("items", [[], [Skip("image cannot be decoded", "x")]])
def test_data_without_a_single_image_is_an_error(items: list[Skip]) -> None:
    with pytest.raises(MuseError, match="no usable sample"):
        evaluate(Passes(), data(items), METRICS)


def test_a_tokenizer_that_only_gives_features_is_refused() -> None:
    with pytest.raises(MuseError, match="MeanColours cannot reconstruct"):
        evaluate(MeanColours(), data(IMAGES), METRICS)


def test_no_metric_at_all_is_an_error() -> None:
    with pytest.raises(MuseError, match="no metric to measure"):
        evaluate(Passes(), data(IMAGES), {})


def test_pairs_refuse_images_of_different_size() -> None:
    with pytest.raises(ValueError, match="reconstructions"):
        Pairs(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9))


def test_results_know_their_own_recipe() -> None:
    scores = evaluate(Passes(0.01), data(IMAGES), {**METRICS, "fd-mean": spec("make_frechet")})
    assert scores.protocol.metrics["fd-mean"]["extractor"] == "mean colours"
    assert scores.protocol.metrics["psnr"]["data_range"] == 1.0
    assert isinstance(Measured({}), Measured)


@pytest.mark.parametrize("size", [(16, 16), (24, 40)])
def test_c9_images_of_any_size_and_ten_splits(size: tuple[int, int]) -> None:
    """The reference knew 224 x 224 only, and one split of the Inception score."""
    pairs = Pairs(torch.rand(2, 3, *size), torch.rand(2, 3, *size))
    for made in (make_psnr, make_ssim):
        metric = made(MetricContext())
        metric.update(pairs)
        assert math.isfinite(next(iter(metric.result().values.values())))
    assert InceptionScore.SPLITS == 10


def test_a_mean_over_images_has_its_standard_error() -> None:
    class Varies(Passes):
        def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
            steps = torch.linspace(2, 12, len(z)).round() / 255
            return z + steps[:, None, None, None]

    scores = evaluate(Varies(), data(IMAGES, batch_size=20), {"psnr": PSNR})
    errors = 20 * torch.log10(255 / torch.linspace(2, 12, 20).round()).double()
    assert scores.metrics["psnr"] == pytest.approx(float(errors.mean()), abs=0.2)  # bright pixels are clipped a little
    assert scores.standard_errors["psnr"] == pytest.approx(float(errors.std()) / 20**0.5, rel=0.1)


def test_many_damaged_samples_end_the_measurement() -> None:
    items: list[Sample | Skip] = [*[sample(key % 7) for key in range(985)], *[Skip("cut off", "x")] * 20]
    with pytest.raises(MuseError, match="could not be used, more than the allowed"):
        evaluate(Passes(0.01), data(items), {"psnr": PSNR})
