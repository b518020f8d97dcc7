"""A checkpoint looked through: what it is, whether its tensors are whole, and what can be done with it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from muse_core.errors import MuseError
from muse_core.inspection.findings import Findings, Inspection
from muse_core.model.build import plan_network
from muse_core.model.checkpoint import CheckpointState, describe, read_state
from muse_core.model.weights.parts import tiny_hashes
from muse_core.tensor_files import is_changed

FILES = ("model.safetensors", "average.safetensors", "training.safetensors")


def inspect_checkpoint(folder: Path) -> Inspection:
    """Look through a checkpoint folder of ours.

    Raises:
        MuseError: its state.json is missing or is not one.
    """
    state = read_state(folder)
    problems, notes = Findings(), Findings()
    files = {name: _look(folder / name, problems) for name in FILES if (folder / name).is_file()}
    changed = {name for name in files if is_changed(folder / name, state.digests)}
    for name in files:
        if name in changed:
            problems.note("file is not as it was written: its checksum differs", name)
    whole = {name for name, found in files.items() if found["tensors"] and name not in changed}
    _judge_files(folder, state, files, problems, notes)
    facts = {
        "size": state.size,
        "stage": state.stage,
        "step": state.step,
        "spec": vars(state.spec),
        "encoder_trained": state.encoder_trained,
        "files": {
            name: {key: value for key, value in found.items() if key != "shapes"} for name, found in files.items()
        },
        "cursor": dict(state.training.get("cursor", {})),
        "skipped": dict(state.training.get("skipped", {})),
        "can": _abilities(state, whole),
    }
    return Inspection("checkpoint", str(folder), facts, tuple(_lines(state, facts)), notes.all(), problems.all())


def _look(file: Path, problems: Findings) -> dict[str, Any]:
    """Names, shapes, kinds and sizes of the tensors of a file; one that is not finite is a problem."""
    shapes: dict[str, tuple[int, ...]] = {}
    parts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    try:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  it is no mapping
                value = tensors.get_tensor(name)
                shapes[name] = tuple(value.shape)
                parts[name.partition(".")[0]] += value.numel()
                kinds[str(value.dtype).removeprefix("torch.")] += 1
                if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                    problems.note(f"tensor of {file.name} is not finite", name)
    except (SafetensorError, OSError) as error:
        problems.note(f"{file.name} cannot be read: {error}", str(file))
    values = sum(parts.values())
    return {
        "bytes": file.stat().st_size,
        "tensors": len(shapes),
        "values": values,
        "parts": dict(parts),
        "types": dict(kinds),
        "shapes": shapes,
    }


def _judge_files(
    folder: Path, state: CheckpointState, files: dict[str, dict[str, Any]], problems: Findings, notes: Findings
) -> None:
    if FILES[0] not in files:
        problems.note("model.safetensors is missing", str(folder))
    for name in FILES[1:]:
        if name not in files:
            notes.note(f"no {name}", str(folder))
    if state.size == "tiny":
        here = tiny_hashes()
        for role, digest in state.frozen.items():
            if here.get(role) != digest:
                problems.note("frozen part is another one than this version ships", role)
    expected = _expected(state, notes)
    for name, shape in files.get(FILES[0], {}).get("shapes", {}).items():
        if expected and name not in expected:
            problems.note("tensor that the network does not have", name)
        elif expected and shape != expected[name]:
            problems.note("tensor of another shape than the network's", f"{name}: {shape}, expected {expected[name]}")
    have = files.get(FILES[0], {}).get("shapes", {})
    for name in expected:
        if have and name not in have and (state.encoder_trained or not name.startswith("encoder.")):
            problems.note("tensor of the network is missing", name)


def _expected(state: CheckpointState, notes: Findings) -> dict[str, tuple[int, ...]]:
    try:
        network = plan_network(state.size, state.spec)
    except MuseError as error:
        notes.note(f"not compared with the network: {error.what}", state.size)
        return {}
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _abilities(state: CheckpointState, files: set[str]) -> dict[str, bool]:
    """What a checkpoint is enough for, by its files that are whole."""
    model = FILES[0] in files
    return {
        "infer, eval, attn-viz": model,
        "zeroshot": model and state.stage > 1,
        "train --init": model,
        "train --resume": all(name in files for name in FILES) and "cursor" in state.training,
    }


def _lines(state: CheckpointState, facts: dict[str, Any]) -> list[str]:
    lines = [f"checkpoint {describe(state)}"]
    for name, found in facts["files"].items():
        kinds = ", ".join(f"{count} {kind}" for kind, count in found["types"].items())
        parts = ", ".join(f"{part} {count:,}" for part, count in found["parts"].items())
        lines.append(f"{name:<22} {found['bytes'] / 2**20:,.1f} MiB, {found['tensors']} tensors ({kinds}): {parts}")
    for ready in (True, False):
        named = [what for what, able in facts["can"].items() if able is ready]
        if named:
            lines.append(f"{'enough for' if ready else 'not enough for':<22} {'; '.join(named)}")
    return lines
