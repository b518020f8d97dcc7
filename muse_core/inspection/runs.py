"""A run looked through: how it ended, whether its records are whole, and where it would go on."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError

from muse_core import rules
from muse_core.command_lines import quote
from muse_core.errors import MuseError
from muse_core.inspection.checkpoints import inspect_checkpoint
from muse_core.inspection.findings import Findings, Inspection
from muse_core.run_checkpoints import BEST, pointed_at, step_of, way_around_damage
from muse_core.runs import CHAIN, RunFolder, resume_command
from muse_core.settings.train import TrainSettings


def inspect_run(path: Path) -> Inspection:
    """Look through a run folder and its last checkpoint.

    Raises:
        MuseError: `path` is not a run.
    """
    run = RunFolder.open(path)
    problems, notes = Findings(), Findings()
    status, last = run.seen, run.last_checkpoint()
    _judge_config(run, problems)
    _judge_metrics(run, problems)
    for left in sorted((path / "checkpoints").glob(".step-*")):
        notes.note("checkpoint that was never completed (--resume removes it)", left.name)
    steps, best = [step_of(one) for one in run.checkpoints()], pointed_at(path, BEST)
    inside = _inside(last, problems, notes)
    going_on = _going_on(run, last, inside)
    facts = {
        "status": asdict(status),
        "checkpoints": steps,
        "metrics": len(_records(run)),
        "last": inside.to_json() if inside else None,
        "best": step_of(best) if best else None,
        "resume": going_on,
    }
    saved = [f"{step} (best)" if best and step == step_of(best) else str(step) for step in steps]
    lines = [
        f"run        stage {status.stage}, size {status.size}: {status.state} at step {status.step} of {status.steps}",
        *([f"reason     {status.error}"] if status.error else []),
        f"saved      {', '.join(saved) or 'nothing yet'}",
        *(inside.lines if inside else ()),
        f"resume     {going_on}",
    ]
    return Inspection("run", str(path), facts, tuple(lines), notes.all(), problems.all())


def _inside(last: Path | None, problems: Findings, notes: Findings) -> Inspection | None:
    if last is None:
        return None
    try:
        inside = inspect_checkpoint(last)
    except MuseError as error:
        problems.note(error.what, last.name)
        return None
    for found, into in ((inside.problems, problems), (inside.notes, notes)):
        for one in found:
            into.note(one.what, f"{last.name}: {one.first}", one.count)
    return inside


def _judge_config(run: RunFolder, problems: Findings) -> None:
    try:
        TrainSettings.model_validate(run.settings())
    except MuseError as error:
        problems.note(error.what, "config.yaml")
    except ValidationError as error:
        for one in rules.problems(error, "config.yaml"):
            problems.note("setting that this version does not accept", one)


def _records(run: RunFolder) -> list[str]:
    path = run.path / "metrics.jsonl"
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []


def _judge_metrics(run: RunFolder, problems: Findings) -> None:
    before = 0
    for number, text in enumerate(_records(run), start=1):
        try:
            record = json.loads(text)
            step = int(record["step"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            problems.note("line of metrics.jsonl is not a record", f"line {number}")
            continue
        if step < before:
            problems.note("steps of metrics.jsonl go back", f"line {number}")
        before = step
        for name, value in record.items():
            if isinstance(value, float) and not math.isfinite(value):
                problems.note(f"{name} is not finite", f"step {step}")


def _going_on(run: RunFolder, last: Path | None, inside: Inspection | None) -> str:
    if run.status.state == "finished" and (run.path / CHAIN).is_file():
        return f"{resume_command(run.path)} goes on with the next stage"
    if run.status.state == "finished":
        return f"finished: there is nothing to go on with; muse train --init {quote(run.path)} starts a new run from it"
    if last and (inside is None or (inside.problems and not inside.facts["can"]["train --resume"])):
        return f"not from {last.name}, which is damaged" + (f": {way}" if (way := way_around_damage(run.path)) else "")
    start = last.name.removeprefix("step-").lstrip("0") if last else "0"
    return f"{resume_command(run.path)} goes on behind step {start or '0'}"
