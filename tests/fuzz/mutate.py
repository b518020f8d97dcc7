"""Bytes to damaged bytes, and documents to wrong documents; the same generator gives the same damage."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

Rng = np.random.Generator


def flip_bits(content: bytes, rng: Rng) -> bytes:
    """Change up to eight bits."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 9)) if changed else 0):
        changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def cut_short(content: bytes, rng: Rng) -> bytes:
    return content[: int(rng.integers(0, max(len(content), 1)))]


def insert(content: bytes, rng: Rng) -> bytes:
    at = int(rng.integers(0, len(content) + 1))
    return content[:at] + rng.bytes(int(rng.integers(1, 64))) + content[at:]


def remove(content: bytes, rng: Rng) -> bytes:
    at = int(rng.integers(0, max(len(content), 1)))
    return content[:at] + content[at + int(rng.integers(1, 600)) :]


def repeat(content: bytes, rng: Rng) -> bytes:
    at, size = int(rng.integers(0, max(len(content), 1))), int(rng.integers(1, 600))
    return content[: at + size] + content[at:]


def zero(content: bytes, rng: Rng) -> bytes:
    at, size = int(rng.integers(0, max(len(content), 1))), int(rng.integers(1, 600))
    return content[:at] + bytes(len(content[at : at + size])) + content[at + size :]


def large_numbers(content: bytes, rng: Rng) -> bytes:
    """Put the largest numbers there are where the head of a format says how much follows."""
    at = int(rng.integers(0, min(len(content), 64) + 1))
    number = int(rng.choice([0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 0, 1]))
    return content[:at] + number.to_bytes(4, str(rng.choice(["little", "big"]))) + content[at + 4 :]  # type: ignore[arg-type]


def nothing(content: bytes, rng: Rng) -> bytes:
    return b""


DAMAGES: tuple[Callable[[bytes, Rng], bytes], ...] = (
    flip_bits, flip_bits, flip_bits, cut_short, cut_short, insert, remove, repeat, zero, large_numbers, nothing
)  # fmt: skip


def damaged(content: bytes, rng: Rng) -> bytes:
    """Damage bytes in one of the ways above; what comes out is never what went in."""
    for _ in range(20):
        changed = DAMAGES[int(rng.integers(len(DAMAGES)))](content, rng)
        if changed != content:
            return changed
    return content + b"?"


ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**63, -(2**63), 10**400, 0.5, 1e308, float("nan"), float("inf"), "", "x", "1", "nan",
    "../../x", "/etc/passwd", "\0", "\ud800", "é" * 300, [], [[]], {}, {"x": 1}, [1, "a", None], "2026-99-99",
)  # fmt: skip
"""Values that hardly anybody expects."""


def wrong(document: Any, rng: Rng) -> Any:
    """A copy of a document in which one to three places are missing, renamed, of another kind, or too many."""
    changed = {"": copy.deepcopy(document)}
    for _ in range(int(rng.integers(1, 4))):
        holders = list(_holders(changed))
        holder = holders[int(rng.integers(len(holders)))]
        _spoil(holder, rng)
    return changed[""]


def _holders(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [value, *(one for part in value.values() for one in _holders(part))] if value else []
    if isinstance(value, list):
        return [value, *(one for part in value for one in _holders(part))] if value else []
    return []


def _spoil(holder: Any, rng: Rng) -> None:
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    key = keys[int(rng.integers(len(keys)))]
    odd = copy.deepcopy(ODD[int(rng.integers(len(ODD)))])
    kind = int(rng.integers(6))
    if kind == 0 and key != "":
        del holder[key]
    elif kind == 1 and isinstance(holder, dict) and key != "":
        holder[f"{key}s"] = holder.pop(key)
    elif kind == 2 and isinstance(holder, dict) and key != "":
        holder[f"x{int(rng.integers(9))}"] = odd
    else:
        holder[key] = odd
