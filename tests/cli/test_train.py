"""`muse train` as far as it decides things itself: stages, flags, chains, plans, resuming."""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from muse_cli import launch
from muse_core.errors import ExitCode, MuseError
from muse_core.files import read_json
from muse_core.runs import RunFolder
from muse_core.settings.presets import preset
from muse_core.settings.train import TrainSettings
from muse_core.stages.chain import Stage
from tests.cli.conftest import Muse, shell_environment
from tests.field.inputs import RED, coded, flat, tar


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[TrainSettings]:
    """Stages that would have been trained; each leaves a run folder."""
    seen: list[TrainSettings] = []

    def start(settings: TrainSettings, origins: Mapping[str, str], later: Sequence[Stage]) -> dict[str, Any]:
        seen.append(settings)
        folder = settings.run.out or f"runs/made{settings.run.stage}"
        return {"command": "train", "folder": folder, "stage": settings.run.stage}

    monkeypatch.setattr(launch, "start", start)
    return seen


def test_one_stage_is_one_run_and_prints_its_folder(muse: Muse, started: list[TrainSettings]) -> None:
    ended = muse("train", "--stage", "2", "--size", "tiny", "--steps", "20", "--data", "shards/", "--lr", "3e-4")
    assert (ended.code, ended.out) == (0, "runs/made2\n")
    (settings,) = started
    assert (settings.run.stage, settings.run.size, settings.run.init) == (2, "tiny", None)
    assert (settings.training.steps, settings.data.train, settings.optim.lr) == (20, "shards/", 3e-4)


def test_three_stages_each_start_from_the_one_before(muse: Muse, started: list[TrainSettings]) -> None:
    ended = muse("train", "--stage", "1-3", "--size", "tiny", "--out", "all", "--init", "none", "--json")
    assert [settings.run.init for settings in started] == ["none", "all/stage1", "all/stage2"]
    assert [settings.run.out for settings in started] == ["all/stage1", "all/stage2", "all/stage3"]
    recipes = [preset("tiny", stage)["optim"]["lr"] for stage in (1, 2, 3)]
    assert [settings.optim.lr for settings in started] == recipes
    assert [entry["stage"] for entry in ended.json["runs"]] == [1, 2, 3]


def test_a_mistake_in_a_later_stage_is_told_before_the_first_one_trains(
    muse: Muse, started: list[TrainSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = muse("train", "--stage", "2-4", "--size", "tiny")
    assert ended.code == ExitCode.SETTINGS
    assert "run.stage: must be less than or equal to 3, got 4" in ended.err
    assert started == []


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ([], "which stage?"),
        (["--stage", "one"], "--stage one: expected 1, 2, 3 or 1-3"),
        (["--stage", "3-1"], "--stage 3-1: there is no stage in it"),
    ],
)
def test_a_stage_has_to_be_named(muse: Muse, started: list[TrainSettings], arguments: list[str], what: str) -> None:
    ended = muse("train", "--size", "tiny", *arguments)
    assert ended.code == ExitCode.USAGE
    assert what in ended.err
    assert started == []


def test_the_stage_may_come_from_a_file(muse: Muse, started: list[TrainSettings], tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("run: {stage: 3, size: tiny}\n")
    assert muse("train", "--config", "s.yaml").code == 0
    assert started[0].run.stage == 3


@pytest.mark.slow
def test_a_size_that_lacks_everything_is_one_error_and_a_dry_run_is_a_check(
    muse: Muse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MUSE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    ended = muse("train", "--stage", "2", "--size", "1b")
    assert ended.code == ExitCode.FILE
    for text in ("OpenGVLab/InternVL3-1B", str(tmp_path / "weights"), "no finished stage 1 of size 1b", "MUSE_DATA"):
        assert text in ended.err
    assert not Path("runs").exists()
    dry = muse("train", "--stage", "2", "--size", "1b", "--dry-run", "--assume", "8x140GB", "--json")
    assert dry.code == ExitCode.PROBLEMS
    assert len(dry.json["missing"]) == 9
    assert any(line.startswith("trains ") for line in dry.json["plan"])


def test_a_dry_run_of_three_stages_does_not_miss_what_it_would_make(muse: Muse) -> None:
    ended = muse("train", "--stage", "1-3", "--size", "tiny", "--dry-run")
    assert ended.code == 0, ended.err
    assert "starts   from the result of stage 2" in ended.out
    assert ended.out.count("trains ") == 3
    assert not Path("runs").exists()


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """An interrupted run, and a `resume` that only notes what it was given."""

    def resume(folder: RunFolder, settings: TrainSettings) -> dict[str, Any]:
        return {"folder": str(folder.path), "devices": settings.training.devices}

    monkeypatch.setattr(launch, "resume", resume)
    settings = TrainSettings.model_validate(
        {
            "run": {"size": "tiny"},
            "optim": {"lr": 0.123},
            "data": {"train": "demo"},
            "losses": {"perceptual_kind": "tiny-features"},
            "training": {"batch_size": 8},
        }
    )
    run = RunFolder.create(Path("runs/mine"), settings.model_dump(mode="json"), {"optim.lr": "preset"}, stage=1)
    run.interrupt(KeyboardInterrupt())
    return run


def test_resuming_keeps_the_runs_own_settings_and_changes_only_what_may_change(
    muse: Muse, stopped: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSE_TRAIN__OPTIM__LR", "9")
    ended = muse("train", "--resume", "latest", "--devices", "cpu", "--save-every", "7", "--json")
    assert ended.json == {"folder": "runs/mine", "devices": "cpu"}
    settings = stopped.settings()
    assert (settings["optim"]["lr"], settings["training"]["save_every"]) == (0.123, 7)
    origins = read_json(stopped.path / "origins.json")
    assert origins == {"optim.lr": "preset", "training.devices": "command line", "training.save_every": "command line"}


@pytest.mark.parametrize("arguments", [["--lr", "1"], ["--set", "losses.pixel=2"], ["--stage", "2"], ["--config", "x"]])
def test_resuming_refuses_what_would_make_it_another_run(muse: Muse, stopped: RunFolder, arguments: list[str]) -> None:
    ended = muse("train", "--resume", str(stopped.path), *arguments)
    assert ended.code == ExitCode.SETTINGS
    assert "cannot change" in ended.err
    assert f"muse train --init {stopped.path}" in ended.err


def test_resuming_what_is_no_run_or_finished_is_refused(muse: Muse, stopped: RunFolder) -> None:
    assert muse("train", "--resume", "nowhere").code == ExitCode.FILE
    stopped.finish(10)
    ended = muse("train", "--resume", "latest")
    assert ended.code == ExitCode.FILE
    assert "every run in runs is finished" in ended.err


def test_devices_become_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    from muse_core import machine

    gpus = tuple(machine.Device(f"cuda:{index}", "GPU") for index in range(3))
    monkeypatch.setattr(machine, "devices", lambda: (*gpus, machine.Device("cpu", "processor")))
    assert launch.team_for("auto", "1b") == launch.Team(3, {"CUDA_VISIBLE_DEVICES": "0,1,2"})
    assert launch.team_for("auto", "tiny") == launch.Team(1, {}, 0)
    assert launch.team_for("cpu", "1b") == launch.Team(1, {})
    assert launch.team_for("cpu:2", "1b").processes == 2
    assert launch.team_for("2,", "1b") == launch.Team(1, {}, 2)
    assert machine.pick_device("1,2") == "cuda:1"
    assert launch.team_for("cuda", "1b") == launch.Team(1, {}, 0)
    assert launch.team_for("cuda:1", "1b") == launch.Team(1, {}, 1)
    assert launch.team_for("2", "1b") == launch.Team(2, {"CUDA_VISIBLE_DEVICES": "0,1"})
    assert launch.team_for("0,2", "1b") == launch.Team(2, {"CUDA_VISIBLE_DEVICES": "0,2"})
    for asked in ("4", "0,7", "mps", "cuda:3"):
        with pytest.raises(
            MuseError, match=f"--devices {asked}: this machine has cuda:0, cuda:1, cuda:2, cpu"
        ) as caught:
            launch.team_for(asked, "1b")
        assert caught.value.exit_code == ExitCode.MACHINE
    for asked in ("gpu", "0", "cpu:0", ",", "cuda:", "cuda:x", "cuda:-1"):
        with pytest.raises(MuseError, match=f"--devices {asked}: these are no devices") as caught:
            launch.team_for(asked, "1b")
        assert caught.value.exit_code == ExitCode.SETTINGS


@pytest.mark.parametrize(
    ("worker", "code", "what"),
    [
        ("import sys; sys.exit(6)", ExitCode.STOPPED, "process [01] of 2 ended with code 6"),
        (
            "import os, signal, time; os.environ['RANK'] == '0' and time.sleep(60); os.kill(os.getpid(), 9)",
            ExitCode.STOPPED,
            "process 1 of 2 was ended by signal 9",
        ),
        (
            "from muse_core.runs import RunFolder; from muse_core.errors import MuseError; from pathlib import Path; "
            "RunFolder(Path('runs/mine')).fail(MuseError('no room', 'less', 6)); raise SystemExit(6)",
            ExitCode.MACHINE,
            "no room",
        ),
        (
            "import os, time; from muse_core.runs import RunFolder; from pathlib import Path; first = "
            "os.environ['RANK'] == '0'; first and os.kill(os.getpid(), 9); time.sleep(0.1); "
            "RunFolder(Path('runs/mine')).fail(RuntimeError('connection closed by peer')); raise SystemExit(1)",
            ExitCode.STOPPED,
            "process 0 of 2 was ended by signal 9",
        ),
    ],
)
def test_a_workers_error_is_the_commands_error_and_ends_the_others(
    monkeypatch: pytest.MonkeyPatch, worker: str, code: int, what: str
) -> None:
    run = RunFolder.create(Path("runs/mine"), {}, {}, stage=1)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr(launch, "_arguments", lambda folder, team: ["-c", worker])
    with pytest.raises(MuseError, match=what) as caught:
        launch.run_team(run, launch.Team(2, {}))
    assert caught.value.exit_code == code == run.status.exit_code
    assert run.status.state == "failed"


@pytest.mark.slow
def test_two_processes_on_the_cpu_learn_what_one_learns(muse: Muse) -> None:
    common = ["--stage", "1", "--size", "tiny", "--steps", "2", "--batch-size", "16", "--track", "none"]
    quick = ["--set", "data.val=null", "--set", "data.workers=0", "--set", "training.log_every=1"]
    assert muse("train", *common, *quick, "--devices", "cpu", "--out", "one").code == 0
    assert muse("train", *common, *quick, "--devices", "cpu:2", "--out", "two").code == 0
    for one, two in zip(RunFolder(Path("one")).metrics(), RunFolder(Path("two")).metrics(), strict=True):
        norms = [name for name in one if name.startswith("grad_norm/")]
        assert norms
        for name in norms:
            assert one[name] == pytest.approx(two[name], rel=1e-4)


@pytest.mark.slow
def test_a_run_that_was_terminated_goes_on_and_tells_each_step_once(muse: Muse, tmp_path: Path) -> None:
    arguments = ["train", "--stage", "1", "--size", "tiny", "--steps", "30", "--batch-size", "8", "--track", "none"]
    quick = ["--set", "data.val=null", "--set", "data.workers=0", "--set", "training.log_every=1", "--devices", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "muse_cli", *arguments, *quick, "--out", "run", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=shell_environment(),
    )
    run = RunFolder(tmp_path / "run")
    while process.poll() is None and not run.metrics():
        time.sleep(0.1)
    process.terminate()
    out, _ = process.communicate(timeout=300)
    assert process.returncode == ExitCode.TERMINATED
    assert json.loads(out)["hint"] == "muse train --resume run"
    status = run.status
    assert (status.state, status.exit_code) == ("interrupted", ExitCode.TERMINATED)
    assert 0 < status.step < 30
    assert run.checkpoints()[-1].name == f"step-{status.step:07d}"
    assert muse("train", "--resume", "run").code == 0
    assert [record["step"] for record in run.metrics()] == list(range(1, 31))
    assert run.status.state == "finished"


@pytest.mark.parametrize("more", [[], ["--steps", "500"]])
def test_a_finished_run_says_how_to_train_on_from_it(
    muse: Muse, stopped: RunFolder, started: list[TrainSettings], more: list[str]
) -> None:
    settings = stopped.settings()
    settings["model"]["width"], settings["data"]["train"] = 64, "my shards"
    tar(Path("my shards/0.tar"), [(f"{n}.jpg", coded(flat(RED, 64, 64))) for n in range(2)])
    stopped.write_settings(settings, {})
    stopped.finish(10)
    ended = muse("train", "--resume", str(stopped.path), *more)
    assert ended.code == ExitCode.FILE
    assert "runs/mine is finished: its 10 steps are done, and its learning rate has come to its end" in ended.err
    hint = ended.err.partition("hint: muse ")[2].partition(" (a new run")[0]
    assert muse(*shlex.split(hint)).code == 0
    (again,) = started
    assert (again.run.init, again.data.train, again.model.width) == ("runs/mine", "my shards", 64)
    assert again.training.steps == (500 if more else preset("tiny", 1)["training"]["steps"])
