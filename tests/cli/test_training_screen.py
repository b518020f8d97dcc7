"""What a terminal shows while a stage trains, and what a log holds of it."""

import io
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pyte
import pytest

from muse_cli.output import Output
from muse_cli.progress import BarProgress, wrapped
from muse_core.runs import RunFolder
from tests.cli.conftest import Muse, shell_environment
from tests.training.mini import train_lean

WIDTHS = (80, 120, 200)
HEIGHT = 120
STEP_S = 1.5
CHANGES = {"data.val": "demo:val", "training.steps": 6, "training.eval_every": 2, "training.save_every": 2}
Event = tuple[str, tuple[Any, ...]]


class Recorder:
    """Progress that only remembers what it was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def say(self, text: str) -> None:
        self.events.append(("say", (text,)))

    def warn(self, text: str) -> None:
        self.events.append(("warn", (text,)))

    @contextmanager
    def track(self, what: str, total: int, unit: str = "") -> Iterator["Recorder"]:
        self.events.append(("track", (what, total, unit)))
        yield self
        self.events.append(("end", ()))

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.events.append(("advance", (amount, note)))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Event]]:
    """What each stage tells while it trains."""
    found = {}
    for stage in (1, 2, 3):
        recorder = Recorder()
        with chdir(tmp_path_factory.mktemp("runs")):
            train_lean(stage, Path("a-run"), CHANGES, recorder)
        found[stage] = recorder.events
    return found


class Terminal(io.StringIO):
    """A terminal that is looked at."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.screen = pyte.Screen(width, HEIGHT)
        self.screen.set_mode(pyte.modes.LNM)
        self._stream = pyte.Stream(self.screen)

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._stream.feed(text)
        return len(text)

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display if line.strip()]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Event], int], Iterator[tuple[int, list[str]]]]:
    """Tell events to a terminal of a width; yields the step and the screen at every moment after the first step."""

    def show(events: list[Event], width: int) -> Iterator[tuple[int, list[str]]]:
        now, terminal = [0.0], Terminal(width)
        monkeypatch.setattr("time.monotonic", lambda: now[0])
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("LINES", str(HEIGHT))
        monkeypatch.setenv("TERM", "xterm-256color")
        bars, done = BarProgress(Output()), 0
        work: Any = None
        for name, values in events:
            if name == "track":
                work = bars.track(*values)
                tracker = work.__enter__()
            elif name == "end":
                work.__exit__(None, None, None)
                done = 0
            elif name == "advance":
                now[0] += STEP_S * values[0]
                tracker.advance(*values)
                done += values[0]
            else:
                getattr(bars, name)(*values)
            if done:
                bars._live.refresh()
                yield done, terminal.lines
        yield 0, terminal.lines

    return show


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_step_total_rate_and_time_left_are_readable_at_any_moment(
    told: dict[int, list[Event]], shown: Callable[..., Iterator[tuple[int, list[str]]]], stage: int, width: int
) -> None:
    moments = list(shown(told[stage], width))
    assert len(moments) > 12
    for done, lines in moments[:-1]:
        (head,) = [line for line in lines if line.startswith(f"stage {stage} step ")]
        left = f"{round(STEP_S * (6 - done))} s left"
        assert re.search(rf" {done}/6  0\.667 steps/s  {left}$", head), head
    *_, (_, ended) = moments
    assert not [line for line in ended if line.startswith(f"stage {stage} step ")], "the bar is gone at the end"


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_no_word_is_broken_and_every_loss_is_shown(
    told: dict[int, list[Event]], shown: Callable[..., Iterator[tuple[int, list[str]]]], stage: int, width: int
) -> None:
    # Commands are left to the terminal to break, which then copies them as one line.
    events = [event for event in told[stage] if not str(event[1][:1]).startswith("('next: ")]
    notes = [values[1] for name, values in events if name == "advance" and values[1]]
    words = {word for name, values in events if name != "end" for word in " ".join(map(str, values)).split()}
    words |= set(re.findall(r"\S+", " ".join(f"{n}/6" for n in range(7)))) | {"0.667", "steps/s", "left", "s"}
    *moments, (_, ended) = shown(events, width)
    _, lines = moments[-1]
    for part in notes[-1].split("  "):
        assert part in "\n".join(lines), f"{part} is not whole on the screen"
    for word in " ".join([*lines, *ended]).split():
        assert word in words or word.strip("━╸╺") == "" or re.fullmatch(r"\d+", word), word


@pytest.mark.parametrize("width", [20, 37, 60])
def test_on_a_narrow_terminal_the_facts_take_lines_of_their_own(
    shown: Callable[..., Iterator[tuple[int, list[str]]]], width: int
) -> None:
    events: list[Event] = [("track", ("stage 3 step", 6, "steps"))]
    events += [("advance", (1, "adversarial -0.068  discriminator 0.825"))] * 3 + [("end", ())]
    *moments, _ = shown(events, width)
    for done, lines in moments:
        text = "\n".join(lines)
        for fact in (f"{done}/6", "0.667 steps/s", f"{round(STEP_S * (6 - done))} s left", "adversarial -0.068"):
            assert fact in text


def test_parts_are_joined_as_far_as_they_fit() -> None:
    assert wrapped(["pixel 0.1", "", "fake 0.2", "real 0.3"], 20) == ["pixel 0.1  fake 0.2", "real 0.3"]
    assert wrapped(["a" * 30, "b"], 20) == ["a" * 30, "b"]


# ------------------------------------------------------------------------------------------------- without a terminal


ASKED = "--stage 3 --size tiny --init none --devices cpu --batch-size 8 --track none --steps 4 --eval-every 2"
SETS = "model.width=32 model.blocks=2 data.lanes=4 data.workers=0 data.val_images=4 training.log_every=1"
QUICK = [*ASKED.split(" "), *(text for key in SETS.split(" ") for text in ("--set", key))]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a log tell every step, and the expected time after the first ones."""
    monkeypatch.setattr("muse_cli.progress.LINE_EVERY_S", 0.0)
    monkeypatch.setattr("muse_core.progress.TELLING_S", 0.0)
    monkeypatch.setattr("muse_core.progress.SETTLING_S", 0.0)


def log_of(run: str) -> list[str]:
    return [line.partition(" ")[2] for line in Path(run, "log.txt").read_text().splitlines()]


@pytest.mark.slow
def test_lines_of_a_log_carry_losses_units_and_held_out_scores(muse: Muse, at_once: None) -> None:
    ended = muse("train", *QUICK, "--out", "r")
    assert (ended.code, ended.out) == (0, "r\n")
    steps = [line for line in ended.err.splitlines() if line.startswith("stage 3 step ")]
    last = next(line for line in steps if line.startswith("stage 3 step 4/4"))
    for loss in ("pixel", "perceptual", "topology", "contrastive", "adversarial"):
        assert re.search(rf"  {loss} -?\d+\.\d{{3}}  ", last)
    assert re.search(r"4/4  \S+ steps/s  0 s left  ", last)
    assert re.search(r"  \S+ images/s: data \S+, steps \S+, limit \w+", last)
    assert re.search(r"held out psnr \S+ dB, topology \S+ nats at step 2$", last)
    assert re.search(r"^expects  .* for the other 1 steps, measured over 3$", ended.err, re.MULTILINE)


@pytest.mark.slow
def test_the_log_of_a_run_holds_plan_progress_and_end(muse: Muse, at_once: None) -> None:
    ended = muse("train", *QUICK, "--out", "r", "--quiet")
    assert (ended.out, ended.err) == ("r\n", "")
    log = "\n".join(log_of("r"))
    for begin in ("stage 3 of 3", "trains ", "losses ", "held out demo:val: the highest psnr", "time ", "steps "):
        assert f"\n{begin}" in f"\n{log}"
    for text in (
        "stage 3 step 4/4  ",
        "saved    step 4",
        "best     step 4: psnr ",
        "finished at step 4",
        "next: muse ",
    ):
        assert text in log
    assert muse("train", *QUICK, "--out", "r", "--quiet", "--set", "optim.lr=1e30", "--overwrite").code != 0
    assert re.search(r"^failed at step 0: step \d: the ", "\n".join(log_of("r")), re.MULTILINE)


@pytest.mark.slow
def test_with_json_no_progress_is_on_stdout(muse: Muse, at_once: None) -> None:
    ended = muse("train", *QUICK, "--out", "r", "--json")
    document = json.loads(ended.out)
    assert "stage 3 step" in ended.err
    assert set(document["validation"]) == {"val/psnr", "val/topology"}
    assert document["seconds"] > 0
    assert document["best"] == f"r/checkpoints/{Path('r/checkpoints/best').read_text().strip()}"
    assert document["next"] == ["muse eval r --data demo:val", "muse report r"]


@pytest.mark.slow
def test_with_several_processes_the_first_one_tells(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "muse_cli", "train", *QUICK, "--out", "r", "--devices", "cpu:2"]
    done = subprocess.run(command, cwd=tmp_path, env=shell_environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "r\n"
    assert done.stderr.count("finished stage 3, size tiny: 4 steps in ") == 1
    assert done.stderr.count("next: muse report r") == 1
    log = log_of(str(tmp_path / "r"))
    assert [line for line in log if line.startswith("stage 3 step 4/4")]
    assert log[0].startswith("stage 3 of 3")
    assert "finished at step 4" in log
    assert not [line for line in log_of_other(tmp_path / "r") if "stage 3 step" in line]


def log_of_other(run: Path) -> list[str]:
    return [line for path in run.glob("log-*.txt") for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("color", [False, True])
def test_a_real_terminal_shows_it(tmp_path: Path, color: bool) -> None:
    """The command itself in a terminal of 80 columns, stopped with Ctrl-C."""
    environment = {**shell_environment(TERM="xterm-256color"), **({} if color else {"NO_COLOR": "1"})}
    for name in ("COLUMNS", "LINES", *(["NO_COLOR"] if color else [])):
        environment.pop(name, None)
    mine, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 80, 0, 0))
    quick = [*QUICK, "--steps", "400", "--out", "r"]
    process = subprocess.Popen(
        [sys.executable, "-m", "muse_cli", "train", *quick],
        cwd=tmp_path,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    screen = pyte.Screen(80, 60)
    stream, raw, heads = pyte.ByteStream(screen), b"", []
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if select.select([mine], [], [], 0.1)[0]:
            try:
                raw += (chunk := os.read(mine, 65536))
            except OSError:
                break
            stream.feed(chunk)
        heads += [line.rstrip() for line in screen.display if re.search(r" [1-9]\d*/400 ", line)]
        if len(heads) >= 20 and process.poll() is None and "sent" not in environment:
            environment["sent"] = "1"
            process.send_signal(2)
    code = process.wait(timeout=60)
    text = "\n".join(line.rstrip() for line in screen.display)
    assert code == 130, text
    assert all(re.search(r"/400( +\S+ steps/s +.* left| +time left unknown)$", head) for head in heads), heads
    step = RunFolder(tmp_path / "r").status.step
    assert f"interrupted; step {step} of r is saved" in text
    assert "hint: muse train --resume r" in text
    assert (b"\x1b[38" in raw or b"\x1b[3" in raw) == color
