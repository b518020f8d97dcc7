"""Size 1b through every stage, on tiny weights in the published layouts; and starting from a released file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from muse_core.errors import ExitCode, MuseError
from muse_core.losses.perceptual import LPIPS, ConvNextLogits
from muse_core.model.abilities import Aligns
from muse_core.model.checkpoint import read_state, read_tensors
from muse_core.model.load import late_teacher, load_teacher, load_tokenizer
from muse_core.runs import RunFolder
from muse_core.settings.layers import resolve
from muse_core.settings.presets import preset
from muse_core.settings.train import TrainSettings
from muse_core.stages.start import RunSummary, resume, train
from tests.fixtures import published as tiny_parts
from tests.parity.released import write_released
from tests.training.mini import LEAN

SMALL = {**LEAN, "model.resolution": 56, "model.latent_channels": 8, "data.train": "demo", "training.precision": "fp32"}
SMALL |= {"losses.perceptual_kind": "lpips", "training.steps": 2, "training.reconstruct": 2}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_parts.write_everything(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def here(parts: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MUSE_WEIGHTS", str(parts))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


def settings(stage: int, changes: Mapping[str, Any]) -> TrainSettings:
    flags = {"run.stage": stage, "run.size": "1b", **SMALL, **changes}
    given = {key: value for key, value in flags.items() if value is not None}
    return resolve(TrainSettings, command="train", flags=given, preset=preset("1b", stage), environ={})[0]


def run(stage: int, folder: Path, **changes: Any) -> RunSummary:
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return train(settings(stage, {"run.out": str(folder), **dotted}), {})


def checkpoint(summary: RunSummary) -> Path:
    found = RunFolder(summary.folder).last_checkpoint()
    assert found
    return found


@pytest.mark.slow
def test_1b_trains_through_all_stages(tmp_path: Path) -> None:
    first = run(1, tmp_path / "1")
    stored = read_tensors(checkpoint(first) / "model.safetensors")
    assert {name.partition(".")[0] for name in stored} == {"connector", "decoder"}, (
        "a frozen encoder is named, not kept"
    )
    assert set(read_state(checkpoint(first)).frozen) == {"encoder", "teacher"}

    second = run(2, tmp_path / "2", run__init=str(first.folder))
    assert isinstance(load_tokenizer(second.folder), Aligns)
    third = run(3, tmp_path / "3", run__init=str(second.folder))
    tokenizer = load_tokenizer(third.folder)
    assert set(read_state(checkpoint(third)).frozen) == {"text", "teacher"}
    images = torch.rand(1, 3, 56, 60)
    assert tokenizer.decode(tokenizer.encode(images).z, (56, 60)).shape == images.shape
    assert tokenizer.text_embed(["a cat"]).shape == (1, tiny_parts.CAPTIONS)
    assert load_teacher(tokenizer)(images, (2, 3)).shape == (1, 6, 6)
    assert late_teacher(tokenizer) is not None


@pytest.mark.slow
def test_the_presets_perceptual_loss_is_lpips_and_convnext(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both see every decoded image, both pull at it, and what is written down is their mean weighted 1 to 0.1."""
    tiny_parts.write_convnext(parts)
    seen: dict[str, list[tuple[float, float]]] = {"lpips": [], "convnext_s": []}

    def listen(name: str, judge: type[LPIPS] | type[ConvNextLogits]) -> None:
        forward = judge.forward

        def heard(self: Any, prediction: Tensor, target: Tensor) -> Tensor:
            distance: Tensor = forward(self, prediction, target)
            if prediction.requires_grad and not prediction.is_meta:  # a plan counts memory on shapes alone
                (pull,) = torch.autograd.grad(distance, prediction, retain_graph=True)
                seen[name].append((distance.item(), pull.abs().sum().item()))
            return distance

        monkeypatch.setattr(judge, "forward", heard)

    listen("lpips", LPIPS)
    listen("convnext_s", ConvNextLogits)
    preset_kind = settings(1, {"losses.perceptual_kind": None}).losses.perceptual_kind
    assert preset_kind == "lpips-convnext_s-1.0-0.1"
    done = run(1, tmp_path / "1", losses__perceptual_kind=None, losses__topology=0, training__steps=1)
    ((lpips, lpips_pull),), ((convnext, convnext_pull),) = seen["lpips"], seen["convnext_s"]
    assert min(lpips, lpips_pull, convnext, convnext_pull) > 0
    assert RunFolder(done.folder).metrics()[0]["loss/perceptual"] == pytest.approx(
        (lpips + 0.1 * convnext) / 1.1, rel=1e-5
    )


@pytest.mark.slow
def test_a_run_goes_on_and_refuses_another_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(1, tmp_path / "1", losses__perceptual=0)
    RunFolder(done.folder).resume()
    config = RunFolder(done.folder).settings()
    config["training"]["steps"] = 3
    RunFolder(done.folder).write_settings(config, {})
    assert resume(RunFolder(done.folder)).steps == 3

    other = tiny_parts.write_everything(tmp_path / "other")
    tower = {name: weight + 1 for name, weight in tiny_parts.remote_vision().items()}
    tiny_parts.write_internvl3(other / "OpenGVLab" / "InternVL3-1B", tower)
    monkeypatch.setenv("MUSE_WEIGHTS", str(other))
    with pytest.raises(MuseError, match="another vision encoder") as caught:
        load_tokenizer(done.folder)
    assert caught.value.exit_code == ExitCode.FILE


@pytest.mark.slow
def test_training_goes_on_from_a_released_file_in_its_layout(tmp_path: Path) -> None:
    file = write_released(tmp_path / "released")
    small = {"model__width": 512, "model__heads": 8, "model__blocks": 3, "model__latent_channels": 32}
    with pytest.raises(MuseError, match="layout released there, muse here") as caught:
        run(1, tmp_path / "refused", run__init=str(file), losses__perceptual=0, **small)
    assert "--set model.layout=released" in str(caught.value.hint)
    released = {"model__layout": "released", "model__inject": False, "training__routing": "released", **small}
    done = run(1, tmp_path / "1", run__init=str(file), losses__perceptual=0, losses__topology_blocks="last", **released)
    state = read_state(checkpoint(done))
    assert (state.spec.layout, state.encoder_trained) == ("released", True)
    assert load_tokenizer(done.folder).info.attention_layers == 3


def test_c13_a_teacher_is_loaded_when_it_is_asked_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("the teacher was loaded")

    monkeypatch.setattr("muse_core.model.weights.tiny.load_teacher_model", refuse)
    teacher = late_teacher(load_tokenizer("tiny"))
    assert teacher is not None
    with pytest.raises(AssertionError):
        teacher(torch.rand(1, 3, 64, 64), (8, 8))
