"""The demo is found, is not begun again beside itself, and goes on with everything after it was stopped."""

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from muse_core import api, demo
from muse_core.demo_record import FILE, DemoRecord, begun, default_place, read_record, resumed
from muse_core.errors import MuseError
from muse_core.interrupts import Terminated
from muse_core.marks import mark_of
from muse_core.progress import Progress, Silent
from muse_core.run_search import newest_finished
from muse_core.runs import RunFolder
from tests.training.mini import LEAN, StopAt

ASKED = DemoRecord(quick=True)
ONE, TWO = Path("runs/demo"), Path("runs/demo-quick")


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MUSE_RUNS", raising=False)
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))


def left(root: Path, record: DemoRecord = ASKED, **changes: Any) -> None:
    """Leave a demo as a stopped one is."""
    with begun(root, record, Silent()) as journal:
        journal.note(**changes)


def refused(begin: Any) -> tuple[str, str]:
    with pytest.raises(MuseError) as caught, begin:
        pass
    return caught.value.what, str(caught.value.hint)


def test_a_demo_goes_where_runs_are_looked_for() -> None:
    assert (default_place(quick=False), default_place(quick=True)) == (ONE, TWO)
    run = RunFolder.create(demo.Places(ONE).run(3), {}, {}, stage=3, size="tiny", steps=1)
    with run.checkpoint(1) as folder:
        (folder / "state.json").write_text("{}")
    run.finish(1)
    assert newest_finished() == run


def test_a_demo_is_not_begun_again_beside_itself() -> None:
    left(TWO, at="stage 2")
    assert refused(begun(TWO, ASKED, Silent())) == (
        "runs/demo-quick holds a demo that is not finished: it came as far as stage 2",
        "muse demo --resume goes on with it; muse demo --quick --out runs/demo-quick-2 makes another one",
    )
    with resumed(TWO, False, Silent()) as journal:
        for begin in (begun(TWO, ASKED, Silent()), resumed(TWO, False, Silent())):
            assert refused(begin)[0] == "runs/demo-quick is in use: this process writes to it"
        journal.note(state="finished")
    for begin in (begun(TWO, ASKED, Silent()), resumed(TWO, False, Silent())):
        assert refused(begin) == (
            "runs/demo-quick holds a finished demo: runs/demo-quick/report.html",
            "muse demo --quick --out runs/demo-quick-2 makes another one",
        )
    assert [path.name for path in Path("runs").iterdir()] == ["demo-quick"]


def test_beside_what_is_no_demo_it_is_begun_once() -> None:
    for name in ("", "-2"):
        Path(f"mine{name}").mkdir()
        Path(f"mine{name}/thesis.tex").write_text("years")
    Path("mine-2/thesis.tex").unlink()
    Path("mine-2", FILE).write_text('{"format": "muse-demo/1", "quick": "yes"}')  # is none either
    left(Path("mine"))
    assert read_record(Path("mine-3")) is not None
    assert "muse demo --resume --out mine-3" in refused(begun(Path("mine"), ASKED, Silent()))[1]


def test_resume_finds_the_demo_that_was_last_at_work(tmp_path: Path) -> None:
    begins = ("there is no demo in runs to go on with", "muse demo begins one")
    assert refused(resumed(None, False, Silent())) == begins
    left(ONE, DemoRecord(quick=False), at="stage 3")
    left(TWO)
    with resumed(None, False, Silent()) as journal:
        assert (journal.root, journal.record.quick) == (TWO, True)
        journal.note(state="finished")
    assert refused(resumed(None, True, Silent())) == (
        "every quick demo in runs is finished",
        "muse demo --quick --out runs/demo-quick-2 makes another one",
    )
    with resumed(None, False, Silent()) as journal:
        assert (journal.root, journal.record.at) == (ONE, "stage 3")
    assert refused(resumed(ONE, True, Silent())) == (
        "the demo in runs/demo was not begun with --quick",
        "muse demo --resume",
    )
    assert refused(resumed(tmp_path / "nowhere", False, Silent()))[0] == f"there is no demo in {tmp_path / 'nowhere'}"


@pytest.mark.parametrize(("stop", "state"), [(KeyboardInterrupt(), "interrupted"), (Terminated(), "interrupted")])
def test_being_stopped_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, stop: KeyboardInterrupt, state: str) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise stop

    monkeypatch.setattr(demo, "write_scene_shards", stopped)
    with pytest.raises(type(stop)) as caught:
        demo.run_demo(None, True, Silent())
    assert vars(caught.value)["hint"] == "muse demo --resume goes on with making the data"
    record = read_record(TWO)
    assert record is not None
    assert (record.state, record.at) == (state, "making the data")


@pytest.mark.parametrize(
    ("hint", "told"),
    [
        (None, "muse demo --resume --out x"),
        ("muse train --resume x/stage2 when that is mended", "muse demo --resume --out x when that is mended"),
        ("a smaller --batch-size", "a smaller --batch-size; then muse demo --resume --out x"),
    ],
)
def test_an_error_keeps_its_hint_and_gets_the_way_on(
    monkeypatch: pytest.MonkeyPatch, hint: str | None, told: str
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise MuseError("the disk is full", hint=hint)

    monkeypatch.setattr(demo, "write_scene_shards", broken)
    with pytest.raises(MuseError, match="the disk is full") as caught:
        demo.run_demo(Path("x"), True, Silent())
    assert caught.value.hint == told
    record = read_record(Path("x"))
    assert record is not None
    assert record.state == "failed"


# ----------------------------------------------------------------------------------------------------------- all of it

SMALL = {**LEAN, "data.workers": 0, "training.save_every": 2, "training.eval_every": 2, "model.resolution": 64}
LENGTH = demo.Length(64, 16, 16, 32, {k: v for k, v in SMALL.items() if k not in ("run.init", "data.val")})


class StopInStage2(StopAt):
    """Sends SIGTERM when stage 2 has done two steps."""

    def say(self, text: str) -> None:
        super().say(text)
        if text.startswith("writes ") and "stage2" in text:
            self.done = 0
            self.armed = True

    def advance(self, amount: int = 1, note: str = "") -> None:
        if getattr(self, "armed", False):
            super().advance(amount, note)


def run(out: Path, progress: Progress | None = None, *, resume: bool = False) -> dict[str, Any]:
    return demo.run_demo(out, True, progress or Silent(), resume=resume)


def told(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: (scores["metrics"], scores["baselines"], scores["counts"]) for name, scores in document["scores"].items()
    }


def files(root: Path) -> list[str]:
    """List what is in a folder but the logs of tensorboard, of which each attempt writes one."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if "tfevents" not in path.name)


class KilledError(BaseException):
    """Ends the demo as a kill does: nobody handles it, so that nothing is recorded."""


def kill(*_: object, **__: object) -> None:
    raise KilledError


def run_until(patch: pytest.MonkeyPatch, module: Any, name: str, out: Path, *, resume: bool) -> None:
    """Run the demo until it calls a function."""
    with patch.context() as inner:
        inner.setattr(module, name, kill)
        with pytest.raises(KilledError):
            run(out, resume=resume)


@pytest.mark.slow
def test_a_demo_that_was_stopped_everywhere_ends_as_one_that_never_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "QUICK", LENGTH)
    whole = run(tmp_path / "whole")
    out = tmp_path / "stopped"
    run_until(monkeypatch, api, "train", out, resume=False)
    shards = {path: path.stat().st_mtime_ns for path in out.rglob("*.tar")}
    assert len(shards) == 3 * demo.TARS
    (out / "data/val/000003.tar").unlink()
    (out / "stage1").mkdir()
    (out / "stage1/config.yaml").write_text("")  # as a kill before there is a status leaves it
    with pytest.raises(Terminated) as stopped:
        run(out, StopInStage2(2, signal.SIGTERM), resume=True)
    assert "goes on with stage 2" in vars(stopped.value)["hint"]
    assert RunFolder(out / "stage2").status.state == "interrupted"
    run_until(monkeypatch, api, "probe", out, resume=True)
    kept = (out / "stage3/results/zeroshot.json").stat().st_mtime_ns
    run_until(monkeypatch, demo, "report_page", out, resume=True)
    again = run(out, resume=True)
    assert told(again) == told(whole)
    assert (out / "stage3/results/zeroshot.json").stat().st_mtime_ns == kept
    changed = [path for path, time in shards.items() if path.stat().st_mtime_ns != time and "val" not in path.parts]
    assert changed == []
    for name in ("report.html", "reconstructions.png", "attention-1.png"):
        assert mark_of(out / name) is not None
    assert files(out) == files(tmp_path / "whole")
    document = json.loads((out / FILE).read_text())
    assert (document["state"], len(document["scores"])) == ("finished", 6)
