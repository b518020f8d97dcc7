"""What evaluation takes from the tiny pack and from built-in scenes."""

from pathlib import Path

import pytest
import torch

from muse_core.data.source import open_source
from muse_core.data.writer import write_scene_shards
from muse_core.errors import MuseError
from muse_core.evaluation.builtin import FD_TINY_CLIP, PSNR
from muse_core.evaluation.reading import EvalData, classes_of
from muse_core.evaluation.reconstruction import evaluate
from muse_core.evaluation.tiny_clip import TinyClip, weights_fingerprint
from muse_core.evaluation.zeroshot import zeroshot
from muse_core.model.load import load_untouched
from muse_core.model.untouched import UntouchedEncoder
from muse_core.model.weights import tiny
from tests.evaluation.fakes import Passes


@pytest.fixture(scope="module")
def encoder() -> UntouchedEncoder:
    return load_untouched(None, "cpu")


@pytest.fixture
def scenes() -> EvalData:
    return EvalData(open_source("demo:val:24"), size=64, batch_size=10)


def test_fd_tiny_clip_grows_with_the_damage_and_is_zero_without(scenes: EvalData) -> None:
    wanted = {"fd-tiny-clip": FD_TINY_CLIP, "psnr": PSNR}
    exact, slight, strong = (evaluate(Passes(off_by), scenes, wanted) for off_by in (0.0, 0.05, 0.4))
    assert exact.metrics["fd-tiny-clip"] == pytest.approx(0.0, abs=1e-2 * slight.metrics["fd-tiny-clip"])
    assert slight.metrics["fd-tiny-clip"] < strong.metrics["fd-tiny-clip"]
    assert "fd-tiny-clip" in exact.notes[-1]  # 24 images for 96 dimensions
    assert str(exact.protocol.metrics["fd-tiny-clip"]["extractor"]).startswith("tiny-clip ")


def test_the_extractor_takes_any_size_and_is_named_by_its_weights() -> None:
    extractor = TinyClip("cpu")
    images = torch.randint(0, 256, (2, 3, 100, 80), dtype=torch.uint8)
    assert extractor(images)["image"].shape == (2, tiny.WIDTH)
    assert extractor.name == TinyClip("cpu").name


def test_without_the_pack_the_distance_is_not_measured(monkeypatch: pytest.MonkeyPatch, scenes: EvalData) -> None:
    def gone() -> None:
        raise FileNotFoundError("tiny_pack/backbone")

    monkeypatch.setattr(tiny, "load_image_tower", gone)
    scores = evaluate(Passes(0.1), scenes, {"fd-tiny-clip": FD_TINY_CLIP, "psnr": PSNR})
    assert "tiny_pack/backbone" in scores.not_measured["fd-tiny-clip"]
    with pytest.raises(MuseError, match="not there"):
        evaluate(Passes(0.1), scenes, {"fd-tiny-clip": FD_TINY_CLIP}, required=["fd-tiny-clip"])


def test_a_weight_more_or_less_is_another_name() -> None:
    layer = torch.nn.Linear(3, 2)
    before = weights_fingerprint(layer)
    with torch.no_grad():
        layer.weight[0, 0] += 1e-6
    assert weights_fingerprint(layer) != before


def test_built_in_scenes_and_shards_say_what_their_labels_mean(tmp_path: Path, encoder: UntouchedEncoder) -> None:
    names = classes_of(open_source("demo:val:4"))
    assert names is not None
    assert len(names) == 98
    assert names[0] == "a cat"
    write_scene_shards("val", 12, tmp_path / "shards", per_shard=6)
    shards = open_source(str(tmp_path / "shards"))
    assert classes_of(shards) == names  # phrases, in which the text tower knows every word
    scores = zeroshot(encoder, EvalData(shards, size=64))
    assert scores.counts == {"seen": 12, "skipped": {}}
