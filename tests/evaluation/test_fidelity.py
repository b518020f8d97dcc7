"""The set metrics equal torch-fidelity's own command on saved images, and weights are read safely."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image
from torch import Tensor
from torch_fidelity import feature_extractor_inceptionv3 as theirs
from torchvision.models import vgg16

from muse_core.errors import MuseError
from muse_core.evaluation.builtin import INCEPTION_SCORE, KID, LPIPS, PRECISION_RECALL, PSNR, RFID
from muse_core.evaluation.fidelity import InceptionScore, Kid, PrecisionRecall
from muse_core.evaluation.inception import load_inception
from muse_core.evaluation.metrics import Frechet
from muse_core.evaluation.pairs import Extractor, Pairs
from muse_core.evaluation.reconstruction import evaluate
from muse_core.evaluation.spec import Metric, NotMeasuredError
from muse_core.evaluation.tiny_clip import TinyClip, register_with_torch_fidelity
from muse_core.evaluation.weights import INCEPTION, LPIPS_HEADS, VGG16, find_weights, read_weights
from tests.evaluation.fakes import Passes, data, sample
from tests.fixtures import regenerate

INCEPTION_METRICS = {"rfid": RFID, "kid": KID, "precision-recall": PRECISION_RECALL, "inception-score": INCEPTION_SCORE}


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder for weights, and none anywhere else."""
    monkeypatch.setenv("MUSE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    yield tmp_path / "weights"
    load_inception.cache_clear()


IMAGES, SUBSET = 120, 40  # where a subset is all of them, the spread over subsets is nothing but round-off


@pytest.fixture(autouse=True)
def small_subsets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kid, "SUBSET", SUBSET)


def random_inception() -> dict[str, Tensor]:
    """Weights in Inception's layout, drawn at random."""
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs.torch, "load", lambda *_, **__: {})
        patch.setattr(theirs.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = theirs.FeatureExtractorInceptionV3("x", ["64"], feature_extractor_weights_path="x")
    return dict(network.state_dict())


def put(state: dict[str, Tensor], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return path


def image_pairs(count: int, side: int) -> tuple[Tensor, Tensor]:
    draws = np.random.default_rng(0)
    blocks = draws.integers(0, 256, (count, 3, 4, 4)).repeat(side // 4, 2).repeat(side // 4, 3)
    original = (0.7 * blocks + 0.3 * draws.integers(0, 256, blocks.shape)).astype(np.uint8)
    strength = np.linspace(0.02, 1, count)[:, None, None, None]  # from nearly equal to unrecognisable
    noise = (strength * draws.integers(-120, 121, original.shape)).astype(np.int64)
    return torch.from_numpy(original), torch.from_numpy((original + noise).clip(0, 255).astype(np.uint8))


def save_images(images: Tensor, folder: Path) -> str:
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{index:04d}.png")
    return str(folder)


def ours(extractor: Extractor, tap: str, original: Tensor, reconstruction: Tensor) -> dict[str, float]:
    metrics: list[Metric] = [Frechet("fd", extractor, tap)]
    metrics += [make(extractor, tap) for make in (Kid, PrecisionRecall, InceptionScore)]
    for a, b in zip(torch.split(original, 64), torch.split(reconstruction, 64), strict=True):
        pairs = Pairs(a / 255, b / 255)
        for metric in metrics:
            metric.update(pairs)
    return {name: value for metric in metrics for name, value in metric.result().values.items()}


def their_command(original: str, reconstruction: str, tap: str, **more: Any) -> dict[str, float]:
    found = torch_fidelity.calculate_metrics(
        input1=reconstruction, input2=original, fid=True, kid=True, isc=True, prc=True,
        feature_layer_fid=tap, feature_layer_kid=tap, feature_layer_isc=tap, feature_layer_prc=tap,
        kid_subset_size=SUBSET, cuda=False, cache=False, verbose=False, save_cpu_ram=True, **more,
    )  # fmt: skip
    names = {
        "fd": "frechet_inception_distance", "kid": "kernel_inception_distance_mean",
        "kid_std": "kernel_inception_distance_std", "precision": "precision", "recall": "recall",
        "inception_score": "inception_score_mean", "inception_score_std": "inception_score_std",
    }  # fmt: skip
    return {name: found[key] for name, key in names.items()}


def test_all_set_metrics_equal_torch_fidelitys_command(tmp_path: Path) -> None:
    original, reconstruction = image_pairs(IMAGES, 16)
    folders = save_images(original, tmp_path / "original"), save_images(reconstruction, tmp_path / "made")
    expected = their_command(*folders, TinyClip.TAP, feature_extractor=register_with_torch_fidelity())
    found = ours(TinyClip("cpu"), TinyClip.TAP, original, reconstruction)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert 0 < found["precision"] < 1
    assert found["fd"] > 1e-3


def test_all_set_metrics_equal_torch_fidelitys_command_on_inception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        theirs.FeatureExtractorInceptionV3, "INPUT_IMAGE_SIZE", 96
    )  # on both sides: a tenth of the work
    path = put(random_inception(), tmp_path / "inception.pth")
    original, reconstruction = image_pairs(IMAGES, 16)
    folders = save_images(original, tmp_path / "original"), save_images(reconstruction, tmp_path / "made")
    expected = their_command(
        *folders, "64", feature_extractor="inception-v3-compat", feature_extractor_weights_path=path
    )
    found = ours(load_inception(path, "cpu", ("64",)), "64", original, reconstruction)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_the_inception_score_equals_the_reference_fixture() -> None:
    class Logits:
        name = "fixture"

        def __call__(self, images: Tensor) -> dict[str, Tensor]:
            return {"logits": 2 * regenerate.normal("input/is_logits", (64, 1008))}

    score = InceptionScore(Logits(), "logits")
    score.SPLITS = 1  # the reference has one split
    score.update(Pairs(torch.zeros(64, 3, 1, 1), torch.zeros(64, 3, 1, 1)))
    expected = regenerate.read_json("misc")["inception_score"]["value"]
    assert score.result().values["inception_score"] == pytest.approx(expected, rel=1e-5)


def test_one_pass_of_inception_feeds_its_four_metrics(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theirs.FeatureExtractorInceptionV3, "INPUT_IMAGE_SIZE", 96)  # a tenth of the work
    put(random_inception(), weights / INCEPTION.hub / INCEPTION.files[0])
    scores = evaluate(Passes(0.1), data([sample(k) for k in range(12)], batch_size=12), INCEPTION_METRICS)
    assert set(scores.metrics) == {
        "rfid", "kid", "kid_std", "precision", "recall", "inception_score", "inception_score_std",
    }  # fmt: skip
    assert str(scores.protocol.metrics["rfid"]["extractor"]).startswith("inception-v3-compat ")
    assert scores.protocol.metrics["kid"]["subset"] == 12


def test_without_weights_each_is_listed_with_the_place_to_put_them(weights: Path) -> None:
    scores = evaluate(Passes(0.1), data([sample(1), sample(2)]), {"psnr": PSNR, **INCEPTION_METRICS, "lpips": LPIPS})
    assert set(scores.not_measured) == {*INCEPTION_METRICS, "lpips"}
    with pytest.raises(NotMeasuredError) as caught:
        find_weights(INCEPTION)
    assert str(weights / INCEPTION.hub) in str(caught.value.hint)


def test_torchs_own_downloads_are_found_by_names_with_a_hash_only(weights: Path, tmp_path: Path) -> None:
    cached = put({"x": torch.ones(1)}, tmp_path / "torch" / "hub" / "checkpoints" / INCEPTION.files[0])
    put({"x": torch.ones(1)}, cached.parent / "vgg.pth")
    assert find_weights(INCEPTION) == cached
    with pytest.raises(NotMeasuredError):
        find_weights(LPIPS_HEADS)


def test_c12_a_pickle_that_would_run_code_is_refused(weights: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (print, ("this must not run",))

    path = weights / INCEPTION.hub / INCEPTION.files[0]
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps({"weight": Harmful()}, protocol=2))
    with pytest.raises(MuseError, match="cannot be read as tensors|would run code"):
        read_weights(path)
    torch.save({"weight": Harmful()}, path)
    with pytest.raises(MuseError, match="cannot be read as tensors|would run code"):
        evaluate(Passes(0.1), data([sample(1), sample(2)]), {"rfid": RFID})


def test_weights_of_another_network_are_refused(weights: Path) -> None:
    put({"conv.weight": torch.ones(1)}, weights / INCEPTION.hub / INCEPTION.files[0])
    with pytest.raises(MuseError, match="does not hold InceptionV3"):
        evaluate(Passes(0.1), data([sample(1), sample(2)]), {"rfid": RFID})
    with pytest.raises(MuseError, match="not named tensors"):
        read_weights(put([1, 2], weights / "list.pth"))  # type: ignore[arg-type]


def test_c7_lpips_is_measured_with_weights_from_this_machine(weights: Path) -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = vgg16(weights=None).features.state_dict()
    state = {f"features.{key}": 0.05 * torch.randn(value.shape) for key, value in shapes.items()}
    put(state, weights / VGG16.hub / "vgg16.pth")
    heads = {f"lin{k}.model.1.weight": torch.rand(1, c, 1, 1) / c for k, c in enumerate((64, 128, 256, 512, 512))}
    put(heads, weights / LPIPS_HEADS.hub / "vgg.pth")
    images = [sample(1)]
    exact, off = (evaluate(Passes(by), data(images), {"lpips": LPIPS}).metrics["lpips"] for by in (0.0, 0.2))
    assert exact == 0.0
    assert off > 1e-4


def test_too_few_images_are_not_measured() -> None:
    extractor = TinyClip("cpu")
    for metric in (Kid, PrecisionRecall, InceptionScore):
        one = metric(extractor, TinyClip.TAP)
        with pytest.raises(NotMeasuredError):
            one.result()
        one.update(Pairs(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)))
        with pytest.raises(NotMeasuredError):
            one.result()
