"""Runs as commands find them: elsewhere, by `latest`, by --resume alone, and what each situation is told."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from muse_cli import launch
from muse_core.errors import ExitCode
from muse_core.files import read_json, write_json
from muse_core.run_search import note_place
from muse_core.runs import RunFolder
from tests.cli.conftest import Muse
from tests.training.mini import lean

_SETTINGS = lean(1, {"data.train": "demo"}).model_dump(mode="json")
EVAL = ("--data", "demo:val:4", "--metric", "psnr")


def change(run: Path, **changes: Any) -> None:
    write_json(run / "status.json", read_json(run / "status.json") | changes)


@pytest.fixture
def resumed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that --resume would have gone on with."""
    paths: list[str] = []

    def resume(folder: RunFolder, settings: object) -> dict[str, Any]:
        paths.append(str(folder.path))
        return {"folder": str(folder.path)}

    monkeypatch.setattr(launch, "resume", resume)
    return paths


def test_a_run_elsewhere_is_listed_with_its_path(muse: Muse, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "runs/here")
    shutil.copytree(trained, tmp_path / "far/away")
    change(tmp_path / "far/away", updated="2999-01-01")
    note_place(Path("far/away"))
    listed = muse("ls", "runs", "--json").json["runs"]
    assert [(row["run"], row["kind"]) for row in listed] == [
        (str(tmp_path / "far/away"), "tokenizer"),
        ("runs/here", "tokenizer"),
    ]
    assert f"using {tmp_path / 'far/away'}, the newest finished run" in muse("eval", *EVAL).err


@pytest.mark.parametrize("word", [(), ("latest",)])
def test_latest_is_said_by_name_and_gets_the_scores(
    muse: Muse, trained: Path, tmp_path: Path, word: tuple[str, ...]
) -> None:
    shutil.copytree(trained, tmp_path / "runs/mine")
    shutil.copytree(trained, tmp_path / "runs/other")
    change(tmp_path / "runs/other", kind="generator", updated="2999-01-01")
    ended = muse("eval", *word, *EVAL)
    assert ended.code == 0, ended.err
    assert "using runs/mine, the newest finished run" in ended.err
    assert Path("runs/mine/results/eval.json").is_file()
    refused = muse("eval", "runs/other", *EVAL)
    assert refused.code == ExitCode.FILE
    assert "runs/other is a run of kind generator, which this version of muse does not know" in refused.err
    assert "generator" in muse("ls", "runs").out


def test_scores_are_not_added_to_a_strangers_folder(muse: Muse, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "checkpoints", tmp_path / "project/checkpoints")
    (tmp_path / "project/status.json").write_text('{"state": "ok"}')
    ended = muse("eval", "project/checkpoints/step-0000001", *EVAL)
    assert ended.code == 0, ended.err
    assert sorted(path.name for path in Path("project").iterdir()) == ["checkpoints", "status.json"]


@pytest.mark.parametrize("words", [("--resume",), ("--resume", "latest"), ("--resume", "--devices", "cpu")])
def test_resume_alone_goes_on_with_the_newest_run_that_is_not_finished(
    muse: Muse, resumed: list[str], words: tuple[str, ...]
) -> None:
    assert "there is no run in runs" in muse("train", *words).err
    for name, state in (("old", "interrupted"), ("new", "interrupted"), ("done", "finished")):
        RunFolder.create(Path("runs") / name, _SETTINGS, {}, stage=1, size="tiny", steps=4)
        change(Path("runs") / name, state=state, updated=f"2026-01-0{1 + ['old', 'new', 'done'].index(name)}")
    ended = muse("train", *words)
    assert ended.code == 0, ended.err
    assert resumed == ["runs/new"]
    for name in ("old", "new"):
        change(Path("runs") / name, state="finished")
    refused = muse("train", *words)
    assert "every run in runs is finished" in refused.err
    assert "muse train --stage 1 --size tiny --init runs/done" in refused.err
    assert resumed == ["runs/new"]


def test_resume_still_takes_a_name(muse: Muse, resumed: list[str]) -> None:
    RunFolder.create(Path("mine"), _SETTINGS, {}, stage=1, size="tiny", steps=4)
    assert muse("train", "--resume", "mine").code == 0
    assert muse("train", "--resume=mine").code == 0
    assert resumed == ["mine", "mine"]


def test_no_runs_is_said_with_what_makes_one(muse: Muse) -> None:
    ended = muse("ls", "runs")
    assert ended.out == "no runs\n"
    assert "`muse demo` makes some" in ended.err
