"""Weights without a training state looked through: an exported tokenizer, or a checkpoint of the public code."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch

from muse_core.errors import MuseError
from muse_core.inspection.findings import Findings, Inspection
from muse_core.model.checkpoint import CheckpointState, describe
from muse_core.model.export import carries_text
from muse_core.model.locating import is_export, released_file
from muse_core.model.network import MuseNetwork
from muse_core.model.opening import open_network
from muse_core.model.released import describe_released


def inspect_weights(path: Path) -> Inspection:
    """Look through a file, or the folder that holds one, by loading it as every command does.

    What keeps it from being loaded is a problem: it is damaged, of something else, or would run code.
    """
    file = released_file(path) or path
    kind = "exported tokenizer" if is_export(path) else "checkpoint of the public code"
    facts: dict[str, Any] = {"format": kind, "file": str(file), "bytes": file.stat().st_size}
    problems, notes = Findings(), Findings()
    lines = [f"{file.name:<22} {facts['bytes'] / 2**20:,.1f} MiB"]
    try:
        network, state = open_network(path)
        beside = "" if is_export(path) else describe_released(file)
    except MuseError as error:
        problems.note(error.what, str(path))
        return Inspection("checkpoint", str(path), facts, tuple(lines), (), problems.all())
    if beside:
        notes.note(f"it also holds: {beside}", file.name)
    parts = _judge(network, problems, file.name)
    facts |= {"size": state.size, "stage": state.stage, "step": state.step, "spec": vars(state.spec), "values": parts}
    facts["can"] = _abilities(path, state)
    named = ", ".join(f"{part} {count:,}" for part, count in parts.items())
    lines = [f"checkpoint {kind}, {describe(state)}", f"{lines[0]}: {named}", *_enough(facts["can"])]
    return Inspection("checkpoint", str(path), facts, tuple(lines), notes.all(), problems.all())


def _judge(network: MuseNetwork, problems: Findings, file: str) -> dict[str, int]:
    """Count the values of each part; a tensor that is not finite is a problem."""
    parts: Counter[str] = Counter()
    for name, value in network.state_dict().items():
        parts[name.partition(".")[0]] += value.numel()
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            problems.note(f"tensor of {file} is not finite", name)
    return dict(parts)


def _abilities(path: Path, state: CheckpointState) -> dict[str, bool]:
    """What it is enough for: captions need a text tower, and going on needs the state of a training."""
    return {
        "infer, eval, attn-viz": True,
        "train --init": True,
        "zeroshot": carries_text(path) or (state.stage > 1 and state.size == "tiny"),
        "train --resume": False,
    }


def _enough(can: dict[str, bool]) -> list[str]:
    named = {ready: "; ".join(what for what, able in can.items() if able is ready) for ready in (True, False)}
    return [f"{'enough for':<22} {named[True]}", f"{'not enough for':<22} {named[False]}"]
