"""Runs that are killed outright, at random moments, and resumed, end as runs that nobody touched.

Two trials here; MUSE_KILL_TRIALS=20 makes it the twenty of a release. Real processes, killed with SIGKILL: nothing is
told to stop, and nothing gets to save.
"""

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import yaml

from muse_cli.main import main
from muse_core.data.writer import write_scene_shards
from muse_core.runs import RunFolder, is_run
from tests.training.mini import Changes, lean
from tests.training.test_resume import assert_equal_runs

TRIALS = int(os.environ.get("MUSE_KILL_TRIALS", "2"))
MOST = 4 * TRIALS + 4
PATIENCE_S = 300.0
STEPS, SAVE_EVERY = 6, 2
RECIPE: Changes = {
    "training.steps": STEPS,
    "training.save_every": SAVE_EVERY,
    "training.keep": STEPS,
    "losses.adversarial_start": 1,
    "data.workers": 1,
}

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["muse_core.training.start", "muse_cli.main", "muse_cli.launch", "muse_cli.commands.train"]
)


@dataclass(frozen=True)
class Running:
    """A command on its way, and the run it fills."""

    process: BaseProcess
    run: RunFolder

    def lines(self) -> int:
        path = self.run.path / "metrics.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def partial(self) -> list[str]:
        folder = self.run.path / "checkpoints"
        return [name for name in os.listdir(folder) if name.startswith(".step-")] if folder.exists() else []

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Look without rest until something is so, or the process is over."""
        deadline = time.monotonic() + PATIENCE_S
        while not ready() and self.process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.0005)

    def kill(self) -> str:
        """Kill it, and say in the midst of what it was."""
        was_alive = self.process.is_alive()
        self.process.kill()
        self.process.join()
        if not was_alive or self.process.exitcode != -9:
            return "already over"
        if self.partial():
            return "while a partial checkpoint exists"
        return "between saves" if self.run.checkpoints() else "before the first save"


def before_first_save(running: Running, rng: np.random.Generator) -> None:
    steps = int(rng.integers(0, SAVE_EVERY))
    running.wait_for(lambda: running.lines() >= steps)
    time.sleep(rng.uniform(0.0, 0.01))


def while_saving(running: Running, rng: np.random.Generator) -> None:
    step = SAVE_EVERY * int(rng.integers(1, STEPS // SAVE_EVERY + 1))
    running.wait_for(lambda: any(name.startswith(f".step-{step:07d}") for name in running.partial()))
    time.sleep(rng.uniform(0.0, 0.004))


def at_any_time(running: Running, rng: np.random.Generator) -> None:
    time.sleep(rng.uniform(0.0, 3.0))


WANTED = ("before the first save", "while a partial checkpoint exists")
MOMENTS = (before_first_save, while_saving, at_any_time)


def start(run: Path, *arguments: str) -> Running:
    process = FORKS.Process(target=main, args=(["train", *arguments, "--quiet"],))
    process.start()
    return Running(process, RunFolder(run))


def finish(running: Running) -> Path:
    running.process.join(PATIENCE_S)
    assert running.run.status.state == "finished", running.run.status
    return running.run.path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings of a stage with every kind of state, on shards small enough to be read more than once."""
    shards = write_scene_shards("train", 24, tmp_path / "shards", per_shard=6, size=32).folder
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(lean(3, {**RECIPE, "data.train": str(shards)}).model_dump(mode="json")))
    return path


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed_every_run_ends_with_the_same_bits(config: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng()
    whole = finish(start(tmp_path / "whole", "--config", str(config), "--out", str(tmp_path / "whole")))
    killed: Counter[str] = Counter()
    least = max(1, TRIALS // 4)
    for trial in range(MOST):
        if killed.total() >= TRIALS and min(killed[what] for what in WANTED) >= least:
            break
        run = tmp_path / f"run{trial}"
        running = start(run, "--config", str(config), "--out", str(run))
        running.wait_for(lambda run=run: is_run(run))  # type: ignore[misc]
        MOMENTS[trial % len(MOMENTS)](running, rng)
        moment = running.kill()
        if moment == "already over":
            continue
        killed[moment] += 1
        workers = int(rng.integers(0, 4))
        finish(start(run, "--resume", str(run), "--set", f"data.workers={workers}"))
        assert_equal_runs(run, whole)
    print(dict(killed))
    assert killed.total() >= TRIALS
    assert min(killed[what] for what in WANTED) >= least, killed
