"""Where the weights of a run come from, and that a run never starts from something else without a word."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from muse_core.errors import ExitCode, MuseError
from muse_core.model.checkpoint import load_network, read_state, read_tensors
from muse_core.runs import RunFolder
from muse_core.stages.plan import find_init, make_plan
from muse_core.stages.start import RunSummary
from tests.training.mini import Changes, begin, last_weights, lean, train_lean


@pytest.fixture
def runs(three_stages: Mapping[int, RunSummary], tmp_path: Path) -> Path:
    """A folder of runs with a finished stage 1 and a finished stage 2."""
    folder = tmp_path / "runs"  # the clean environment's MUSE_RUNS
    for stage in (1, 2):
        shutil.copytree(three_stages[stage].folder, folder / f"stage{stage}")
    return folder


def refusal(tmp_path: Path, changes: Changes, stage: int = 2) -> MuseError:
    """A run that must not begin: nothing is trained, and no folder is left behind."""
    with pytest.raises(MuseError) as caught:
        train_lean(stage, tmp_path / "new", changes)
    assert not (tmp_path / "new").exists() or RunFolder(tmp_path / "new").status.state == "failed"
    assert not (tmp_path / "new" / "checkpoints").exists()
    return caught.value


@pytest.mark.parametrize("init", ["nowhere", "runs/gone/checkpoints/last"])
def test_b1_init_that_does_not_exist_is_an_error(tmp_path: Path, init: str) -> None:
    error = refusal(tmp_path, {"run.init": init})
    assert error.exit_code == ExitCode.FILE
    assert f"{init} does not exist" in error.what
    assert not (tmp_path / "new").exists()


def test_b1_init_that_is_no_checkpoint_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert "neither a run nor a checkpoint" in refusal(tmp_path, {"run.init": str(tmp_path / "folder")}).what


def test_b1_init_that_is_damaged_is_an_error(runs: Path, tmp_path: Path) -> None:
    checkpoint = RunFolder(runs / "stage1").checkpoints()[-1]
    weights = checkpoint / "average.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    error = refusal(tmp_path, {"run.init": str(runs / "stage1")})
    assert error.exit_code == ExitCode.FILE
    assert str(weights) in error.what


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("model.width", 64, "width 32 there, 64 here"),
        ("model.blocks", 3, "blocks 2 there, 3 here"),
        ("model.layout", "released", "layout muse there, released here"),
        ("model.inject", False, "inject True there, False here"),
    ],
)
def test_b1_init_with_other_numbers_is_an_error_that_names_them(
    runs: Path, tmp_path: Path, setting: str, value: Any, told: str
) -> None:
    error = refusal(tmp_path, {"run.init": str(runs / "stage1"), setting: value})
    assert error.exit_code == ExitCode.FILE
    assert told in error.what


def test_another_training_size_in_pixels_is_allowed(runs: Path, tmp_path: Path) -> None:
    changes = {"run.init": str(runs / "stage1"), "model.resolution": 48, "training.steps": 1}
    summary = train_lean(2, tmp_path / "new", changes)
    assert read_state(RunFolder(summary.folder).checkpoints()[-1]).spec.resolution == 48


# Which run it is.


def checkpoint_of(run: Path) -> Path | None:
    return RunFolder(run).last_checkpoint()


def test_a_stage_starts_from_the_newest_finished_stage_before_it(
    runs: Path, three_stages: Mapping[int, RunSummary]
) -> None:
    shutil.copytree(three_stages[1].folder, runs / "another")
    RunFolder(runs / "stage1").finish(4)  # updated last
    assert find_init(lean(2, {"run.init": None})) == checkpoint_of(runs / "stage1")
    assert find_init(lean(3, {"run.init": None})) == checkpoint_of(runs / "stage2")
    assert find_init(lean(1, {"run.init": None})) is None


@pytest.mark.parametrize("ending", ["failed", "interrupted", "still running"])
def test_a_run_that_is_not_finished_is_nothing_to_start_from(runs: Path, ending: str) -> None:
    run = RunFolder(runs / "stage1")
    {"failed": lambda: run.fail(ValueError()), "interrupted": lambda: run.interrupt(KeyboardInterrupt())}.get(
        ending, run.resume
    )()
    with pytest.raises(MuseError, match="no finished stage 1 of size tiny"):
        find_init(lean(2, {"run.init": None}))


def test_a_run_of_another_size_is_nothing_to_start_from(runs: Path) -> None:
    settings = lean(2, {"run.init": None, "run.size": "1b", "data.train": "demo", "training.devices": "cpu"})
    with pytest.raises(MuseError, match="no finished stage 1 of size 1b") as caught:
        find_init(settings)
    assert "muse train --stage 1 --size 1b" in str(caught.value.hint)


def test_the_plan_says_where_the_weights_come_from(runs: Path) -> None:
    found = make_plan(lean(2, {"run.init": None}))
    assert any(str(checkpoint_of(runs / "stage1")) in line for line in found.lines)
    assert make_plan(lean(2)).init is None
    named = make_plan(lean(2, {"run.init": str(runs / "stage2")}))
    assert named.init == checkpoint_of(runs / "stage2")


def test_a_run_starts_from_the_averaged_weights(runs: Path, tmp_path: Path) -> None:
    checkpoint = checkpoint_of(runs / "stage1")
    assert checkpoint is not None
    average, current = (read_tensors(checkpoint / f"{file}.safetensors") for file in ("average", "model"))
    weights = begin(2, tmp_path / "new", init=checkpoint).network.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in average.items())
    assert any(not torch.equal(weights[name], current[name]) for name in average)


def test_an_encoder_that_was_trained_once_is_kept_by_every_later_run(
    three_stages: Mapping[int, RunSummary], tmp_path: Path
) -> None:
    """Stage 2 freezes the encoder, but it is no longer the published one: the checkpoint has to hold it."""
    changes = {"run.init": str(three_stages[3].folder), "training.steps": 1}
    summary = train_lean(2, tmp_path / "again", changes)
    state = read_state(RunFolder(summary.folder).checkpoints()[-1])
    assert state.encoder_trained
    assert "backbone" not in state.frozen
    tuned, kept = last_weights(three_stages[3], "average"), last_weights(summary)
    encoder = [name for name in tuned if name.startswith("encoder.")]
    assert encoder
    assert all(torch.equal(kept[name], tuned[name]) for name in encoder)
    assert load_network(RunFolder(summary.folder).checkpoints()[-1])[1] == state


def test_a_new_run_is_a_new_run_whatever_it_starts_from(runs: Path, tmp_path: Path) -> None:
    """--init takes weights; steps, rates, data and average begin anew."""
    run = begin(2, tmp_path / "new", init=checkpoint_of(runs / "stage2"))
    assert (run.trainer.first_step, run.average.updates, run.trainer.reader.cursor) == (0, 0, {})
    assert run.optimizer.state_dict()["state"] == {}


def test_two_runs_with_one_seed_are_the_same_run_and_with_two_seeds_are_not(tmp_path: Path) -> None:
    weights = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        summary = train_lean(1, tmp_path / name, {"run.seed": seed, "training.steps": 2})
        weights[name] = last_weights(summary)
    assert all(torch.equal(value, weights["b"][name]) for name, value in weights["a"].items())
    assert not torch.equal(weights["a"]["connector.to_latent.weight"], weights["c"]["connector.to_latent.weight"])
