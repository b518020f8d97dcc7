"""Runs that are killed outright, at random moments, and resumed, end as runs that nobody touched.

Two trials here; MUSE_KILL_TRIALS=20 makes it the twenty of a release. Real processes, killed with SIGKILL: nothing is
told to stop, and nothing gets to save.
"""

import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from muse_core.data.writer import write_scene_shards
from muse_core.runs import is_run
from tests.faults.commands import Running, start
from tests.training.mini import Changes, lean
from tests.training.test_resume import assert_equal_runs

TRIALS = int(os.environ.get("MUSE_KILL_TRIALS", "2"))
MOST = 4 * TRIALS + 4
STEPS, SAVE_EVERY = 6, 2
RECIPE: Changes = {
    "training.steps": STEPS,
    "training.save_every": SAVE_EVERY,
    "training.keep": STEPS,
    "losses.adversarial_start": 1,
    "data.workers": 1,
}


def before_first_save(running: Running, rng: np.random.Generator) -> None:
    steps = int(rng.integers(0, SAVE_EVERY))
    running.wait_for(lambda: running.lines() >= steps)
    time.sleep(rng.uniform(0.0, 0.01))


def while_saving(running: Running, rng: np.random.Generator) -> None:
    step = SAVE_EVERY * int(rng.integers(1, STEPS // SAVE_EVERY + 1))
    running.wait_for(lambda: any(name.startswith(f".step-{step:07d}") for name in running.partial()))
    time.sleep(rng.uniform(0.0, 0.004))


def at_any_time(running: Running, rng: np.random.Generator) -> None:
    time.sleep(rng.uniform(0.0, 1.0))


WANTED = ("before the first save", "while a partial checkpoint exists")
MOMENTS = (before_first_save, while_saving, at_any_time)


def begin(run: Path, *arguments: str) -> Running:
    return start(run, ["train", *arguments, "--quiet"], run.with_suffix(".txt"))


def finish(running: Running) -> Path:
    assert running.code() == 0, running.said.read_text()
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
    whole = finish(begin(tmp_path / "whole", "--config", str(config), "--out", str(tmp_path / "whole")))
    killed: Counter[str] = Counter()
    least = max(1, TRIALS // 4)
    for trial in range(MOST):
        if killed.total() >= TRIALS and min(killed[what] for what in WANTED) >= least:
            break
        run = tmp_path / f"run{trial}"
        running = begin(run, "--config", str(config), "--out", str(run))
        running.wait_for(lambda run=run: is_run(run))  # type: ignore[misc]
        MOMENTS[trial % len(MOMENTS)](running, rng)
        moment = running.kill()
        if moment == "already over":
            continue
        killed[moment] += 1
        workers = int(rng.integers(0, 4))
        finish(begin(run, "--resume", str(run), "--set", f"data.workers={workers}"))
        assert_equal_runs(run, whole)
    print(dict(killed))
    assert killed.total() >= TRIALS
    assert min(killed[what] for what in WANTED) >= least, killed
