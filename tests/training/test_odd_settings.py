"""Settings that nobody has as a default still train, and the ones that cannot say why."""

from pathlib import Path
from typing import Any

import pytest
import torch

from muse_core.errors import ExitCode, MuseError
from muse_core.model.checkpoint import load_network, read_state
from muse_core.model.load import load_tokenizer
from muse_core.runs import RunFolder
from muse_core.settings.layers import SettingsError
from muse_core.stages.plan import make_plan
from tests.training.mini import equal, last_weights, lean, train_lean

SHORT = {"training.steps": 2}

ODD: dict[str, tuple[int, dict[str, Any]]] = {
    "one block": (3, {"model.blocks": 1}),
    "no injection": (3, {"model.inject": False}),
    "anchors that read the raw input": (2, {"model.semantic_input": "raw"}),
    "joint": (3, {"training.routing": "joint"}),
    "joint without injection": (2, {"training.routing": "joint", "model.inject": False}),
    "topology on the last block": (2, {"losses.topology_blocks": "last"}),
    "no topology": (3, {"losses.topology": 0}),
    "no contrastive": (3, {"losses.contrastive": 0}),
    "pixels alone": (1, {"losses.topology": 0, "losses.perceptual": 0}),
    "absolute pixel errors": (1, {"losses.pixel_kind": "l1"}),
    "released from scratch": (3, {"model.layout": "released", "training.routing": "released"}),
    "released, strict": (2, {"model.layout": "released"}),
    "released, joint": (2, {"model.layout": "released", "training.routing": "joint"}),
    "images that are no multiple of the cell": (1, {"model.resolution": 36, "data.val": "demo:val"}),
    "other latent channels": (1, {"model.latent_channels": 6}),
    "one image at a time": (2, {"training.batch_size": 1, "data.lanes": 1}),
    "one lane": (1, {"data.lanes": 1}),
    "one step": (3, {"training.steps": 1}),
    "no warm-up": (1, {"optim.warmup_steps": 0}),
    "half gradients into the blocks": (1, {"optim.gradient_scale": 0.5}),
    "no average to speak of": (1, {"optim.average_decay": 0}),
}


@pytest.mark.parametrize("name", list(ODD))
def test_it_trains_and_its_checkpoint_can_be_used(name: str, tmp_path: Path) -> None:
    stage, changes = ODD[name]
    summary = train_lean(stage, tmp_path / "run", {**SHORT, **changes})
    assert all(torch.isfinite(value).all() for value in last_weights(summary).values())
    tokenizer = load_tokenizer(summary.folder)
    images = torch.rand(1, 3, 40, 52)
    assert tokenizer.decode(tokenizer.encode(images).z, (40, 52)).shape == images.shape


def test_a_checkpoint_remembers_its_layout(tmp_path: Path) -> None:
    changes = {**SHORT, "model.layout": "released", "training.routing": "released"}
    first = train_lean(1, tmp_path / "one", changes)
    second = train_lean(2, tmp_path / "two", {**changes, "run.init": str(first.folder)})
    last = RunFolder(second.folder).last_checkpoint()
    assert last is not None
    assert read_state(last).spec.layout == "released"
    assert load_network(last)[0].connector.layout == "released"


def test_the_average_without_decay_is_the_weights(tmp_path: Path) -> None:
    summary = train_lean(1, tmp_path / "run", {**SHORT, "optim.average_decay": 0})
    current = last_weights(summary)
    assert all(torch.equal(value, current[name]) for name, value in last_weights(summary, "average").items())


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_b6_reader_processes_never_change_what_is_learned(tmp_path: Path) -> None:
    alone = train_lean(1, tmp_path / "alone", SHORT)
    for workers in (2, 9):
        helped = train_lean(1, tmp_path / f"{workers}", {**SHORT, "data.workers": workers})
        assert equal(last_weights(alone), last_weights(helped))


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # torch says that it is slower, which is true
def test_half_precision_learns_the_same_thing_roughly(tmp_path: Path) -> None:
    """Also that one Python session may use both: the second run is not the precision of the first."""
    losses: dict[str, float] = {}
    for precision in ("fp32", "bf16", "fp32"):
        folder = tmp_path / f"{precision}-{len(losses)}"
        summary = train_lean(3, folder, {**SHORT, "training.precision": precision})
        assert {value.dtype for value in last_weights(summary).values()} == {torch.float32}
        losses[folder.name] = RunFolder(folder).metrics()[-1]["loss/pixel"]
    exact, rough, again = losses.values()
    assert again == exact
    assert rough != exact
    assert rough == pytest.approx(exact, rel=0.05)


def test_a_precision_that_would_learn_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MuseError, match="must be auto, fp32, bf16 or fp64, got 'fp16'") as caught:
        train_lean(1, tmp_path / "run", {"training.precision": "fp16"})
    assert caught.value.exit_code == ExitCode.SETTINGS


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data.lanes": 3}, "data.lanes 3 must divide the 8 images that are read at once"),
        ({"training.accumulation": 3}, "training.batch_size 8 does not divide into 3 parts"),
        ({"training.accumulation": 4}, "data.lanes 4 must divide the 2 images"),
        ({"model.heads": 5}, "must divide into model.heads 5 heads"),
        ({"model.width": 24}, "heads of a multiple of 4 channels"),
        ({"training.steps": 0}, "training.steps"),
        ({"losses.pixel": -1}, "losses.pixel"),
        ({"optim.average_decay": 1}, "optim.average_decay"),
        ({"training.routing": "loose"}, "training.routing"),
        ({"training.batchsize": 8}, "training.batchsize: no such setting"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        lean(1, changes)
    assert caught.value.exit_code == ExitCode.SETTINGS
    assert told in caught.value.what


def test_lanes_that_the_processes_cannot_share_are_in_the_plan() -> None:
    settings = lean(1)
    assert make_plan(settings, world=2).missing == []
    (missing,) = make_plan(settings, world=3).missing
    assert "8 over 4 lanes and 3 processes does not divide" in missing


def test_a_perceptual_loss_that_cannot_be_loaded_is_in_the_plan() -> None:
    (missing,) = make_plan(lean(1, {"losses.perceptual_kind": "lpips"})).missing
    assert "--set losses.perceptual_kind=tiny-features" in missing
    assert make_plan(lean(1, {"losses.perceptual_kind": "lpips", "losses.perceptual": 0})).missing == []
