"""What a training run writes, and what it must not."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from muse_core.model.checkpoint import read_state, read_tensors
from muse_core.model.weights.parts import sha256
from muse_core.model.weights.tiny import PACK
from muse_core.runs import RunFolder
from muse_core.stages.start import RunSummary
from tests.training.mini import begin, last_weights, train_lean


def last(summary: RunSummary) -> Path:
    found = RunFolder(summary.folder).last_checkpoint()
    assert found is not None
    return found


def test_a_run_writes_exactly_these_files(three_stages: Mapping[int, RunSummary]) -> None:
    for summary in three_stages.values():
        files = {str(path.relative_to(summary.folder)) for path in summary.folder.rglob("*") if path.is_file()}
        kinds = ("average.safetensors", "model.safetensors", "state.json", "training.safetensors")
        steps = {f"checkpoints/step-000000{step}/{kind}" for step in (2, 4) for kind in kinds}
        rest = {
            ".held",
            "config.yaml",
            "origins.json",
            "environment.json",
            "identity.json",
            "status.json",
            "metrics.jsonl",
            "log.txt",
            "checkpoints/best",
            "checkpoints/last",
        }
        assert files == steps | rest | {"samples/step-0000004.png"}


def test_only_as_many_checkpoints_are_kept_as_asked(tmp_path: Path) -> None:
    summary = train_lean(1, tmp_path / "run", {"training.save_every": 1, "training.keep": 1})
    run = RunFolder(summary.folder)
    assert [path.name for path in run.checkpoints()] == ["step-0000004"]
    assert last(summary).name == "step-0000004"


def test_b3_no_teacher_and_no_text_tower_in_any_file(three_stages: Mapping[int, RunSummary]) -> None:
    for stage, summary in three_stages.items():
        model, training = last_weights(summary), last_weights(summary, "training")
        tops = {"connector", "decoder"} | ({"encoder"} if stage == 3 else set())
        assert {name.partition(".")[0] for name in model} == tops
        assert {name.partition(".")[0] for name in training} <= {"optimizer", "random", "adversary"}
        assert ("adversary" in {name.partition(".")[0] for name in training}) == (stage == 3)
        # Two moments and a count for each weight that trains: there is no room for anything else.
        moments = [name for name in training if name.startswith("optimizer.")]
        assert len(moments) == 3 * len(last_weights(summary, "average"))


def test_b3_the_average_holds_what_trains_and_nothing_else(
    three_stages: Mapping[int, RunSummary], tmp_path: Path
) -> None:
    for stage, summary in three_stages.items():
        run = begin(stage, tmp_path / f"stage{stage}")
        trained = {name for name, weight in run.network.named_parameters() if weight.requires_grad}
        assert last_weights(summary, "average").keys() == trained


def test_b3_frozen_parts_are_recorded_by_their_hash(three_stages: Mapping[int, RunSummary]) -> None:
    for stage, summary in three_stages.items():
        roles = {"teacher", "text"} | ({"backbone"} if stage < 3 else set())
        expected = {role: sha256(PACK / role / "model.safetensors") for role in roles}
        assert read_state(last(summary)).frozen == expected


def test_b3_what_is_wrapped_for_several_processes_holds_no_frozen_part(tmp_path: Path) -> None:
    for stage in (1, 2, 3):
        run = begin(stage, tmp_path / f"stage{stage}")
        tops = {name for name, _ in run.trainee.named_children()}
        assert tops == {"connector", "decoder"} | ({"encoder"} if stage == 3 else set())


def test_a_discriminator_is_in_the_training_state_and_not_in_the_model(
    three_stages: Mapping[int, RunSummary],
) -> None:
    assert not any("adversary" in name or "blocks.0.1.kernel" in name for name in last_weights(three_stages[3]))
    assert any(name.startswith("adversary.model.") for name in last_weights(three_stages[3], "training"))


def test_checkpoints_hold_float32_on_the_cpu(three_stages: Mapping[int, RunSummary]) -> None:
    for file in ("model", "average"):
        assert {value.dtype for value in last_weights(three_stages[3], file).values()} == {torch.float32}


def test_metrics_name_exactly_the_losses_that_were_computed(three_stages: Mapping[int, RunSummary]) -> None:
    expected = {
        1: {"pixel", "perceptual", "topology"},
        2: {"pixel", "perceptual", "topology", "contrastive"},
        3: {"pixel", "perceptual", "topology", "contrastive", "adversarial", "discriminator", "real", "fake"},
    }
    for stage, summary in three_stages.items():
        lines = [line for line in RunFolder(summary.folder).metrics() if "lr" in line]
        assert [line["step"] for line in lines] == [1, 2, 3, 4]
        for line in lines:
            assert {key.removeprefix("loss/") for key in line if key.startswith("loss/")} == expected[stage]
            assert line["lr"] > 0
            assert line["images_per_s"] > 0
            assert ("negatives" in line) == (stage > 1)


def test_metrics_name_the_streams_that_were_clipped(three_stages: Mapping[int, RunSummary]) -> None:
    for stage, summary in three_stages.items():
        streams = {"shared", "topology", "pixels"} | ({"semantic"} if stage > 1 else set())
        line = RunFolder(summary.folder).metrics()[0]
        assert {key.removeprefix("grad_norm/") for key in line if key.startswith("grad_norm/")} == streams


def test_a_loss_that_is_switched_off_is_not_computed(tmp_path: Path) -> None:
    changes = {"losses.perceptual": 0, "losses.topology": 0, "losses.contrastive": 0, "losses.adversarial": 0}
    run = begin(3, tmp_path / "judges", changes)
    judges = run.objective.judges
    assert (judges.teacher, judges.text, judges.perceptual, run.adversary) == (None, None, None, None)
    summary = train_lean(3, tmp_path / "run", {**changes, "training.steps": 1, "data.val": "demo:val"})
    keys = set().union(*RunFolder(summary.folder).metrics())
    assert {key for key in keys if key.startswith(("loss/", "val/"))} == {"loss/pixel", "val/psnr"}


def test_the_summary_and_the_status_say_what_was_reached(three_stages: Mapping[int, RunSummary]) -> None:
    for stage, summary in three_stages.items():
        document = json.loads(json.dumps(summary.to_json()))
        assert (document["command"], document["stage"], document["steps"]) == ("train", stage, 4)
        assert set(document["validation"]) == {"val/psnr", "val/topology"}
        status = RunFolder(summary.folder).status
        assert (status.state, status.stage, status.size, status.step, status.exit_code) == (
            "finished",
            stage,
            "tiny",
            4,
            0,
        )
        assert status.details["val/psnr"] == pytest.approx(document["validation"]["val/psnr"])


def test_tensorboard_has_the_same_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    summary = train_lean(1, tmp_path / "run", {"training.track": ("tensorboard",), "training.steps": 2})
    events = EventAccumulator(str(summary.folder / "tensorboard"))
    events.Reload()
    shown = {event.step: event.value for event in events.Scalars("loss/pixel")}
    assert shown == pytest.approx({line["step"]: line["loss/pixel"] for line in RunFolder(summary.folder).metrics()})


def test_the_averaged_file_differs_from_the_current_one(three_stages: Mapping[int, RunSummary]) -> None:
    for summary in three_stages.values():
        folder = last(summary)
        average, model = (read_tensors(folder / f"{name}.safetensors") for name in ("average", "model"))
        assert any(not torch.equal(value, model[name]) for name, value in average.items())
