"""Shards that are deleted, cut short or replaced while a training reads them."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from muse_core.model.checkpoint import read_state
from muse_core.runs import RunFolder, is_run
from tests.faults.killing import resumed
from tests.faults.scene import STEPS, Scene, error_in
from tests.faults.trial import Shown, Trial

Damage = Callable[[Path, np.random.Generator], None]
TOLERANT = ("--set", "data.limit_errors=0.5", "--set", "data.lanes=2")
"""Two shards in a lane: with one that is gone, there is still something to read in it."""


def delete(shard: Path, rng: np.random.Generator) -> None:
    shard.unlink()


def cut_short(shard: Path, rng: np.random.Generator) -> None:
    content = shard.read_bytes()
    shard.write_bytes(content[: int(rng.integers(0, len(content) - 10_240))])


def replace(shard: Path, rng: np.random.Generator) -> None:
    """Put another shard in its place, which often is of the same size."""
    aside = shard.with_suffix(".new")
    others = sorted(shard.parent.glob("*.tar"))
    aside.write_bytes(others[int(rng.integers(len(others)))].read_bytes())
    aside.replace(shard)


def damaged(damage: Damage) -> Trial:
    """A run that accepts no damage: it ends, and goes on when the shard is back."""
    return partial(_strict, damage)


def tolerated(damage: Damage) -> Trial:
    """A run that passes over some damage: it ends as it should, and counts what was passed over."""
    return partial(_tolerant, damage)


def _own_shards(scene: Scene, folder: Path) -> Path:
    return Path(shutil.copytree(scene.shards, folder / "shards"))


def _strict(damage: Damage, scene: Scene, rng: np.random.Generator) -> Shown | None:
    folder = scene.folder()
    shards = _own_shards(scene, folder)
    running = scene.train(folder, shards=shards)
    running.wait_for(lambda: is_run(running.run.path))
    running.wait_for_steps(int(rng.integers(0, STEPS // 2)))
    victim = shards / f"{rng.integers(4):06d}.tar"
    content = victim.read_bytes()
    damage(victim, rng)
    code = running.code()
    victim.write_bytes(content)
    if code == 0:  # everything had been read before
        return None
    return resumed(scene, folder, (error_in(running.said, folder), code))


def _tolerant(damage: Damage, scene: Scene, rng: np.random.Generator) -> Shown | None:
    folder = scene.folder()
    shards = _own_shards(scene, folder)
    running = scene.train(folder, *TOLERANT, shards=shards)
    running.wait_for(lambda: is_run(running.run.path))
    running.wait_for_steps(int(rng.integers(0, STEPS // 2)))
    damage(shards / f"{rng.integers(4):06d}.tar", rng)
    code = running.code()
    last = RunFolder(folder / "run").last_checkpoint()
    counted = sum(read_state(last).training["skipped"].values()) if last else 0
    said = error_in(running.said, folder)
    if code == 0 and not counted:
        return None
    told = "samples are passed over" in said
    problem = "" if code == 0 and told else f"{counted} samples were passed over and not told"
    return Shown(said.partition(" (first")[0], code, "samples of that shard, counted in state.json", 0, problem)
