"""Whether a source is as it was when an attempt to shard it was begun, however it is reached now.

Size and times of change decide whether a file is looked at again. What is compared then is the beginning of each file,
hashed when it was checked, and of what lies in a finished tar the bytes of that tar. Of addresses it is the size alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from muse_core.data.decode import BadMemberError
from muse_core.data.identity import is_affected
from muse_core.data.sharding.items import Item, Left, Part
from muse_core.data.sharding.members import part_bytes
from muse_core.data.sharding.places import read_range
from muse_core.errors import MuseError
from muse_core.identity import first_of

HEAD = 4 * 1024
"""Bytes at the beginning of a file that are compared; reading the header has just read them."""

TEXTS = ("cls", "json", "txt")

HINT = "put the images back as they were, or --overwrite to begin anew"
_IN_WORDS = {"txt": "caption", "json": "json", "cls": "class", "seg.png": "mask"}

Moved = tuple[tuple[str, str], ...]
Seen = tuple[str, Mapping[str, str]]


def seen_of(item: Item) -> Seen:
    """Return the stamp of an item's files, and a hash of the beginning of each by its kind."""
    return stamp_of(item), {kind: _head(part) for kind, part in item.parts.items()}


def texts_of(item: Item, heads: Mapping[str, str]) -> str:
    """Return hashes of what lies beside an image as text, in txt, json and cls; "" where nothing does.

    heads: hashes of the beginnings of its files, as far as they are known; a file that ends there is not read again.
    """
    kinds = [kind for kind in TEXTS if kind in item.parts]
    known = {kind: heads.get(kind, "") for kind in kinds if 0 <= item.parts[kind].size <= HEAD}
    return " ".join(f"{kind}:{known.get(kind) or _whole(item.parts[kind])}" for kind in kinds)


def _whole(part: Part) -> str:
    try:
        return hashlib.sha256(part_bytes(part)).hexdigest()[:16]
    except BadMemberError:
        return "unreadable"


def stamp_of(item: Item) -> str:
    """Return a hash of sizes and times of change of an item's files; "" for what lies at an address."""
    stamps = [f"{kind} {_stamp(part.path)}" for kind, part in sorted(item.parts.items()) if "://" not in part.path]
    return hashlib.sha256("\n".join(stamps).encode()).hexdigest()[:16] if stamps else ""


def _stamp(path: str) -> str:
    try:
        state = os.stat(path)
    except OSError:
        return "unreadable"
    return f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"


def _head(part: Part) -> str:
    if "://" in part.path:
        return ""
    try:
        content = read_range(part.path, max(0, part.offset), HEAD if part.offset < 0 else min(HEAD, part.size))
    except OSError:
        return "unreadable"
    return hashlib.sha256(content).hexdigest()[:16]


def refuse_changed(source: str, items: Sequence[Item], before: Sequence[Seen]) -> None:
    """Refuse items whose files are others than they were when they were checked.

    Raises:
        MuseError: names them, and which of their files it is.
    """
    changed = []
    for item, (stamped, heads) in zip(items, before, strict=True):
        if stamp_of(item) != stamped:
            kinds = [kind for kind, part in item.parts.items() if heads.get(kind) != _head(part)]
            changed += [f"{item.name} ({', '.join(_IN_WORDS.get(kind, kind) for kind in kinds)})"] if kinds else []
    if changed:
        raise changed_since(source, changed)


def changed_since(source: str, changes: Sequence[str]) -> MuseError:
    """Return the refusal of an attempt whose source has changed."""
    return MuseError(f"{source} has changed since the attempt that is to be continued: {first_of(changes)}", hint=HINT)


def differences(before: Iterator[Item | Left], now: Iterator[Item | Left]) -> list[str]:
    """Name what two listings of a source do not have in common, images first."""
    one, other = ({(entry.name, isinstance(entry, Left)): entry for entry in entries} for entries in (before, now))
    found = {key: f"{key[0]} is gone" for key in one.keys() - other.keys()}
    found |= {key: f"{key[0]} is new" for key in other.keys() - one.keys()}
    for key in one.keys() & other.keys():
        if identity_of_entry(one[key]) != identity_of_entry(other[key]):
            found[key] = f"{key[0]} ({_what(one[key], other[key])})"
    return [found[key] for key in sorted(found, key=lambda key: (key[1], key[0]))]


def _what(one: Item | Left, other: Item | Left) -> str:
    if isinstance(one, Left) or isinstance(other, Left):
        return "left out for another reason"
    sizes = [{kind: part.size for kind, part in entry.parts.items()} for entry in (one, other)]
    kinds = [kind for kind in {**sizes[0], **sizes[1]} if sizes[0].get(kind) != sizes[1].get(kind)]
    texts = [
        f"{name} {before or 'none'} there, {now or 'none'} now"
        for name, before, now in (("caption", one.text, other.text), ("class", one.label, other.label))
        if before != now
    ]
    return ", ".join([*(_IN_WORDS.get(kind, kind) for kind in kinds), *texts])


def identity_of_entry(entry: Item | Left) -> bytes:
    """Return what of a listing must not change between an attempt and its resumption; where the source lies may."""
    if isinstance(entry, Left):
        return f"{entry.name}\n{entry.reason}\n".encode("utf-8", "surrogateescape")
    sizes = ",".join(f"{kind}:{part.size}" for kind, part in sorted(entry.parts.items()))
    return f"{entry.name}\n{sizes}\n{entry.text}\n{entry.label}\n".encode("utf-8", "surrogateescape")


def name_of_entry(entry: Item | Left) -> bytes:
    """Return what of a listing is neither caption nor label: its name, and how large its image and mask are."""
    sizes = (
        [] if isinstance(entry, Left) else [f"{k}:{p.size}" for k, p in sorted(entry.parts.items()) if k not in TEXTS]
    )
    return f"{entry.name}\n{','.join(sizes)}\n".encode("utf-8", "surrogateescape")


def relocated(entry: Item, moved: Moved) -> Item:
    """Return an item whose files lie where the source is now; moved: folders (before, now)."""
    if not moved:
        return entry
    return entry._replace(parts={kind: _relocated(part, moved) for kind, part in entry.parts.items()})


def _relocated(part: Part, moved: Moved) -> Part:
    for before, now in moved:
        if part.path.startswith(f"{before.rstrip('/')}/"):
            return part._replace(path=now.rstrip("/") + part.path[len(before.rstrip("/")) :])
    return part


def any_affected(items: Iterator[Item]) -> bool:
    """Return whether some image is read otherwise by this reader than by the first one; unknown counts as yes."""
    return any(_is_affected(item.parts["image"]) for item in items)


def _is_affected(part: Part) -> bool:
    if "://" in part.path:
        return True
    try:
        return is_affected(read_range(part.path, max(0, part.offset), part.size if part.offset >= 0 else None))
    except OSError:
        return True


def moved_places(before: Mapping[str, Any], now: Mapping[str, Any]) -> Moved:
    """Return the folders of an attempt that lie elsewhere now, (before, now) each."""
    pairs = [(before.get(name), now.get(name)) for name in ("source", "masks_at")]
    return tuple((str(one), str(other)) for one, other in pairs if one and other and one != other)


class Nowhere:
    """A stream that keeps nothing: what is written to it is only hashed."""

    def write(self, content: bytes) -> int:
        """Take bytes."""
        return len(content)
