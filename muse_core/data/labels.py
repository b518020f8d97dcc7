"""Labels of samples, whoever wrote them: the index of a class, its name, or no class."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress

from muse_core.data.sample import UNKNOWN_LABEL
from muse_core.text_files import NotTextError, composed, readable, text_of

LARGEST_LABEL = 2**63 - 1
"""Labels are int64 tensors."""

_LARGEST_EXACT = 2**53
"""Above it, a float does not say which whole number was meant."""

NO_LABEL = "label is neither the index of a class nor a name"


class BadLabelError(ValueError):
    """A label that is neither the index of a class, nor a name, nor absent."""


def parse_label(value: object) -> int | str:
    """Return the class index that a label gives, the name of its class, or `UNKNOWN_LABEL`.

    Absent, blank and -1 are unknown. Whole numbers may be spelled as 3, 3.0, "3" or "3.0"; any text that is no number
    is a name.

    Args:
        value: what a table, a .cls or a json holds: None, a number, text, or bytes of a file.

    Raises:
        BadLabelError: it fits none of these, such as 2.5, NaN, -2, true or a list.
    """
    if value is None:
        return UNKNOWN_LABEL
    if isinstance(value, bytes):
        value = _decoded(value)
    if isinstance(value, str):
        return _from_text(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadLabelError(NO_LABEL)
    return _index(value)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of classes in the order of their indices: as numbers where all are decimal, else as text.

    Raises:
        BadLabelError: two decimal names are one number, such as 1 and 01.
    """
    ordered = sorted(set(names))
    if not all(name.isascii() and name.isdecimal() for name in ordered):
        return tuple(ordered)
    ordered.sort(key=lambda name: (len(name.lstrip("0")), name.lstrip("0")))  # of any number of digits
    for one, other in zip(ordered, ordered[1:], strict=False):
        if one.lstrip("0") == other.lstrip("0"):
            raise BadLabelError(f"{one} and {other} are one number and two classes")
    return tuple(ordered)


def _from_text(text: str) -> int | str:
    number = _number(text)
    if not text:
        return UNKNOWN_LABEL
    if number is None and readable(text) != text:
        raise BadLabelError("label is not UTF-8")
    return composed(text) if number is None else _index(number)


def _number(text: str) -> int | float | None:
    if not text.isascii() or "_" in text:  # which Python reads as numbers, and nobody else
        return None
    for kind in (int, float):
        with suppress(ValueError):  # of an integer, also that it has thousands of digits
            return kind(text)
    return None


def _index(number: int | float) -> int:
    if isinstance(number, float):
        if not math.isfinite(number) or number != int(number) or abs(number) > _LARGEST_EXACT:
            raise BadLabelError(NO_LABEL)
        number = int(number)
    if number != UNKNOWN_LABEL and not 0 <= number <= LARGEST_LABEL:
        raise BadLabelError(NO_LABEL)
    return number


def _decoded(content: bytes) -> str:
    try:
        return text_of(content)
    except NotTextError as problem:
        raise BadLabelError(f"label is {problem}") from None
