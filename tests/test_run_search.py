"""Runs are found wherever they lie, each by its kind, and what is no run is never taken for one."""

import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from muse_core import remembered as memory
from muse_core.errors import MuseError, MuseWarning
from muse_core.files import read_json
from muse_core.inspection.inspect import inspect
from muse_core.remembered import remember, remembered
from muse_core.run_files import is_run, remove_begun
from muse_core.run_search import find, find_run, list_runs, newest_finished, note_place, run_of, unfinished
from muse_core.run_status import KINDS
from muse_core.runs import RunFolder


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("MUSE_RUNS", raising=False)
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))


def begun(path: Path, **changes: Any) -> RunFolder:
    run = RunFolder.create(path, {}, {}, stage=1, size="tiny", steps=10)
    with run.checkpoint(3) as folder:
        (folder / "state.json").write_text("{}")
    run.update(step=3)
    change(run, **changes)
    return run


def change(run: RunFolder, **changes: Any) -> None:
    path = run.path / "status.json"
    path.write_text(json.dumps(read_json(path) | changes))


def finished(path: Path, **changes: Any) -> RunFolder:
    return begun(path, **{"state": "finished", **changes})


def paths() -> list[Path]:
    return [run.path for run in list_runs()]


# ----------------------------------------------------------------------------------------------------------- elsewhere


def test_a_run_made_elsewhere_is_found_until_it_is_gone(tmp_path: Path) -> None:
    finished(Path("runs/here"), updated="2026-01-01")
    finished(Path("../far/away"), updated="2026-01-02")
    note_place(Path("../far/away"))
    away = tmp_path / "far/away"
    assert paths() == [away, Path("runs/here")]
    newest = newest_finished()
    assert newest is not None
    assert newest.path == away
    away.rename(tmp_path / "moved")
    assert paths() == [Path("runs/here")]
    note_place(Path("../moved"))  # as resuming it does
    assert paths() == [tmp_path / "moved", Path("runs/here")]
    shutil.rmtree(tmp_path / "moved")
    assert paths() == [Path("runs/here")]


@pytest.mark.parametrize("inside", ["runs/mine", "runs/chain/stage1"])
def test_what_lies_among_the_runs_needs_no_remembering(tmp_path: Path, inside: str) -> None:
    begun(Path(inside))
    note_place(Path(inside))
    assert not (tmp_path / "cache").exists()
    assert paths() == [Path(inside)]


def test_a_run_that_is_found_twice_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(tmp_path / "mine/run")
    note_place(tmp_path / "mine/run")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    monkeypatch.setenv("MUSE_RUNS", str(tmp_path / "link"))
    assert paths() == [tmp_path / "link/run"]


def test_a_path_of_any_bytes_is_remembered(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"a\nb \xff")
    begun(odd)
    note_place(odd)
    assert paths() == [odd]


def test_nothing_in_the_memory_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begun(tmp_path / "far")
    note_place(run.path)
    folder = tmp_path / "cache/runs"
    (entry,) = folder.iterdir()
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "status.json").write_text('{"state": "ok"}')
    remember(stranger)
    remember(tmp_path)
    (folder / "notes.txt").write_text(str(run.path))
    (folder / ("0" * 32)).write_text(str(run.path))  # not the name of this path
    (folder / ("1" * 32)).symlink_to(entry)
    (folder / ("2" * 32)).mkdir()
    relative = os.fsencode("../far")
    (folder / memory._name(relative)).write_bytes(relative)
    long = os.fsencode("/" + "x" * 5000)
    (folder / memory._name(long)).write_bytes(long)
    null = b"/a\0b"
    (folder / memory._name(null)).write_bytes(null)
    assert remembered() == [run.path]
    monkeypatch.setattr("os.getuid", lambda: entry.stat().st_uid + 1)
    assert remembered() == []  # another user's, in a cache that several share


def remember_some(folder: Path) -> None:
    for number in range(20):
        remember(folder / str(number))


def test_several_processes_remember_at_once(tmp_path: Path) -> None:
    for name in "abc":
        for number in range(20):
            begun(tmp_path / name / str(number))
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=remember_some, args=(tmp_path / name,)) for name in "abc"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(remembered()) == 60


def test_a_memory_that_cannot_be_written_costs_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "file/cache"))
    assert remembered() == []
    begun(tmp_path / "far")
    with pytest.warns(MuseWarning, match="nothing is kept for the next time"):
        note_place(tmp_path / "far")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(memory, "write_atomically", full)
    with pytest.warns(MuseWarning, match=r"`latest` and `muse ls runs` will not find .*/far: No space left on device"):
        note_place(tmp_path / "far")


def test_what_is_gone_for_long_is_forgotten(tmp_path: Path) -> None:
    gone, lately, there = (begun(tmp_path / name).path for name in ("gone", "lately", "there"))
    for path in (gone, lately, there):
        remember(path)
    for entry in (tmp_path / "cache/runs").iterdir():
        if entry.read_bytes() != os.fsencode(lately):
            os.utime(entry, (0, time.time() - memory.STALE_S - 60))
    shutil.rmtree(gone)
    shutil.rmtree(lately)
    remember(begun(tmp_path / "new").path)
    left = {Path(os.fsdecode(entry.read_bytes())).name for entry in (tmp_path / "cache/runs").iterdir()}
    assert left == {"lately", "there", "new"}


# ----------------------------------------------------------------------------------------- none, none finished, others


def refused(call: Any) -> tuple[str, str]:
    with pytest.raises(MuseError) as caught:
        call("latest")
    return caught.value.what, str(caught.value.hint)


def test_each_situation_has_its_sentence() -> None:
    begin = "muse train --stage 1-3 --size tiny"
    assert refused(unfinished) == refused(find_run) == ("there is no run in runs", begin)
    assert refused(find) == ("there is no run in runs", "make one with `muse demo`, or name a --checkpoint")
    going = begun(Path("runs/a"), state="interrupted")
    assert unfinished("latest") == find_run("latest") == going
    what, hint = refused(find)
    assert what == "there is no finished run in runs: runs/a is interrupted at step 3 of 10"
    assert hint == "muse train --resume runs/a, or name a --checkpoint"
    change(going, state="finished")
    assert refused(unfinished) == (
        "every run in runs is finished",
        "muse train --stage 1 --size tiny --init runs/a for a new run from the newest one",
    )
    (going.path / "status.json").write_text("{")
    with pytest.warns(MuseWarning, match="passed over"):
        assert refused(unfinished) == ("no run in runs can be used", f"muse ls runs, or {begin} for a new one")


def test_a_folder_of_runs_leads_to_them(tmp_path: Path) -> None:
    begun(tmp_path / "chain/stage1", updated="2026-01-01")
    begun(tmp_path / "chain/stage2", updated="2026-01-02")
    for call in (find, find_run, unfinished):
        with pytest.raises(MuseError, match="is not a run, but holds some") as caught:
            call(tmp_path / "chain")
        assert caught.value.hint == f"name one, such as {tmp_path / 'chain/stage2'}"


# --------------------------------------------------------------------------------------------------------------- kinds


def test_a_run_says_its_kind_and_one_of_0_1_0_is_a_tokenizer() -> None:
    run = begun(Path("runs/a"))
    assert read_json(run.path / "status.json")["kind"] == "tokenizer"
    document = read_json(run.path / "status.json")
    del document["kind"]
    (run.path / "status.json").write_text(json.dumps(document))
    assert run.status.kind == "tokenizer"
    change(run, state="finished")
    assert newest_finished() == run


@pytest.mark.parametrize("kind", ["generator", "a kind of the future"])
def test_a_run_of_another_kind_is_listed_never_taken_by_default_and_refused_by_name(kind: str) -> None:
    assert kind not in KINDS
    mine = finished(Path("runs/mine"), updated="2026-01-01")
    other = finished(Path("runs/other"), kind=kind, updated="2026-01-02")
    going = begun(Path("runs/going"), kind=kind, updated="2026-01-03")
    assert [(run.path, run.status.kind) for run in list_runs()] == [
        (going.path, kind),
        (other.path, kind),
        (mine.path, "tokenizer"),
    ]
    assert newest_finished() == find_run("latest") == mine
    assert find("latest") == mine.last_checkpoint()
    assert refused(unfinished)[0] == "every run in runs is finished"
    for call in (find, find_run, unfinished, inspect):
        with pytest.raises(MuseError, match=f"runs/other is a run of kind {kind}, which this version") as caught:
            call(other.path)
        assert caught.value.hint == "muse ls runs"
    shutil.rmtree(mine.path)
    assert refused(unfinished)[0] == "no run in runs can be used"


def test_a_kind_that_is_no_word_is_no_status() -> None:
    run = begun(Path("runs/a"), kind=3)
    with pytest.raises(MuseError, match="is not the status of a run: kind"):
        print(run.status)


# ------------------------------------------------------------------------------------------------------- what is a run


STRANGE = ['{"state": "ok"}', '{"state": "running", "pid": 3}', "{}", "[]", "not json", ""]


@pytest.mark.parametrize("status", STRANGE)
def test_a_status_of_somebody_else_makes_no_run(tmp_path: Path, status: str) -> None:
    checkpoint = tmp_path / "project/checkpoints/step-0000003"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text("{}")
    (tmp_path / "project/status.json").write_text(status)
    assert not is_run(tmp_path / "project")
    assert run_of(checkpoint) is None
    assert run_of(checkpoint / "state.json") is None
    with pytest.raises(MuseError, match="is not a run: its status.json is not that of one"):
        RunFolder.open(tmp_path / "project")


@pytest.mark.parametrize("status", STRANGE)
def test_a_run_with_a_damaged_status_is_one_all_the_same(status: str) -> None:
    run = begun(Path("runs/a"))
    (run.path / "status.json").write_text(status)
    assert is_run(run.path)
    assert find(run.path) == run.last_checkpoint()
    assert run_of(run.path / "checkpoints/step-0000003") is not None


def test_a_strangers_status_among_the_runs_is_not_listed() -> None:
    Path("runs/notes").mkdir(parents=True)
    Path("runs/notes/status.json").write_text('{"state": "ok"}')
    assert list_runs() == []


def test_only_checkpoints_of_a_run_belong_to_it() -> None:
    run = begun(Path("runs/a"))
    mine = run.path / "mine/model"
    mine.mkdir(parents=True)
    (mine / "model.safetensors").touch()
    assert run_of(mine / "model.safetensors") is None
    assert run_of(mine) is None
    assert run_of(run.path / "checkpoints/step-0000003/state.json") == RunFolder(run.path.absolute())
    assert run_of(run.path) == run


def test_what_was_begun_without_a_status_is_removed_unless_anything_else_lies_there(tmp_path: Path) -> None:
    run = begun(tmp_path / "a")
    shutil.rmtree(run.path / "checkpoints")
    (run.path / "status.json").unlink()
    (run.path / "thesis.tex").write_text("mine")
    before = sorted(run.path.iterdir())
    remove_begun(run.path)
    assert sorted(run.path.iterdir()) == before
    (run.path / "thesis.tex").unlink()
    (run.path / ".identity.json.12.0.tmp").touch()
    remove_begun(run.path)
    assert list(run.path.iterdir()) == []
    whole = begun(tmp_path / "b")
    remove_begun(whole.path)
    assert whole.status.step == 3
