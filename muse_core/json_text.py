"""JSON for whatever there is to write down: file names that are not UTF-8 and numbers that are not finite included."""

import json
import math
from collections.abc import Mapping
from typing import Any


def json_text(document: Any, *, indent: int | None = 2, sort_keys: bool = False) -> str:
    """Return a document as JSON that every parser reads, and that can be encoded as UTF-8.

    Numbers that are not finite become null. Where a name is not UTF-8 all letters beyond ASCII are written as escapes,
    from which Python gets the same name back.
    """
    try:
        text = json.dumps(document, indent=indent, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False)
    except ValueError:  # of the values, only numbers that are not finite
        return json_text(finite(document), indent=indent, sort_keys=sort_keys)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(document, indent=indent, sort_keys=sort_keys)
    return text


def finite(value: Any) -> Any:
    """Return a document in which null stands for every number that is not finite."""
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def utf8(text: str) -> bytes:
    """Return text as UTF-8; what a file name has that is none is written as escapes."""
    return text.encode("utf-8", "backslashreplace")
