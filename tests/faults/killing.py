"""Processes that are ended from outside: the trainer, one of two ranks, a reader; at random moments."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from muse_core.runs import is_run
from tests.faults.commands import Running
from tests.faults.scene import SAVE_EVERY, STEPS, Scene, error_in, steps_of
from tests.faults.trial import Shown, again

TWO = ("--devices", "cpu:2")


def a_moment(running: Running, rng: np.random.Generator) -> None:
    """Wait for some moment of a training: at any step, and in a third of the cases while a checkpoint is written."""
    running.wait_for(lambda: is_run(running.run.path))
    if rng.random() < 1 / 3:
        step = SAVE_EVERY * int(rng.integers(1, STEPS // SAVE_EVERY + 1))
        running.wait_for(lambda: any(name.startswith(f".step-{step:07d}") for name in running.partial()))
        time.sleep(rng.uniform(0.0, 0.004))
    else:
        running.wait_for_steps(int(rng.integers(0, STEPS)))
        time.sleep(rng.uniform(0.0, 0.05))


def resumed(scene: Scene, folder: Path, shown: tuple[str, int], *more: str) -> Shown:
    """Go on with the run of a trial, and compare its end with that of an undisturbed one."""
    running = scene.resume(folder)
    told, saved = steps_of(running.run)
    problem = scene.difference(running.run.path, *more) if running.code() == 0 else error_in(running.said, folder)
    return Shown(*shown, again(told, saved), max(told - saved, 0), problem)


def kill_trainer(scene: Scene, rng: np.random.Generator) -> Shown | None:
    folder = scene.folder()
    running = scene.train(folder)
    a_moment(running, rng)
    if running.kill() == "already over":
        return None
    return resumed(scene, folder, ("Killed (by the shell)", 128 + signal.SIGKILL))


def kill_rank(scene: Scene, rng: np.random.Generator) -> Shown | None:
    folder = scene.folder()
    running = scene.train(folder, *TWO)
    a_moment(running, rng)
    ranks = [child for child in running.children() if b"muse_cli.worker" in command_line(child)]
    if len(ranks) < 2:
        running.code()
        return None
    os.kill(int(rng.choice(ranks)), signal.SIGKILL)
    began = time.monotonic()
    code = running.code()
    seconds = time.monotonic() - began
    if code == 0:
        return None
    shown = resumed(scene, folder, (error_in(running.said, folder), code), *TWO)
    return shown if seconds < 30 else Shown(shown.line, code, shown.lost, problem=f"it took {seconds:.0f} s to end")


def kill_reader(scene: Scene, rng: np.random.Generator) -> Shown | None:
    folder = scene.folder()
    running = scene.train(folder)
    a_moment(running, rng)
    readers = running.children()
    if not readers:
        running.code()
        return None
    os.kill(readers[0], signal.SIGKILL)
    code = running.code()
    return resumed(scene, folder, (error_in(running.said, folder), code)) if code else None


def terminate(scene: Scene, rng: np.random.Generator) -> Shown | None:
    folder = scene.folder()
    running = scene.train(folder)
    a_moment(running, rng)
    running.process.terminate()
    code = running.code()
    return resumed(scene, folder, (error_in(running.said, folder), code)) if code else None


def command_line(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:  # it is over
        return b""
