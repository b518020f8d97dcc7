"""`muse train --dry-run`: what it tells of memory and of other machines, and that the command agrees with it."""

from pathlib import Path

import pytest

from muse_cli import launch
from muse_core import machine
from muse_core.devices import Devices, assumed_devices, planned_devices
from muse_core.errors import ExitCode, MuseError
from muse_core.runs import RunFolder
from tests.cli.conftest import Muse

TINY = ("train", "--stage", "1", "--size", "tiny", "--data", "demo", "--devices", "cpu", "--track", "none")
SMALL = ("--steps", "1", "--batch-size", "8", "--set", "data.workers=0", "--set", "data.val=")


@pytest.fixture(autouse=True)
def two_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without GPUs."""
    monkeypatch.setattr(machine, "devices", lambda: (machine.Device("cpu", "processor", 2 * 2**30),))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("8x80GB", Devices("cuda", 8, 80 * 10**9, here=False)),
        ("80GiB", Devices("cuda", 1, 80 * 2**30, here=False)),
        ("2x39.5gib", Devices("cuda", 2, int(39.5 * 2**30), here=False)),
        ("cpu:32GB", Devices("cpu", 1, 32 * 10**9, here=False)),
    ],
)
def test_a_machine_is_assumed_by_number_and_size(text: str, meant: Devices) -> None:
    assert assumed_devices(text) == meant


@pytest.mark.parametrize("text", ["", "8", "8x", "0x80GB", "80 TB", "cpu", "8x80", "gpu:80GB"])
def test_what_is_no_machine_is_refused(muse: Muse, text: str) -> None:
    ended = muse("train", "--stage", "1", "--size", "tiny", "--dry-run", "--assume", text or " ")
    assert (ended.code, "expected a machine such as 8x80GB" in ended.err) == (ExitCode.USAGE, True)


def test_devices_that_are_not_here_can_be_planned_for_but_not_used(muse: Muse) -> None:
    assert planned_devices("8", "1b") == Devices("cuda", 8, None, here=False)
    assert planned_devices("0,2", "1b") == Devices("cuda", 2, None, here=False)
    assert planned_devices("cuda:1", "1b") == planned_devices("cuda", "1b") == Devices("cuda", 1, None, here=False)
    assert planned_devices("cpu:2", "1b") == Devices("cpu", 2, 2**30)
    asked = ("train", "--stage", "1", "--size", "tiny", "--batch-size", "32", "--devices", "8")
    planned = muse(*asked, "--dry-run")
    assert planned.code == ExitCode.DONE, planned.err
    assert "batch    32 images = 8 process(es) x 1 part(s) x 4" in planned.out
    assert "planned  for 8 GPUs, memory not known: not what this machine has" in planned.out
    assert "\ntime " not in planned.out  # what was measured here says nothing of another machine
    assert "\ntime " in muse(*asked[:-2], "--dry-run").out
    assert muse(*asked).code == ExitCode.MACHINE
    with pytest.raises(MuseError, match="these are no devices"):
        planned_devices("gpu", "1b")


def test_another_machine_is_for_plans_alone(muse: Muse) -> None:
    for more in (("--assume", "80GB"), ("--assume", "80GB", "--dry-run", "--devices", "2")):
        assert muse("train", "--stage", "1", "--size", "tiny", *more).code == ExitCode.USAGE
    planned = muse("train", "--stage", "1", "--size", "tiny", "--dry-run", "--assume", "4x16GB")
    assert planned.code == ExitCode.DONE, planned.err
    assert "planned  for 4 GPUs, 14.9 GiB each: not what this machine has" in planned.out
    assert "room     fits: " in planned.out
    assert "of 14.9 GiB a device" in planned.out


@pytest.mark.parametrize(
    "more",
    [
        ("--batch-size", "16000000"),
        ("--out", "taken"),
        ("--out", "file/run"),
        ("--data", "nowhere"),
        ("--set", "data.lanes=3"),
        ("--init", "nowhere"),
        (),
    ],
    ids=" ".join,
)
def test_a_dry_run_and_the_command_refuse_the_same(
    muse: Muse, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    Path("taken").mkdir()
    Path("taken/mine.txt").write_text("kept")
    Path("file").touch()
    monkeypatch.setattr("muse_core.stages.start._train", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    typed = (*TINY, *SMALL, *more)
    planned, ended = muse(*typed, "--dry-run"), muse(*typed)
    assert (planned.code != ExitCode.DONE) == (ended.code != ExitCode.INTERRUPTED) == bool(more), ended.err
    if more and planned.code == ExitCode.PROBLEMS:
        first = next(line for line in ended.err.splitlines() if "error: " in line or line.startswith("  - "))
        assert planned.err.count("\n  - ") == 1
        assert first.removeprefix("error: ").split(" (")[0] in planned.err or "cannot start" in first
    assert [path.name for path in Path("taken").iterdir()] == ["mine.txt"]


def test_what_a_later_stage_lacks_is_told_before_the_first_one_trains(
    muse: Muse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "start", lambda *_: pytest.fail("a stage was started"))
    Path("r/stage2").mkdir(parents=True)
    Path("r/stage2/mine.txt").write_text("kept")
    ended = muse("train", "--stage", "1-3", "--size", "tiny", "--data", "demo", "--out", "r")
    assert (ended.code, "r/stage2 is not empty" in ended.err) == (ExitCode.FILE, True), ended.err


def test_a_dry_run_of_a_run_that_goes_on_changes_nothing(muse: Muse, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.training.mini import lean

    settings = lean(1, {"run.out": "mine"})
    run = RunFolder.create(Path("mine"), settings.model_dump(mode="json"), {}, stage=1, size="tiny")
    run.interrupt(KeyboardInterrupt())
    monkeypatch.setattr(launch, "resume", lambda *_: pytest.fail("the run went on"))
    before = {path: path.read_bytes() for path in Path("mine").rglob("*") if path.is_file()}
    planned = muse("train", "--resume", "mine", "--save-every", "7", "--dry-run")
    assert planned.code == ExitCode.DONE, planned.err
    assert "memory " in planned.out
    assert {path: path.read_bytes() for path in Path("mine").rglob("*") if path.is_file()} == before
