"""What pickles become where they are no tensors: plain containers with keys, and placeholders that do nothing."""

from typing import Any

_KEY_PARTS = 16
_LONGEST_SHOWN = 120


class UnreadableError(ValueError):
    """A file that is not read as tensors, and why.

    whole: it is not damaged, but of a kind or with contents that only the program that wrote it should read.
    """

    def __init__(self, why: str, whole: bool = False) -> None:
        super().__init__(why)
        self.whole = whole


def shown(text: str) -> str:
    """Return text of a file as it may be printed: on one line, and not too long."""
    short = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
    return short if short.isprintable() else ascii(short)


class Placeholder:
    """A name in a pickle, or what calling it would have made. Equal to itself only.

    name: module and name, dotted. called: whether it stands for the result of a call.
    """

    __slots__ = ("called", "name")

    def __init__(self, name: str, called: bool = False) -> None:
        self.name = name
        self.called = called

    def __repr__(self) -> str:
        return f"<{self.name}{'(...)' if self.called else ''}>"


def misplaced(value: Any, what: str) -> UnreadableError:
    """Return the error of a value that stands where none of its kind can."""
    return UnreadableError(f"its pickle is damaged: a {type(value).__name__} {what}")


def extend(target: Any, values: list[Any]) -> None:
    """Append to a list; a placeholder takes nothing in. Raises UnreadableError for anything else."""
    if type(target) is list:
        target.extend(values)
    elif type(target) is not Placeholder:
        raise misplaced(target, "is appended to")


def store(target: Any, pairs: list[Any] | tuple[Any, ...]) -> None:
    """Put keys and values, in turn, into a dict; a placeholder takes nothing in. UnreadableError for anything else."""
    if len(pairs) % 2:
        raise UnreadableError("its pickle is damaged: a key has no value")
    if isinstance(target, dict):
        target.update(zip(map(key, pairs[::2]), pairs[1::2], strict=True))
    elif type(target) is not Placeholder:
        raise misplaced(target, "is given items")


def key(value: Any) -> Any:
    """Return a value that may be hashed and compared at no cost; a placeholder where it is not such a one."""
    if type(value) is str or is_flat(value):
        return value
    if isinstance(value, list | dict | set | bytearray):
        raise misplaced(value, "is a key")
    return Placeholder(f"a key ({type(value).__name__})", called=True)


def is_flat(value: Any) -> bool:
    """Return whether hashing and comparing a value costs nothing, and runs nothing."""
    if type(value) is tuple:
        return len(value) <= _KEY_PARTS and all(type(part) is not tuple and is_flat(part) for part in value)
    if type(value) is int:
        return value.bit_length() < 64  # of wider ones many can share a hash
    return value is None or type(value) in (str, bytes, float, bool, Placeholder)
