"""What the steps hand to each other through files: items to store, what was left out, what a look at an item found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple


class Part(NamedTuple):
    """Where some bytes are. offset: -1 when it is the whole file."""

    path: str
    size: int
    offset: int = -1


class Item(NamedTuple):
    """One sample to be.

    name: path inside the source; it orders, and is what a split is drawn from. parts: "image", "txt", "json", "cls",
    "seg.png", as far as there are such. text: a caption that is not in a file. label: key of its class, or "".
    split: when the source says it. lacks: what was asked for and it has not, of "captions", "classes", "masks".
    """

    name: str
    parts: dict[str, Part]
    text: str = ""
    label: str = ""
    split: str = ""
    lacks: Sequence[str] = ()


class Left(NamedTuple):
    """Something in the source that is not stored. error: it is damaged, rather than not wanted."""

    name: str
    reason: str
    error: bool = False


class Looked(NamedTuple):
    """What a look at an item found.

    suffix: of its picture in the shard; bytes: what it will take there. captioned: whether it has a caption. label: its
    own, beside the picture: an index, a name, or -1. bad_label: why that is none.
    notes: what reading the image leaves out, as `ImageFile.notes`.
    """

    suffix: str = ""
    bytes: int = 0
    reason: str = ""
    error: bool = False
    notes: Sequence[str] = ()
    captioned: bool = False
    label: int | str = -1
    bad_label: str = ""


class Planned(NamedTuple):
    """An item with its place in a shard. label: class index, -1 for no class; None for what lies beside the picture."""

    item: Item
    suffix: str
    label: int | None = None


def to_line(value: Item | Left | Planned) -> str:
    """Write one value as a line of JSON."""
    return json.dumps({"left": value} if isinstance(value, Left) else value, separators=(",", ":")) + "\n"


def listed_from(line: str) -> Item | Left:
    """Read back a line of a listing."""
    fields = json.loads(line)
    return Left(*fields["left"]) if isinstance(fields, dict) else _item(fields)


def planned_from(line: str) -> Planned:
    """Read back a line of a plan."""
    item, suffix, label = json.loads(line)
    return Planned(_item(item), suffix, label)


def _item(fields: list[Any]) -> Item:
    name, parts, *rest = fields
    return Item(name, {kind: Part(*part) for kind, part in parts.items()}, *rest)
