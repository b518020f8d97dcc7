"""`muse train --stage 1-3` that was stopped goes on with the whole of it, by the same command with --resume."""

from pathlib import Path
from typing import Any

import pytest

from muse_core.errors import ExitCode, MuseError
from muse_core.files import read_json
from muse_core.interrupts import Terminated
from muse_core.runs import CHAIN, RunFolder
from muse_core.stages import start
from muse_core.stages.chain import stages_after
from muse_core.training import session
from muse_core.training.loop import train
from muse_core.training.trainer import Trainer
from tests.cli.conftest import Muse

COMMAND = ("train", "--stage", "1-3", "--size", "tiny", "--data", "demo", "--steps", "2", "--batch-size", "8")
LEAN = ("--track", "none", "--set", "data.workers=0", "--set", "training.reconstruct=4")


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stages in which somebody stops the run, each once, before its first step."""
    left: list[int] = []

    def loop(trainer: Trainer) -> int:
        stage = trainer.recorder.folder.status.stage
        if stage in left:
            left.remove(stage)
            raise Terminated
        return train(trainer)

    monkeypatch.setattr(session, "train", loop)
    return left


def states() -> dict[int, tuple[str, bool]]:
    """The state of the run of each stage, and whether it knows of stages after it."""
    runs = [RunFolder(path.parent) for path in Path("runs").glob("*/status.json")]
    return {run.status.stage or 0: (run.status.state, (run.path / CHAIN).is_file()) for run in runs}


@pytest.mark.slow
@pytest.mark.parametrize("again", [("train", "--resume"), (*COMMAND, *LEAN, "--resume")])
def test_stopped_in_the_second_stage_the_same_command_with_resume_does_the_rest(
    muse: Muse, stops: list[int], again: tuple[str, ...]
) -> None:
    stops += [2, 3]
    ended = muse(*COMMAND, *LEAN)
    assert ended.code == ExitCode.TERMINATED
    assert states() == {1: ("finished", False), 2: ("interrupted", True)}
    (second,) = Path("runs").glob("*stage2*")
    assert f"muse train --resume {second} goes on with it, and then with stage 3" in ended.err
    assert "next: muse train" not in ended.err, "what comes next is done already"
    planned = muse(*again, "--dry-run")
    assert planned.code == 0, planned.err
    assert "then     stage 3" in planned.out
    assert muse(*again).code == ExitCode.TERMINATED, "stopped once more, in stage 3"
    assert states() == {1: ("finished", False), 2: ("finished", False), 3: ("interrupted", False)}
    ended = muse(*again, "--json")
    assert ended.code == 0, ended.err
    assert states() == {stage: ("finished", False) for stage in (1, 2, 3)}
    third = RunFolder(Path(ended.json["folder"]))
    assert Path(third.settings()["run"]["init"]).is_relative_to(second.absolute())
    assert "every run in runs is finished" in muse(*again).err


@pytest.fixture
def between(muse: Muse, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished first stage, after which the process was killed before the second had its folder."""
    real = start.created

    def created(settings: Any, *arguments: Any) -> Any:
        if settings.run.stage == 2:
            raise MuseError("no room", exit_code=ExitCode.FILE)
        return real(settings, *arguments)

    with monkeypatch.context() as broken:
        broken.setattr(start, "created", created)
        assert muse(*COMMAND, *LEAN).code == ExitCode.FILE
    (run,) = Path("runs").iterdir()
    return run


@pytest.mark.slow
def test_between_two_stages_it_goes_on_with_the_next(muse: Muse, between: Path) -> None:
    assert states() == {1: ("finished", True)}
    assert [stage.settings.run.stage for stage in stages_after(between)] == [2, 3]
    assert f"muse train --resume {between} goes on with the next stage" in muse("inspect", str(between)).out
    ended = muse(*COMMAND, *LEAN, "--resume", "--set", "training.log_every=1", "--json")
    assert ended.code == 0, ended.err
    assert states() == {stage: ("finished", False) for stage in (1, 2, 3)}
    assert [run["stage"] for run in ended.json["runs"]] == [2, 3]
    for run in ended.json["runs"]:
        settings = RunFolder(Path(run["folder"])).settings()
        assert (settings["training"]["steps"], settings["training"]["log_every"]) == (2, 1)
        assert read_json(Path(run["folder"]) / "origins.json")["training.log_every"] == "command line"


@pytest.mark.slow
def test_another_command_with_resume_is_refused_with_what_differs(muse: Muse, between: Path) -> None:
    for more, what in (
        (("--stage", "1-2"), "run.stage cannot change"),
        (("--stage", "2"), "run.stage cannot change"),
        (("--steps", "3"), "training.steps cannot change"),
        (("--out", "elsewhere"), "run.out cannot change"),
        (("--set", "losses.pixel=2"), "losses.pixel cannot change"),
    ):
        ended = muse("train", *more, "--resume")
        assert ended.code == ExitCode.SETTINGS, (more, ended.err)
        assert what in ended.err
    (between / CHAIN).write_text('{"stages": [{}]}')
    ended = muse("train", "--resume")
    assert "does not say what comes after this run" in ended.err
