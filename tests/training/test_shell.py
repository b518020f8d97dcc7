"""Training as a user starts and stops it, from the shell."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from muse_core.model.checkpoint import read_state
from muse_core.runs import RunFolder

TINY = ["--size", "tiny", "--init", "none", "--batch-size", "8", "--track", "none", "--devices", "cpu"]
SETTINGS = {"model.width": 32, "model.blocks": 2, "data.lanes": 4, "data.workers": 1, "data.val_images": 4}
SETS = [text for key, value in {**SETTINGS, "training.log_every": 1}.items() for text in ("--set", f"{key}={value}")]


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MUSE_")}
    return {
        **kept,
        "MUSE_RUNS": str(folder / "runs"),
        "MUSE_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
    }


def muse(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "muse_cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=600)


def stop_after_two_steps(folder: Path, arguments: Sequence[str], number: int) -> tuple[int, str]:
    """Start a command, send it a signal once two steps are told, and return how it ended.

    The signal goes to the whole group, readers included, as a terminal's Ctrl-C and a scheduler's SIGTERM do.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "muse_cli", *arguments],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    metrics = folder / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if metrics.exists() and len(metrics.read_text().splitlines()) >= 2:
            os.killpg(process.pid, number)
            break
        time.sleep(0.05)
    _, err = process.communicate(timeout=300)
    return process.returncode, err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "devices"),
    [(signal.SIGTERM, 143, "cpu"), (signal.SIGINT, 130, "cpu"), (signal.SIGTERM, 143, "cpu:2")],
)
def test_a_stopped_command_has_its_code_and_its_run_goes_on(
    tmp_path: Path, number: int, code: int, devices: str
) -> None:
    arguments = ["train", "--stage", "1", *TINY, *SETS, "--steps", "40", "--out", "run", "--devices", devices]
    returned, err = stop_after_two_steps(tmp_path, arguments, number)
    assert returned == code, err
    assert "muse train --resume run" in err
    status = RunFolder(tmp_path / "run").status
    assert (status.state, status.exit_code) == ("interrupted", code)
    assert 2 <= status.step < 40
    cursor = read_state(RunFolder(tmp_path / "run").checkpoints()[-1]).training["cursor"]
    assert cursor == {str(lane): 2 * status.step for lane in range(4)}
    again = muse(tmp_path, "train", "--resume", "run", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["steps"] == 40
    assert [line["step"] for line in RunFolder(tmp_path / "run").metrics() if "lr" in line] == list(range(1, 41))


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_and_either_goes_on_with_the_others_run(tmp_path: Path) -> None:
    """The same batches, gathered negatives and averaged gradients; only the order of sums differs."""
    arguments = ["train", "--stage", "3", *TINY, *SETS, "--steps", "4", "--save-every", "2", "--keep", "3"]
    arguments += ["--set", "training.reconstruct=8"]
    for name, devices in (("one", "cpu"), ("two", "cpu:2")):
        done = muse(tmp_path, *arguments, "--devices", devices, "--out", name)
        assert done.returncode == 0, done.stderr
    one, two = (RunFolder(tmp_path / name) for name in ("one", "two"))
    assert_nearly_equal(one, two)

    two.checkpoints()[-1].rename(tmp_path / "taken-away")
    (two.path / "checkpoints" / "last").unlink()
    two.interrupt(KeyboardInterrupt())
    again = muse(tmp_path, "train", "--resume", "two", "--devices", "cpu")
    assert again.returncode == 0, again.stderr
    assert_nearly_equal(one, two)


def assert_nearly_equal(one: RunFolder, two: RunFolder) -> None:
    for run in (one, two):
        cursor = read_state(run.checkpoints()[-1]).training["cursor"]
        assert cursor == {str(lane): 8 for lane in range(4)}
    shown = ("loss/contrastive", "grad_norm/topology", "grad_norm/pixels", "grad_norm/semantic", "grad_norm/shared")
    ours, theirs = ([line for line in run.metrics() if "lr" in line] for run in (one, two))
    assert [line["step"] for line in theirs] == [1, 2, 3, 4]
    for line, other in zip(ours, theirs, strict=True):
        for key in shown:
            assert other[key] == pytest.approx(line[key], rel=2e-2), (line["step"], key)
    assert theirs[0]["negatives"] == ours[0]["negatives"]
