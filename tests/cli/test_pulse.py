"""No silent span over ten seconds: what is told when nothing else is, without waiting for it."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from muse_cli import progress, pulse
from muse_cli.output import Output
from muse_cli.progress import BarProgress, LineProgress
from muse_cli.pulse import LOOK_S, SILENT_S, beat, beating
from tests.cli.conftest import Muse
from tests.cli.test_quick import python

Patch = pytest.MonkeyPatch


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: Patch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture
def told(monkeypatch: Patch) -> list[str]:
    lines: list[str] = []
    tell = Output.tell

    def noted(output: Output, text: str) -> None:
        lines.append(text)
        tell(output, text)

    monkeypatch.setattr(Output, "tell", noted)
    return lines


def output(*typed: str) -> Output:
    out = Output()
    out.reset(json=False, typed=typed)
    return out


def test_ten_seconds_are_never_passed() -> None:
    assert SILENT_S + LOOK_S < 10
    assert progress.LINE_EVERY_S <= 10


def test_a_command_that_says_nothing_is_said_to_be_at_work(clock: Clock, told: list[str]) -> None:
    out = output("--json", "inspect", "x")
    clock.now += SILENT_S - 0.1
    beat(out)
    assert told == []
    clock.now += 0.1
    beat(out)
    beat(out)  # what it told is not silence
    assert told == ["inspect: at work  9 s so far"]
    clock.now += SILENT_S
    beat(out)
    assert told[1:] == ["inspect: at work  18 s so far"]


def test_what_is_told_otherwise_starts_the_span_anew(clock: Clock, told: list[str]) -> None:
    out = output("eval")
    clock.now += 8
    out.say("something")
    clock.now += 8
    beat(out)
    assert told == ["something"]


def test_work_is_named_and_the_innermost_of_it(clock: Clock, told: list[str]) -> None:
    out = output("eval")
    with out.doing("loading tiny"):
        clock.now += 30
        beat(out)
        with LineProgress(out).track("images", 8, "images") as tracker:
            clock.now += 1
            tracker.advance(2, "note")
            clock.now += SILENT_S
            beat(out)
        clock.now += SILENT_S
        beat(out)
    clock.now += SILENT_S
    beat(out)
    assert told == [
        "loading tiny  30 s so far",
        "images 2/8  2 images/s  3 s left  note  10 s so far",
        "images 2/8 in 10 s",  # as it told before
        "loading tiny  49 s so far",
        "eval: at work  58 s so far",
    ]


@pytest.mark.parametrize("silent", [lambda out: out.mute(), lambda out: setattr(out, "verbosity", -1)])
def test_quiet_is_quiet(clock: Clock, told: list[str], silent: Callable[[Output], None]) -> None:
    out = output("eval")
    silent(out)
    clock.now += 60
    beat(out)
    assert told == []


def test_bars_that_are_drawn_need_no_words(clock: Clock, told: list[str]) -> None:
    out = output("eval")
    with BarProgress(out).track("images", 8):
        clock.now += 60
        beat(out)
    assert told == []


def test_a_process_looks_by_itself_while_the_block_lasts(told: list[str], monkeypatch: Patch) -> None:
    monkeypatch.setattr(pulse, "SILENT_S", 0.0)
    monkeypatch.setattr(pulse, "LOOK_S", 0.001)
    out = output("eval")
    with beating(out):
        for _ in range(10_000):
            if told:
                break
            time.sleep(0.001)
    assert set(told) == {"eval: at work  0 s so far"}
    assert "pulse" not in [thread.name for thread in threading.enumerate()]


BUSY = """
import os, sys
from muse_cli import pulse
from muse_cli.__main__ import console
from muse_cli.tokenizer import load
import muse_core.api
pulse.SILENT_S, pulse.LOOK_S = 0.0, 0.01
def slowly(where, device):
    import time
    time.sleep(0.5)
    sys.exit(7)
muse_core.api.load_tokenizer = slowly
sys.argv[1:] = ["infer", "photo.png", "--checkpoint", "tiny"]
console()
"""


def test_a_program_says_that_a_model_is_being_loaded(tmp_path: Path) -> None:
    (tmp_path / "photo.png").touch()
    ended = python(BUSY, tmp_path)
    assert (ended.code, ended.out) == (7, "")
    assert "loading tiny  0 s so far" in ended.err.splitlines()


def test_a_command_inside_another_program_has_no_thread(muse: Muse) -> None:
    before = threading.active_count()
    assert muse("ls", "presets").code == 0
    assert threading.active_count() == before
    assert "muse_cli.pulse" in sys.modules
