"""Checkpoints with whatever trainers keep beside tensors: equal when whole; damaged, read or refused, never run."""

import collections
import io
import pickletools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from muse_core.errors import MuseError
from muse_core.model.weights.reading import open_tensors
from tests.fuzz.judge import HangError, guarded
from tests.fuzz.kinds import Bug, Cases, Rng
from tests.fuzz.mutate import damaged
from tests.trust.gallery import ATTACKS, MALFORMED, STRANGE, archive, legacy, tensor, text

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.float8_e4m3fn, torch.complex64)
NAMES = tuple(f"layer{k}.weight" for k in range(6))
_OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]


def pickles(folder: Path, cases: list[int], of: Cases) -> Iterator[Bug]:
    """Whole files in turn with damaged ones and with programs of random opcodes."""
    folder.mkdir(parents=True)
    for case in cases:
        rng, path = of.rng(case), folder / f"{case}.ckpt"
        expected: dict[str, Tensor] | None = None
        if case % 3 == 2:
            path.write_bytes(_program(rng))
        else:
            expected = _weights(rng)
            content = _saved(expected, rng)
            path.write_bytes(damaged(content, rng) if case % 3 else content)
        what = _read(path, expected if case % 3 == 0 else None)
        if what:
            yield Bug(of.kind, case, what, ("(read as a checkpoint)",))
        path.unlink()


def _read(path: Path, expected: dict[str, Tensor] | None) -> str:
    """Read a file; return what should not have been, or nothing."""
    before = set(sys.modules)
    try:
        with guarded():
            read = dict(open_tensors(path, "a checkpoint"))
    except MuseError as error:
        return f"refuses a whole file: {error.what}" if expected is not None else ""
    except (Exception, HangError) as error:
        return f"{type(error).__name__}: {error}"
    if new := set(sys.modules) - before:
        return f"imports {', '.join(sorted(new)[:3])}"
    if expected is not None and not _equal(read, expected):
        return "reads other tensors than were written"
    return ""


def _equal(read: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return [*read] == [*expected] and all(
        read[name].dtype == value.dtype and read[name].tolist() == value.tolist() for name, value in expected.items()
    )


def _weights(rng: Rng) -> dict[str, Tensor]:
    base = torch.from_numpy(rng.integers(0, 2, (4, 6)))
    made = {name: base.to(DTYPES[int(rng.integers(len(DTYPES)))]) for name in NAMES[: int(rng.integers(1, 6))]}
    views = (lambda x: x, lambda x: x.T, lambda x: x[1:3, ::2], lambda x: x[0], lambda x: x[4:], lambda x: x[0, 0])
    return {name: views[int(rng.integers(len(views)))](value) for name, value in made.items()}


def _saved(weights: dict[str, Tensor], rng: Rng) -> bytes:
    document: dict[Any, Any] = {"state_dict": weights, "epoch": 3}
    for number in range(int(rng.integers(0, 6))):
        document[f"extra{number}"] = _object(rng, 3)
    if rng.integers(2):
        document[collections.Counter] = {collections.deque: [1]}  # by class, as callbacks are
    stream = io.BytesIO()
    torch.save(
        document,
        stream,
        pickle_protocol=int(rng.choice([2, 3, 4, 5])),
        _use_new_zipfile_serialization=bool(rng.integers(2)),
    )
    return stream.getvalue()


def _object(rng: Rng, levels: int) -> Any:
    """Something that is no tensor, or in part."""
    kind = int(rng.integers(12 if levels else 9))
    if kind > 8:
        inside = [_object(rng, levels - 1) for _ in range(int(rng.integers(0, 4)))]
        held = (inside, {f"k{k}": value for k, value in enumerate(inside)}, tuple(inside))
        return held[kind - 9]
    return (
        None, np.float64(rng.random()), rng.integers(0, 9, 3), Path("a/b"), torch.rand(2), torch.float16,
        collections.defaultdict(list, a=[1]), np.random.default_rng(int(rng.integers(9))),
        slice(1, int(rng.integers(9))),
    )[kind]  # fmt: skip


def _program(rng: Rng) -> bytes:
    """Opcodes at random, between pieces that mean something."""
    pieces = [
        *ATTACKS.values(),
        *MALFORMED.values(),
        *[STRANGE[name] for name in ("billion laughs", "model that holds itself")],
    ]
    pieces += [
        tensor(),
        text("state_dict"),
        b"}",
        b"(",
        b"u",
        b"s",
        b"]",
        b"a",
        b"e",
        b"t",
        b"q\x00",
        b"h\x00",
        b"R",
        b"b",
    ]
    made = b"}"
    for _ in range(int(rng.integers(1, 30))):
        choice = int(rng.integers(3))
        made += pieces[int(rng.integers(len(pieces)))] if choice else _OPCODES[int(rng.integers(len(_OPCODES)))]
        made += rng.bytes(int(rng.integers(0, 5))) if choice == 0 else b""
    return (archive if rng.integers(2) else legacy)(made + b".")
