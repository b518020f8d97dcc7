"""What is said, and where; progress for terminals and for logs."""

import json
from pathlib import Path

import pytest

from muse_cli.output import Output, table, to_json
from muse_cli.progress import BarProgress, LineProgress, time_text
from muse_core.errors import ExitCode


def test_a_table_aligns_words_left_and_numbers_right() -> None:
    rows = [("psnr", 22.8451, 3), ("fd-tiny-clip", 7.0, None)]
    assert table(rows, ("metric", "value", "n")).splitlines() == [
        "metric        value  n",
        "psnr          22.85  3",
        "fd-tiny-clip      7  -",
    ]


def test_json_holds_what_every_parser_reads() -> None:
    value = {"nan": float("nan"), "path": Path("a/b"), "code": ExitCode.FILE, "tuple": (1, 2), 3: None}
    assert json.loads(json.dumps(to_json(value))) == {"nan": None, "path": "a/b", "code": 4, "tuple": [1, 2], "3": None}


def test_quiet_leaves_results_warnings_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.verbosity = -1
    out.say("talk")
    out.warn("careful")
    out.result({}, "result")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("result\n", "warning: careful\n")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (72, "1 m 12 s"), (11520, "3 h 12 m"), (3600, "1 h 0 m")]
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_in_a_log_progress_is_one_line_every_ten_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("muse_cli.progress.time.monotonic", lambda: now[0])
    with LineProgress(Output()).track("stage 1", 100) as tracker:
        for _ in range(100):
            now[0] += 0.7
            tracker.advance(note="pixel 0.083")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "stage 1 15/100  1.43/s  59 s left  pixel 0.083",
        "stage 1 30/100  1.43/s  49 s left  pixel 0.083",
        "stage 1 45/100  1.43/s  38 s left  pixel 0.083",
        "stage 1 60/100  1.43/s  28 s left  pixel 0.083",
        "stage 1 75/100  1.43/s  18 s left  pixel 0.083",
        "stage 1 90/100  1.43/s  7 s left  pixel 0.083",
        "stage 1 100/100 in 1 m 10 s",
    ]


def test_quick_work_leaves_no_line_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with LineProgress(Output()).track("reading", 3) as tracker:
        tracker.advance(3)
    assert capsys.readouterr().err == ""


def test_bars_end_cleanly_when_the_work_fails(capsys: pytest.CaptureFixture[str]) -> None:
    bars = BarProgress(Output())

    def fail() -> None:
        with bars.track("outer", 2) as outer, bars.track("inner", 2) as inner:
            inner.advance()
            outer.advance(note="half")
            bars.say("between [brackets]")
            raise ValueError("oh")

    with pytest.raises(ValueError, match="oh"):
        fail()
    bars.say("after")
    said = capsys.readouterr()
    assert said.out == ""
    assert "between [brackets]" in said.err
    assert said.err.endswith("after\n")
