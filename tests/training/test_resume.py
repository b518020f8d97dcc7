"""A run that was stopped and went on equals one that was never stopped, bit for bit."""

import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from muse_core.errors import ExitCode, MuseError
from muse_core.files import undo_aside
from muse_core.inspection.runs import inspect_run
from muse_core.interrupts import Terminated
from muse_core.model.checkpoint import read_state, read_tensors
from muse_core.runs import RunFolder
from muse_core.stages.start import resume
from muse_core.training import loop, reading
from muse_core.training.checkpointing import save
from muse_core.training.trainer import Trainer
from tests.training.mini import CLOCK, Changes, StopAt, begin, equal, train_lean

STEPS = 4
RECIPE: Changes = {
    "training.steps": STEPS,
    "training.save_every": 2,
    "training.eval_every": 2,
    "optim.warmup_steps": 2,
    "losses.adversarial_start": 1,
    "data.val": "demo:val",
}


def facts(folder: Path) -> dict[str, Any]:
    """Everything that a run leaves behind and that the clock has no part in."""
    run = RunFolder(folder)
    last = run.last_checkpoint()
    assert last is not None
    tensors = {file.name: read_tensors(file) for file in sorted(last.glob("*.safetensors"))}
    metrics = [{key: value for key, value in line.items() if key not in CLOCK} for line in run.metrics()]
    return {"tensors": tensors, "state": json.loads((last / "state.json").read_text()), "metrics": metrics}


def assert_equal_runs(one: Path, other: Path) -> None:
    ours, theirs = facts(one), facts(other)
    assert ours["tensors"].keys() == theirs["tensors"].keys()
    for file, tensors in ours["tensors"].items():
        different = [name for name, value in tensors.items() if not torch.equal(value, theirs["tensors"][file][name])]
        assert different == [], file
        assert equal(tensors, theirs["tensors"][file])
    assert ours["state"] == theirs["state"]
    assert ours["metrics"] == theirs["metrics"]
    assert RunFolder(one).status.state == RunFolder(other).status.state == "finished"


def train_and_stop(stage: int, folder: Path, step: int, changes: Changes, number: int = signal.SIGTERM) -> None:
    """Train until a step is done, then be told to stop."""
    with pytest.raises(KeyboardInterrupt) as stopped:
        train_lean(stage, folder, changes, StopAt(step, number))
    assert isinstance(stopped.value, Terminated) == (number == signal.SIGTERM)
    last = RunFolder(folder).last_checkpoint()
    assert last is not None
    assert last.name == f"step-{step:07d}"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Mapping[int, Path]:
    """Stages 2 and 3 in one go."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    return {stage: train_lean(stage, folder / f"stage{stage}", RECIPE).folder for stage in (2, 3)}


@pytest.mark.parametrize(("stage", "step"), [(2, 2), (3, 1), (3, 3)])
def test_b2_a_resumed_run_equals_an_uninterrupted_one(
    uninterrupted: Mapping[int, Path], tmp_path: Path, stage: int, step: int
) -> None:
    train_and_stop(stage, tmp_path / "run", step, RECIPE)
    resume(RunFolder(tmp_path / "run"))
    assert_equal_runs(tmp_path / "run", uninterrupted[stage])


def test_what_is_compared_is_the_whole_state(uninterrupted: Mapping[int, Path]) -> None:
    found = facts(uninterrupted[3])
    names = set(found["tensors"]["training.safetensors"])
    for kind in ("optimizer.", "adversary.optimizer.", "adversary.model.", "adversary.lecam.", "random."):
        assert any(name.startswith(kind) for name in names), kind
    assert set(found["tensors"]) == {"model.safetensors", "average.safetensors", "training.safetensors"}
    assert found["state"]["training"]["cursor"] == {str(lane): 2 * STEPS for lane in range(4)}
    assert found["state"]["training"]["average"] == {"cap": 0.9, "updates": STEPS}
    assert [line["step"] for line in found["metrics"]] == [1, 2, 2, 3, 4, 4]


@pytest.mark.slow
def test_a_run_stopped_twice_equals_one_never_stopped(uninterrupted: Mapping[int, Path], tmp_path: Path) -> None:
    train_and_stop(3, tmp_path / "run", 1, RECIPE)
    with pytest.raises(Terminated):
        resume(RunFolder(tmp_path / "run"), StopAt(3))
    resume(RunFolder(tmp_path / "run"))
    assert_equal_runs(tmp_path / "run", uninterrupted[3])


def test_b6_other_reader_processes_continue_the_same_data(uninterrupted: Mapping[int, Path], tmp_path: Path) -> None:
    train_and_stop(2, tmp_path / "run", 1, RECIPE)
    run = RunFolder(tmp_path / "run")
    settings = run.settings()
    settings["data"]["workers"] = 2
    run.write_settings(settings, {})
    resume(run)
    assert_equal_runs(tmp_path / "run", uninterrupted[2])


def test_a_run_that_died_goes_on_from_its_last_checkpoint(
    uninterrupted: Mapping[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a power cut: nothing was saved at the end, and half a checkpoint lies about."""
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "oppose", dies_at(3, Trainer.oppose))
        with pytest.raises(ZeroDivisionError):
            train_lean(3, folder, RECIPE)
    (folder / "checkpoints" / ".step-0000003.123.tmp").mkdir()
    (folder / "metrics.jsonl").open("a").write('{"step": 3, "loss/pi')
    assert RunFolder(folder).status.state == "failed"
    said = StopAt(0)
    resume(RunFolder(folder), said)
    assert_equal_runs(folder, uninterrupted[3])
    assert "removed  .step-0000003.123.tmp: never completed" in said.said
    assert list((folder / "checkpoints").glob(".*")) == []


def test_a_checkpoint_that_was_being_replaced_is_put_back(tmp_path: Path) -> None:
    """Killed between the two renames that put a new folder in place of an old one."""
    for name in (
        ".step-0000003.77.old/whole",
        ".step-0000003.77.tmp/half",
        ".step-0000002.5.old/done",
        "step-0000002/x",
    ):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert undo_aside(tmp_path, "step-") == [".step-0000002.5.old", ".step-0000003.77.tmp"]
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.glob("*/*")) == [
        "step-0000002/x",
        "step-0000003/whole",
    ]


def dies_at(step: int, oppose: Any) -> Any:
    def dying(self: Trainer, parts: Any, at: int) -> Any:
        if at == step - 1:
            raise ZeroDivisionError
        return oppose(self, parts, at)

    return dying


def test_a_run_without_a_checkpoint_begins_again(uninterrupted: Mapping[int, Path], tmp_path: Path) -> None:
    train_and_stop(2, tmp_path / "run", 1, RECIPE)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    said = StopAt(0)
    resume(RunFolder(tmp_path / "run"), said)
    assert any("from the first step" in text for text in said.said)
    assert_equal_runs(tmp_path / "run", uninterrupted[2])


def test_accumulated_parts_continue_where_they_were(tmp_path: Path) -> None:
    changes = {**RECIPE, "training.accumulation": 2, "training.steps": 2}
    train_lean(3, tmp_path / "whole", changes)
    train_and_stop(3, tmp_path / "run", 1, changes)
    resume(RunFolder(tmp_path / "run"))
    assert_equal_runs(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_being_stopped_is_recorded_with_its_code_and_the_way_on(tmp_path: Path, number: int, code: int) -> None:
    train_and_stop(1, tmp_path / "run", 2, RECIPE, number)
    status = RunFolder(tmp_path / "run").status
    assert (status.state, status.step, status.exit_code) == ("interrupted", 2, code)
    assert status.hint == f"muse train --resume {tmp_path / 'run'}"
    assert status.error is None


def test_being_told_to_stop_at_the_very_last_step_is_not_forgotten(tmp_path: Path) -> None:
    """Else the next stage of a chain would begin after Ctrl-C."""
    train_and_stop(1, tmp_path / "run", STEPS, RECIPE)
    assert resume(RunFolder(tmp_path / "run")).steps == STEPS
    assert RunFolder(tmp_path / "run").status.state == "finished"


def test_a_signal_while_the_last_checkpoint_is_written_is_not_forgotten_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def signalled(trainer: Trainer, done: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        save(trainer, done)

    monkeypatch.setattr(loop, "save", signalled)
    with pytest.raises(Terminated):
        train_lean(1, tmp_path / "run", {"training.steps": 1})
    assert RunFolder(tmp_path / "run").status.step == 1


def test_handlers_of_signals_are_put_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train_lean(1, tmp_path / "run", {"training.steps": 1})
    train_and_stop(1, tmp_path / "stopped", 1, {"training.steps": 2})
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


# The average.


def test_b2_the_decay_of_the_average_survives_a_resume(tmp_path: Path) -> None:
    train_and_stop(1, tmp_path / "run", 3, {**RECIPE, "optim.average_decay": 0.2})
    again = begin(1, tmp_path / "run", {**RECIPE, "optim.average_decay": 0.2})
    assert (again.average.cap, again.average.updates, again.trainer.first_step) == (0.2, 3, 3)
    saved = read_tensors(RunFolder(tmp_path / "run").checkpoints()[-1] / "average.safetensors")
    assert equal(again.average.shadow, saved)


def test_chance_goes_on_where_it_was(tmp_path: Path) -> None:
    run = begin(1, tmp_path / "run")
    torch.rand(7)  # as something in a step might
    save(run.trainer, 1)
    expected = torch.rand(3)
    torch.manual_seed(99)
    begin(1, tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


# The data of several processes.


def test_b6_a_checkpoint_knows_how_far_the_lanes_of_all_processes_have_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(1, tmp_path / "run")
    run.trainer.reader.cursor = {0: 6, 1: 7, 2: 3, 3: 3}  # 2 and 3 as they were when the run was resumed
    other = {0: 3, 1: 3, 2: 9, 3: 8}
    monkeypatch.setattr(reading, "gather_objects", lambda mine: [mine, other])
    assert run.trainer.reader.whole_cursor() == {0: 6, 1: 7, 2: 9, 3: 8}
    save(run.trainer, 3)
    (checkpoint,) = run.folder.checkpoints()
    assert read_state(checkpoint).training["cursor"] == {"0": 6, "1": 7, "2": 9, "3": 8}


# What cannot be resumed.


def refusal(folder: Path) -> MuseError:
    with pytest.raises(MuseError) as caught:
        resume(RunFolder(folder))
    return caught.value


def test_a_finished_run_is_not_resumed(uninterrupted: Mapping[int, Path]) -> None:
    error = refusal(uninterrupted[2])
    assert "is finished" in error.what
    assert "--init" in str(error.hint)


@pytest.mark.parametrize("file", ["training.safetensors", "average.safetensors", "model.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["gone", "cut short"])
def test_a_damaged_checkpoint_is_not_resumed_as_something_else(
    interrupted: Path, tmp_path: Path, file: str, damage: str
) -> None:
    folder = Path(shutil.copytree(interrupted, tmp_path / "copy"))
    path = RunFolder(folder).checkpoints()[-1] / file
    content = path.read_bytes()
    path.unlink()
    if damage == "cut short":
        path.write_bytes(content[: len(content) // 2])
    error = refusal(folder)
    assert error.exit_code == ExitCode.FILE
    assert file in error.what
    assert RunFolder(folder).status.state == "failed"


def test_the_checkpoint_before_a_damaged_one_is_named_and_goes_on(
    uninterrupted: Mapping[int, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(uninterrupted[3], tmp_path / "copy"))
    RunFolder(folder).interrupt(KeyboardInterrupt())
    before, last = RunFolder(folder).checkpoints()[-2:]
    content = (last / "model.safetensors").read_bytes()
    (last / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    error, said = refusal(folder), inspect_run(folder)
    way = f"mv {last} {folder}-{last.name}-damaged && muse train --resume {folder}"
    assert error.hint == f"{way} goes on behind step {int(before.name[-7:])}"
    assert not any(line.startswith("enough for") and "infer" in line for line in said.lines)
    assert said.lines[-1] == f"resume     not from {last.name}, which is damaged: {error.hint}"
    last.rename(f"{folder}-{last.name}-damaged")
    assert resume(RunFolder(folder)).steps == STEPS


def test_nothing_is_continued_exactly_before_it_is_loaded(interrupted: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(interrupted, tmp_path / "copy"))
    (RunFolder(folder).checkpoints()[-1] / "training.safetensors").write_bytes(b"")
    refusal(folder)
    assert "exactly" not in (folder / "log.txt").read_text()


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interrupted") / "run"
    train_and_stop(3, folder, 2, RECIPE)
    return folder


def test_a_checkpoint_of_another_stage_is_not_resumed(
    interrupted: Path, uninterrupted: Mapping[int, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(interrupted, tmp_path / "copy"))
    (checkpoint,) = RunFolder(folder).checkpoints()
    shutil.rmtree(checkpoint)
    shutil.copytree(RunFolder(uninterrupted[2]).checkpoints()[0], checkpoint)
    error = refusal(folder)
    assert "is not of this run" in error.what
    assert "stage 2" in error.what


def test_a_run_goes_on_after_the_one_it_started_from_is_gone(tmp_path: Path) -> None:
    first = train_lean(1, tmp_path / "one", {"training.steps": 1}).folder
    changes = {**RECIPE, "training.steps": 2, "run.init": str(first)}
    train_and_stop(2, tmp_path / "two", 1, changes)
    shutil.rmtree(first)
    assert resume(RunFolder(tmp_path / "two")).steps == 2


def test_a_run_that_begins_again_begins_from_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped before its first checkpoint, while a newer stage 1 has been finished since."""
    monkeypatch.setenv("MUSE_RUNS", str(tmp_path / "runs"))
    short = {"training.steps": 1, "run.init": None}
    first = train_lean(1, tmp_path / "runs" / "a", short).folder
    train_and_stop(2, tmp_path / "runs" / "b", 1, {**RECIPE, "run.init": None})
    shutil.rmtree(tmp_path / "runs" / "b" / "checkpoints")
    train_lean(1, tmp_path / "runs" / "c", {**short, "run.seed": 1})
    resumed = StopAt(1)
    with pytest.raises(Terminated):
        resume(RunFolder(tmp_path / "runs" / "b"), resumed)
    assert str(first) in RunFolder(tmp_path / "runs" / "b").settings()["run"]["init"]
