"""The run folder: what it holds, how it is found again, and what it refuses."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from muse_core.errors import ExitCode, MuseError
from muse_core.files import HOLD, free_name, read_json, write_atomically, written_aside
from muse_core.interrupts import Terminated
from muse_core.machine import without_secrets
from muse_core.progress import Logged, Silent
from muse_core.run_search import find, find_run, list_runs, newest_finished, run_of, unfinished
from muse_core.runs import FollowerFolder, RunFolder, new_path
from muse_core.viz.runview import read_run
from muse_core.viz.story import card

SETTINGS = {"run": {"stage": 1, "size": "tiny"}, "optim": {"lr": 0.001}}


@pytest.fixture(autouse=True)
def runs_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MUSE_RUNS", str(tmp_path / "runs"))


def begin(path: Path, **more: Any) -> RunFolder:
    return RunFolder.create(path, SETTINGS, {"optim.lr": "preset"}, stage=1, size="tiny", steps=10, **more)


def finished(path: Path, stage: int = 1, updated: str = "2026-01-01T00:00:00+00:00") -> RunFolder:
    run = begin(path)
    with run.checkpoint(3) as folder:
        (folder / "state.json").write_text("{}")
    run.finish(3)
    status = read_json(path / "status.json") | {"stage": stage, "updated": updated}
    (path / "status.json").write_text(json.dumps(status))
    return run


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_run_begins_with_exactly_these_files(tmp_path: Path) -> None:
    run = begin(tmp_path / "r")
    assert names(run.path) == {"config.yaml", "origins.json", "environment.json", "status.json"}
    assert run.settings() == SETTINGS
    assert read_json(run.path / "origins.json") == {"optim.lr": "preset"}
    environment = read_json(run.path / "environment.json")
    assert set(environment) >= {"versions", "devices", "git", "command"}
    assert (run.status.state, run.status.step, run.status.steps) == ("running", 0, 10)


def test_a_folder_that_is_not_empty_is_refused_with_every_way_out(tmp_path: Path) -> None:
    run = begin(tmp_path / "r")
    with pytest.raises(MuseError) as caught:
        begin(run.path)
    assert caught.value.exit_code == ExitCode.FILE
    for way in (f"--resume {run.path}", "--overwrite", f"--out {run.path}-2"):
        assert way in str(caught.value.hint)


def test_overwriting_empties_a_run_but_never_another_folder(tmp_path: Path) -> None:
    run = begin(tmp_path / "r")
    run.log("old")
    assert not (begin(run.path, overwrite=True).path / "log.txt").exists()
    home = tmp_path / "home"
    home.mkdir()
    (home / "letter.txt").write_text("dear")
    with pytest.raises(MuseError, match="is not empty and holds no run"):
        begin(home, overwrite=True)
    assert (home / "letter.txt").read_text() == "dear"


def test_a_checkpoint_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    run = begin(tmp_path / "r")

    def cut_short() -> None:
        with run.checkpoint(1) as folder:
            (folder / "half").write_text("x")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cut_short()
    assert run.checkpoints() == []
    assert run.last_checkpoint() is None
    assert not list((run.path / "checkpoints").iterdir())


def test_old_checkpoints_go_and_last_names_the_newest(tmp_path: Path) -> None:
    run = begin(tmp_path / "r")
    for step in (2, 4, 6, 6):
        with run.checkpoint(step, keep=2) as folder:
            (folder / "state.json").write_text(str(step))
    assert [path.name for path in run.checkpoints()] == ["step-0000004", "step-0000006"]
    assert (run.path / "checkpoints" / "last").read_text() == "step-0000006\n"
    assert run.last_checkpoint() == run.path / "checkpoints" / "step-0000006"


def test_metrics_are_cut_back_to_the_step_that_is_resumed(tmp_path: Path) -> None:
    run = begin(tmp_path / "r")
    for step in (1, 2, 3):
        run.append_metrics({"step": step, "loss": 1 / step})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # the machine went down here
    assert [record["step"] for record in run.metrics()] == [1, 2, 3]
    run.cut_metrics(2)
    assert [record["step"] for record in run.metrics()] == [1, 2]


def test_a_damaged_record_is_named_and_not_passed_over(tmp_path: Path) -> None:
    run = begin(tmp_path / "r")
    (run.path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"st\xff\n{"step": 3}\n')
    with pytest.raises(MuseError, match="line 2: not a record of a step"):
        run.metrics()


@pytest.mark.parametrize("wrong", [{"step": "x"}, {"updated": None}, {"details": 3}, {"exit_code": "4"}])
def test_a_status_that_is_none_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    run = begin(tmp_path / "r")
    (run.path / "status.json").write_text(json.dumps({**read_json(run.path / "status.json"), **wrong}))
    with pytest.raises(MuseError, match=f"is not the status of a run: {next(iter(wrong))}"):
        print(run.status)


def test_the_last_checkpoint_is_one_of_the_run_whatever_the_pointer_says(tmp_path: Path) -> None:
    run = begin(tmp_path / "r")
    with run.checkpoint(3) as folder:
        (folder / "state.json").write_text("{}")
    for named in ("../..", str(tmp_path), "\0", "step-9"):
        (run.path / "checkpoints" / "last").write_text(named)
        assert run.last_checkpoint() == run.path / "checkpoints" / "step-0000003"


def test_a_failure_is_recorded_with_its_hint_and_code(tmp_path: Path) -> None:
    run = begin(tmp_path / "r")
    run.fail(MuseError("the loss is not finite", "a smaller --lr", ExitCode.STOPPED))
    assert (run.status.state, run.status.error, run.status.hint, run.status.exit_code) == (
        "failed",
        "the loss is not finite",
        "a smaller --lr",
        7,
    )
    run.fail(MuseError("what follows from it"))
    run.interrupt(KeyboardInterrupt())
    assert (run.status.state, run.status.error) == ("failed", "the loss is not finite")
    run.resume()
    assert (run.status.state, run.status.error, run.status.exit_code) == ("running", None, None)
    run.fail(ValueError("oh"))
    assert (run.status.error, run.status.exit_code) == ("ValueError: oh", 1)
    run.fail(OSError(errno.ENOSPC, "No space left on device"), overrule=True)
    assert (run.status.error, run.status.exit_code) == ("the disk is full", ExitCode.FILE)


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (Terminated(), 143)])
def test_an_interruption_names_the_command_that_goes_on(tmp_path: Path, error: KeyboardInterrupt, code: int) -> None:
    run = begin(tmp_path / "r")
    run.interrupt(error)
    assert run.status.state == "interrupted"
    assert run.status.hint == f"muse train --resume {run.path}"
    assert run.status.exit_code == code


def test_latest_is_the_finished_run_updated_last(tmp_path: Path) -> None:
    old = finished(tmp_path / "runs" / "a", updated="2026-01-02T00:00:00+00:00")
    new = finished(tmp_path / "runs" / "demo" / "b", stage=2, updated="2026-01-03T00:00:00+00:00")
    going = begin(tmp_path / "runs" / "c")
    assert [run.path for run in list_runs()] == [going.path, new.path, old.path]
    assert find("latest") == new.last_checkpoint()
    assert find(old.path) == old.last_checkpoint()
    assert find(old.path / "checkpoints" / "step-0000003") == old.last_checkpoint()
    assert newest_finished(stage=1, size="tiny") == old
    assert newest_finished(stage=1, size="1b") is None
    assert find_run("latest") == unfinished("latest") == going


def test_what_is_no_checkpoint_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MuseError, match="there is no run in ") as caught:
        find("latest")
    assert "muse demo" in str(caught.value.hint)
    with pytest.raises(MuseError, match="does not exist"):
        find(tmp_path / "nowhere")
    with pytest.raises(MuseError, match="holds neither a run nor a checkpoint"):
        find(tmp_path)
    with pytest.raises(MuseError, match="has no checkpoint yet"):
        find(begin(tmp_path / "r").path)


def test_a_checkpoint_knows_its_run(tmp_path: Path) -> None:
    run = finished(tmp_path / "r")
    assert run_of(run.path) == run
    assert run_of(run.path / "checkpoints" / "step-0000003" / "model.safetensors") == run
    assert run_of(tmp_path) is None


def test_new_names_are_free(tmp_path: Path) -> None:
    first = new_path(2, "1b")
    assert first.parent == tmp_path / "runs"
    assert first.name.startswith("1b-stage2-")
    first.mkdir(parents=True)
    assert new_path(2, "1b") != first
    assert free_name(first) == first.with_name(f"{first.name}-2")


def test_one_process_at_a_time_writes_to_a_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "r")
    code = "import sys; from pathlib import Path; from muse_core.files import held; held(Path(sys.argv[1])).__enter__()"
    again = [sys.executable, "-c", code, str(run.path)]
    with run.held():
        begin(run.path)
        refused = subprocess.run(again, capture_output=True, text=True, check=False)
        assert f"{run.path} is in use: process {os.getpid()} on " in refused.stderr
        with pytest.raises(MuseError, match="in use: this process writes to it") as caught, run.held():
            pass
        assert f"--out {run.path}-2" in str(caught.value.hint)
        with FollowerFolder(run.path).held():
            pass
    with run.held():
        assert not begin(run.path, overwrite=True).checkpoints()
    assert subprocess.run(again, capture_output=True, check=False).returncode == 0


def test_a_run_whose_process_was_killed_is_seen_to_have_stopped(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "my run")
    code = (
        "import sys, time; from pathlib import Path; from muse_core.runs import RunFolder\n"
        "run = RunFolder(Path(sys.argv[1]))\n"
        "with run.held():\n"
        "    RunFolder.create(run.path, {}, {}, stage=1, size='tiny', steps=10).update(step=3)\n"
        "    print('begun', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(run.path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        assert run.seen == run.status, "somebody writes to it"
        assert card(read_run(run.path)).state == "running"
        process.kill()
    assert run.status.state == "running", "who was killed could not say so"
    assert run.seen.progress() == "stopped at step 3 of 10"
    shown = card(read_run(run.path))
    assert (shown.state, shown.hint) == ("stopped", f"muse train --resume '{run.path}'")
    with run.held():
        run.resume()
        assert run.seen.state == "running"
        with pytest.raises(MuseError, match="in use: this process"), run.held():
            pass


@pytest.mark.parametrize("holder", ["process 1 on another-machine", "", None])
def test_nobody_is_called_dead_who_may_live_elsewhere(tmp_path: Path, holder: str | None) -> None:
    run = begin(tmp_path / "r")
    if holder is not None:
        (run.path / HOLD).write_text(f"{holder}\n")
    assert run.seen.state == "running"


def test_looking_at_a_run_keeps_nobody_from_it(tmp_path: Path) -> None:
    """Locks of this kind end when any file of the folder's holder is closed, or may be taken by who only looks."""
    code = "import sys; from pathlib import Path; from muse_core.files import held; held(Path(sys.argv[1])).__enter__()"
    run = begin(tmp_path / "r")
    with run.held():
        assert run.seen.progress().startswith("running")
        done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, check=False)
        assert done.returncode != 0, "it is still kept"
    assert run.seen.progress().startswith("stopped")
    with run.held():
        pass


def test_a_file_system_without_locks_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lockf(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("muse_core.files.fcntl.lockf", lockf)
    with RunFolder(tmp_path / "r").held():
        assert (tmp_path / "r").is_dir()


def test_what_is_said_is_logged(tmp_path: Path) -> None:
    run = begin(tmp_path / "r")
    told = Logged(Silent(), run.log)
    told.say("step 1")
    told.warn("careful")
    assert [line.split(" ", 1)[1] for line in (run.path / "log.txt").read_text().splitlines()] == [
        "step 1",
        "warning: careful",
    ]


def test_the_other_processes_write_only_their_logs_and_the_first_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(tmp_path / "r")
    before = {name: (run.path / name).read_bytes() for name in names(run.path)}
    follower = FollowerFolder(run.path)
    follower.append_metrics({"step": 1})
    follower.update(step=5)
    follower.finish(10)
    assert {name: (run.path / name).read_bytes() for name in names(run.path)} == before
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    follower.log("here")
    assert (run.path / "log-3.txt").exists()
    follower.fail(MuseError("no memory", exit_code=ExitCode.MACHINE))
    follower.fail(MuseError("a consequence"))
    assert run.status.error == "no memory"


def test_a_file_is_whole_or_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_atomically(path, "old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == {"deep/file.txt"}


def test_a_folder_written_again_replaces_what_is_ours_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "f"

    def write(content: str) -> None:
        with written_aside(
            target, lambda folder: [one.name for one in folder.iterdir() if one.name == "thesis"]
        ) as new:
            (new / content).write_text(content)

    for content in ("one", "two"):
        write(content)
    assert names(tmp_path) == {"f/two"}
    (target / "thesis").write_text("years of work")
    with pytest.raises(MuseError, match="not muse's, so it is not replaced: thesis"):
        write("three")
    assert names(tmp_path) == {"f/two", "f/thesis"}
    with pytest.raises(MuseError, match="not replaced"), written_aside(target) as new:
        (new / "four").write_text("")
    assert names(tmp_path) == {"f/two", "f/thesis"}


@pytest.mark.parametrize(
    ("text", "blanked"),
    [
        ("muse train --set hub.token=abc123", "muse train --set hub.token=***"),
        ("--data https://me:pw@host/a.tar", "--data https://***@host/a.tar"),
        ("--data s3://b/a.tar?X-Amz-Signature=1f", "--data s3://b/a.tar?***"),
        ("muse train --lr 0.1", "muse train --lr 0.1"),
    ],
)
def test_credentials_are_not_written_down(text: str, blanked: str) -> None:
    assert without_secrets(text) == blanked
