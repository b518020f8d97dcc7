"""Files of tensors of 0.1.0, of which the fixtures keep the headers: filled by a rule, so that they can be opened.

The rule: values are drawn from a normal distribution of deviation 0.02 by a generator seeded with the crc32 of the
tensor's name; bytes are the state of a fresh generator, other integers 0. A run's state.json gets the hashes of the
files that this makes.
"""

import hashlib
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.old.archive import FIXTURES

_TYPES = {"F32": torch.float32, "F64": torch.float64, "F16": torch.float16, "I64": torch.int64, "U8": torch.uint8}


def lay_out(name: str, folder: Path) -> Path:
    """Copy a folder of the fixtures to another place, each header made into a file of tensors; return it there."""
    target = folder / name
    for path in sorted((FIXTURES / name).rglob("*")):
        if path.is_dir():
            continue
        there = target / path.relative_to(FIXTURES / name)
        there.parent.mkdir(parents=True, exist_ok=True)
        if path.name.endswith(".safetensors.json"):
            fill(json.loads(path.read_text()), there.with_name(path.name.removesuffix(".json")))
        else:
            shutil.copyfile(path, there)
    for state in target.rglob("state.json"):
        _rehash(state)
    return target


def back_to(step: int, run: Path) -> None:
    """Make a finished run one that was interrupted at an earlier checkpoint."""
    kept = f"step-{step:07d}"
    for checkpoint in (run / "checkpoints").glob("step-*"):
        if checkpoint.name != kept:
            shutil.rmtree(checkpoint)
    (run / "checkpoints" / "last").write_text(f"{kept}\n")
    status = json.loads((run / "status.json").read_text())
    status |= {"state": "interrupted", "step": step, "exit_code": 130}
    (run / "status.json").write_text(json.dumps(status, indent=2) + "\n")


def fill(header: dict[str, Any], path: Path) -> None:
    """Write a file of tensors with the names, shapes, types and metadata of a header."""
    metadata = header.pop("__metadata__", None)
    save_file({name: _tensor(name, said["shape"], said["dtype"]) for name, said in header.items()}, path, metadata)


def _tensor(name: str, shape: list[int], kind: str) -> Tensor:
    dtype = _TYPES[kind]
    if dtype == torch.uint8:
        return torch.Generator().manual_seed(0).get_state().reshape(shape)
    if not dtype.is_floating_point:
        return torch.zeros(shape, dtype=dtype)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    values = torch.randn(shape, generator=generator) * 0.02
    return values.square().to(dtype) if name.endswith("exp_avg_sq") else values.to(dtype)


def _rehash(state: Path) -> None:
    document = json.loads(state.read_text())
    files = sorted(state.parent.glob("*.safetensors"))
    document["digests"] = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    state.write_text(json.dumps(document, indent=2) + "\n")
