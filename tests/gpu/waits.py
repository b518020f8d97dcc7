"""Where the host waits for a device, as torch's operations show it.

A GPU works on by itself while Python goes ahead; whoever reads a number of it, or moves one there without
`non_blocking`, stands still until everything asked for so far is done.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).parents[2]
SOURCES = tuple(f"{ROOT / name}/" for name in ("muse_core", "muse_cli", "plugins", "benchmarks", "tests"))
SIMULATORS = {str(Path(__file__).with_name(f"{name}.py")) for name in ("waits", "driver", "fake", "slow", "cases")}

READ = {"_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2", "unique_dim", "bincount"}
"""Operations that hand the host a number, or a shape that depends on numbers."""

INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}


@dataclass(frozen=True)
class Wait:
    """Something that the host stands still for. place: "FILE:LINE FUNCTION" of the innermost line of ours."""

    what: str
    place: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


@dataclass(frozen=True)
class Transfer:
    """A tensor copied from one device to another."""

    source: torch.device
    target: torch.device
    lazily: bool

    def __str__(self) -> str:
        return f"copy {self.source.type} to {self.target.type}"


def is_ours(file: str) -> bool:
    """Whether a source file is of the product or of a test, and of no simulator."""
    return file.startswith(SOURCES) and file not in SIMULATORS


def place() -> str:
    """The innermost line of the product or of a test that is running, simulators left out."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if is_ours(file):
            return f"{Path(file).relative_to(ROOT)}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return "outside of muse"


def transfer_of(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Transfer | None:
    """The transfer that an operation makes, or None: `.to()` is `_to_copy`, writing into a tensor is `copy_`."""
    if name == "_to_copy":
        source, target = args[0].device, torch.device(kwargs.get("device") or args[0].device)
        lazily = bool(kwargs.get("non_blocking"))
    elif name == "copy_":
        source, target = args[1].device, args[0].device
        lazily = bool(kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
    else:
        return None
    return Transfer(source, target, lazily) if source.type != target.type else None


def waits_of(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[str]:
    """Name what a GPU would be waited for in one operation."""
    first = args[0] if args and isinstance(args[0], Tensor) else None
    on_device = first is not None and first.device.type == "cuda"
    if first is not None and on_device and name in READ:
        yield f"{name} of {tuple(first.shape)}"
    if on_device and name in INDEXED and any(index is not None and index.dtype == torch.bool for index in args[1]):
        yield f"{name} by a mask"
    transfer = transfer_of(name, args, kwargs)
    if transfer and not transfer.lazily:
        yield str(transfer)


class Record:
    """The waits seen so far."""

    def __init__(self) -> None:
        self.waits: list[Wait] = []

    def note(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Write down the waits of an operation that is about to run."""
        self.waits += [Wait(what, place()) for what in waits_of(name, args, kwargs)]

    def since(self, mark: int) -> Counter[Wait]:
        """Count the waits after the first `mark`."""
        return Counter(self.waits[mark:])
