"""Numbers that are not finite, other locales, terminals, full disks behind the output, and runs of other versions."""

import json
import math
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import Tensor

from muse_core.errors import ExitCode
from muse_core.runs import RunFolder
from muse_core.settings.section import fields
from muse_core.settings.train import TrainSettings
from muse_core.stages import objective
from tests.faults.commands import PATIENCE_S
from tests.faults.killing import resumed
from tests.faults.scene import STEPS, Scene, error_in, said_in
from tests.faults.trial import Shown


def not_finite(scene: Scene, rng: np.random.Generator) -> Shown | None:
    folder = scene.folder()
    call = int(rng.integers(0, STEPS))
    running = scene.train(folder, before=partial(spoil_the_loss, call))
    code = running.code()
    return resumed(scene, folder, (error_in(running.said, folder), code))


def spoil_the_loss(call: int) -> None:
    """Let the pixel loss be no number the so-manieth time it is asked for, in this process."""
    calls = iter(range(1_000_000))
    real = vars(objective)["pixel_loss"]

    def spoilt(*values: Any, **named: Any) -> Tensor:
        loss: Tensor = real(*values, **named)
        return loss * math.nan if next(calls) == call else loss

    vars(objective)["pixel_loss"] = spoilt


PLACES = (
    {"LC_ALL": "C", "TZ": "Pacific/Kiritimati", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "C.UTF-8", "TZ": "America/St_Johns"},
    {"LC_ALL": "tr_TR.UTF-8", "TZ": "Asia/Kathmandu", "LANGUAGE": "tr"},
    {"LC_ALL": "POSIX", "TZ": "XXX+23:59"},
)


def elsewhere(place: Mapping[str, str], scene: Scene, rng: np.random.Generator) -> Shown | None:
    folder = scene.folder()
    arguments = ["train", "--config", str(scene.config()), "--out", str(folder / "run")]
    done = subprocess.run(
        [sys.executable, "-m", "muse_cli", *arguments],
        env={**os.environ, **place, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    said = said_in(folder)
    said.write_bytes(done.stderr)
    problem = scene.difference(folder / "run") if done.returncode == 0 else error_in(said, folder)
    return Shown(error_in(said, folder), done.returncode, "nothing", 0, problem)


ELSEWHERE = tuple(partial(elsewhere, place) for place in PLACES)


def older_run(scene: Scene, rng: np.random.Generator) -> Shown | None:
    """A run of a version that lacked some settings, and parts of the state, which then have today's defaults."""
    folder = scene.folder()
    running = scene.train(folder)
    running.wait_for(lambda: bool(running.run.checkpoints()))
    if running.kill() == "already over":
        return None
    make_older(running.run, rng)
    return resumed(scene, folder, ("(nothing)", 0))


def make_older(run: RunFolder, rng: np.random.Generator) -> None:
    """Take out of a run folder what a version may have added."""
    settings, defaults = run.settings(), TrainSettings().model_dump(mode="json")
    for section, key in (path for path, _ in fields(TrainSettings) if len(path) == 2):
        if settings[section][key] == defaults[section][key] and rng.random() < 0.5:
            del settings[section][key]
    (run.path / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    last = run.last_checkpoint()
    assert last is not None
    _without(last / "state.json", "schema", "architecture")
    _without(run.path / "status.json", "details", "hint", "exit_code")


def _without(path: Path, *keys: str) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({key: value for key, value in document.items() if key not in keys}), encoding="utf-8")


def newer_run(part: str, scene: Scene, rng: np.random.Generator) -> Shown | None:
    """A run of a version to come: its checkpoint, or a setting, is not known here."""
    folder = scene.folder()
    running = scene.train(folder)
    running.wait_for(lambda: bool(running.run.checkpoints()))
    if running.kill() == "already over":
        return None
    last = running.run.last_checkpoint()
    assert last is not None
    if part == "state":
        state = json.loads((last / "state.json").read_text())
        (last / "state.json").write_text(json.dumps({**state, "schema": 99}))
    else:
        settings = running.run.settings()
        settings["training"]["warp"] = 9
        (running.run.path / "config.yaml").write_text(yaml.safe_dump(settings))
    before = {path: path.read_bytes() for path in last.iterdir()}
    again = scene.resume(folder)
    code = again.code()
    changed = {path: path.read_bytes() for path in last.iterdir()} != before
    return Shown(error_in(again.said, folder), code, "nothing", 0, "the checkpoint was changed" if changed else "")


NEWER_RUN = tuple(partial(newer_run, part) for part in ("state", "setting"))


RESULT = ("eval", "tiny", "--data", "demo:val:2", "--metric", "psnr", "--size-px", "16", "--json")


def printed(stdout: str, stderr: str, code: int, scene: Scene, rng: np.random.Generator) -> Shown:
    """A measurement that prints into a full disk or to a reader that left; its scores are in a file all the same."""
    folder = scene.folder()
    said = said_in(folder)
    command = f"{shlex.join([sys.executable, '-m', 'muse_cli', *RESULT, '--out', 'scores.json'])}{stdout}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{{ {command} ; }} 2>{stderr or shlex.quote(str(said))}"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": str(rng.integers(0, 300))},
        stdout=subprocess.DEVNULL,
        cwd=folder,
        timeout=PATIENCE_S,
        check=False,
    )
    scores = folder / "scores.json"
    whole = scores.exists() and math.isfinite(json.loads(scores.read_text(encoding="utf-8"))["metrics"]["psnr"])
    problem = "" if whole and done.returncode == code else f"exit code {done.returncode}, scores whole: {whole}"
    return Shown(error_in(said, folder), done.returncode, "what was to be printed; the scores are written", 0, problem)


PRINTED = (
    partial(printed, " >/dev/full", "", ExitCode.FILE),
    partial(printed, "", "/dev/full", ExitCode.DONE),
    partial(printed, " | true", "", ExitCode.UNREAD),
)


def terminal(encoding: str, scene: Scene, rng: np.random.Generator) -> Shown:
    """Images whose names no encoding has, through a terminal of another one: the document is whole."""
    folder = scene.folder()
    name = os.fsdecode(bytes(rng.choice([*range(48, 58), *range(97, 123), *range(128, 256)], 12).tolist())) + ".png"
    image = sorted(scene.pictures.iterdir())[int(rng.integers(16))]
    shutil.copyfile(image, folder / name)
    done = subprocess.run(
        [sys.executable, "-m", "muse_cli", "infer", name, "--checkpoint", "tiny", "--size-px", "16", "--json"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONIOENCODING": encoding},
        capture_output=True,
        cwd=folder,
        timeout=PATIENCE_S,
        check=False,
    )
    said = said_in(folder)
    said.write_bytes(done.stderr)
    named = [one["image"] for one in json.loads(done.stdout.decode(encoding)).get("images", [])]
    written = list(folder.glob("*-recon.png"))
    problem = "" if (done.returncode, named, len(written)) == (0, [name], 1) else f"{named}, {written}"
    return Shown(error_in(said, folder), done.returncode, "nothing", 0, problem)


TERMINALS = tuple(partial(terminal, encoding) for encoding in ("ascii", "latin-1", "utf-8"))
