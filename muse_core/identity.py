"""One identity of data and weights: whether what a command goes on with holds what it began with.

An identity is made of contents and never of paths or times: those only decide whether a file must be looked at again.
Whatever is resumed or kept between commands (runs, shards, latents, features) records one and compares it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from muse_core.errors import MuseError

FIRST_READER = 1
"""The reader of images of 0.1.0, which recorded none."""

END = 1 << 20
"""Bytes at each end of a file that stand for all of it where no checksum is recorded."""

SMALL_END = 1 << 16
"""The same for each of many small files."""

WHOLE, ENDS, SMALL_ENDS = "sha256:", "ends:", "ends64k:"
_MOST_NAMED = 3

Fact = str | int | float | None


@dataclass(frozen=True)
class Content:
    """One file, known by what it holds.

    name: what a difference calls it. size: bytes, None where only a transfer would tell. digest: "sha256:..." of all of
    it, "ends:..." of its first and last MiB, or "" where neither can be had without a transfer. path, changed: where it
    lay when it was looked at, and its times of change; never compared.
    """

    name: str
    size: int | None = None
    digest: str = ""
    path: str = field(default="", compare=False)
    changed: str = field(default="", compare=False)


@dataclass(frozen=True)
class Part:
    """One source or one set of weights: facts that are no file (ratio, step, version), and its files in order."""

    facts: Mapping[str, Fact]
    files: tuple[Content, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """changed: what is certainly different, in words. unchecked: names of files whose content could not be compared."""

    changed: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()

    def in_words(self) -> str:
        """Name the first differences, and how many more there are."""
        return first_of(self.changed, "; ")


@dataclass(frozen=True)
class Identity:
    """What some input holds: several parts where sources are mixed, else one."""

    parts: tuple[Part, ...]

    @property
    def files(self) -> tuple[Content, ...]:
        """All files, part after part."""
        return tuple(file for part in self.parts for file in part.files)

    def known(self) -> dict[str, Content]:
        """Return what was looked at, by its path."""
        return {file.path: file for file in self.files if file.path}

    def fingerprint(self) -> str:
        """Return a hash of everything that is compared."""
        document = [[dict(part.facts), [(one.name, one.size, one.digest) for one in part.files]] for part in self.parts]
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def compare(self, now: Identity) -> Comparison:
        """Compare what was recorded with what is there now."""
        if len(self.parts) != len(now.parts):
            return Comparison((f"{len(self.parts)} sources there, {len(now.parts)} now",))
        pairs = [_compare(one, other) for one, other in zip(self.parts, now.parts, strict=True)]
        return Comparison(
            tuple(text for pair in pairs for text in pair.changed),
            tuple(name for pair in pairs for name in pair.unchecked),
        )

    def to_json(self) -> list[dict[str, Any]]:
        """Return a JSON-able document."""
        return [{"facts": dict(part.facts), "files": [vars(file) for file in part.files]} for part in self.parts]

    @classmethod
    def from_json(cls, document: Any) -> Identity:
        """Read what `to_json` gave.

        Raises:
            MuseError: it is something else.
        """
        try:
            parts = [Part(one["facts"], tuple(Content(**file) for file in one["files"])) for one in document]
        except (KeyError, TypeError) as error:
            raise MuseError(f"a recorded identity cannot be read: {error!r}") from None
        return cls(tuple(parts))


def _compare(one: Part, other: Part) -> Comparison:
    keys = [key for key in {**one.facts, **other.facts} if one.facts.get(key) != other.facts.get(key)]
    changed = [f"{key} {one.facts.get(key)} there, {other.facts.get(key)} now" for key in keys]
    names, now = [file.name for file in one.files], [file.name for file in other.files]
    if names != now:
        gone, new = Counter(names) - Counter(now), Counter(now) - Counter(names)
        changed += [f"{name} is gone" for name in gone] + [f"{name} is new" for name in new]
        return Comparison(tuple(changed if gone or new else [*changed, "the files come in another order"]))
    unchecked = []
    for before, after in zip(one.files, other.files, strict=True):
        if None not in (before.size, after.size) and before.size != after.size:
            changed.append(f"{before.name} had {before.size:,} bytes and has {after.size:,}")
        elif before.digest.partition(":")[0] != after.digest.partition(":")[0] or not before.digest:
            unchecked.append(before.name)
        elif before.digest != after.digest:
            changed.append(f"{before.name} holds other bytes of the same size")
    return Comparison(tuple(changed), tuple(unchecked))


def first_of(texts: Iterable[str], between: str = ", ") -> str:
    """Join the first few of some texts, and count the others."""
    every = list(texts)
    more = f"{between}and {len(every) - _MOST_NAMED} more" if len(every) > _MOST_NAMED else ""
    return between.join(every[:_MOST_NAMED]) + more


def look(
    path: Path, name: str, known: Mapping[str, Content] | None = None, *, whole: bool = False, small: bool = False
) -> Content:
    """Return the content of a local file, unread where it is known by its path, size and times of change.

    Args:
        path: the file. name: what differences call it. known: what was looked at before, by path.
        whole: hash all of it, rather than its first and last MiB. small: it is one of many, of which 64 KiB at each end
        are hashed.

    Raises:
        OSError: it cannot be read.
    """
    here, (size, changed) = str(path.absolute()), stamp(path)
    kind = WHOLE if whole else SMALL_ENDS if small else ENDS
    before = (known or {}).get(here)
    if before and (before.size, before.changed) == (size, changed) and before.digest.startswith(kind):
        return Content(name, size, before.digest, here, changed)
    digest = _digest(here, size, changed, whole, SMALL_END if small else END)
    return Content(name, size, kind + digest, here, changed)


def stamp(path: Path) -> tuple[int, str]:
    """Return the size of a file and its times of change: that of its content, and that which no tool sets back."""
    state = path.stat()
    return state.st_size, f"{state.st_mtime_ns}.{state.st_ctime_ns}"


@lru_cache(maxsize=4096)
def _digest(path: str, size: int, changed: str, whole: bool, end: int) -> str:
    """Hash a file, once for each of its states that this process sees."""
    with Path(path).open("rb") as stream:
        if whole:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        digest = hashlib.sha256(stream.read(end))
        if size > end:
            stream.seek(max(end, size - end))
            digest.update(stream.read(end))
    return digest.hexdigest()
