"""Samples that lie in tars already: where each member is, without reading it."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from itertools import groupby

from muse_core.data.shard_names import base_plus_ext
from muse_core.data.sharding.items import Item, Left, Part
from muse_core.data.sharding.places import Place, open_file
from muse_core.file_names import MASK, NO_FILE, is_clutter, is_picture

STORED = {"txt": "txt", "text": "txt", "caption": "txt", "json": "json", "cls": "cls", MASK: MASK}
Member = tuple[str, Part]


def tars(place: Place, folder: str = "") -> Iterator[Item | Left]:
    """Every sample of every tar under a folder, in the order of names and within a tar as it lies there."""
    for entry in place.entries(folder):
        if is_clutter(entry.name):
            continue
        path = f"{folder}/{entry.name}" if folder else entry.name
        if entry.is_folder and not entry.name.startswith("."):
            yield from tars(place, path)
        elif entry.is_special:
            yield Left(path, NO_FILE)
        elif not entry.is_folder and entry.name.lower().endswith(".tar"):
            yield from samples(place, path, entry.size)
        elif not entry.is_folder:
            yield Left(path, "not a tar")


def samples(place: Place, tar: str, size: int) -> Iterator[Item | Left]:
    """Every sample of one tar; members of one must lie together, as everywhere."""
    ends = Ends()
    seen: set[str] = set()
    for key, group in groupby(_members(place.path(tar), ends), lambda member: base_plus_ext(member[0])[0]):
        members = list(group)
        name = f"{tar}/{key}"
        if key is None:
            yield from (Left(f"{tar}/{member}", "has no suffix") for member, _ in members)
        elif key in seen:
            yield Left(name, "key occurs again later in its tar", error=True)
        else:
            seen.add(key)
            yield from _sample(name, members)
    if ends.problem:
        yield Left(tar, f"tar cannot be read to its end ({ends.problem})", error=True)
    elif ends.at + 2 * tarfile.BLOCKSIZE > size:
        yield Left(tar, "tar has no end mark: it may have been cut off", error=True)


class Ends:
    """How reading a tar ended: at which byte, and with which problem."""

    at = 0
    problem = ""


def _members(path: str, ends: Ends) -> Iterator[Member]:
    try:
        with open_file(path) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # it would remember each of them
                ends.at = member.offset_data + member.size + -member.size % tarfile.BLOCKSIZE
                if member.isreg() and not is_clutter(member.name):
                    yield member.name, Part(path, member.size, member.offset_data)
    except (tarfile.TarError, OSError, EOFError) as problem:
        ends.problem = str(problem) or type(problem).__name__


def _sample(name: str, members: list[Member]) -> Iterator[Item | Left]:
    parts: dict[str, Part] = {}
    for member, part in members:
        suffix = base_plus_ext(member)[1].lower()
        kind = "image" if is_picture(f"x.{suffix}") and "." not in suffix else STORED.get(suffix)
        if kind is None:
            yield Left(f"{name}.{suffix}", f"members .{suffix} are not stored")
        elif kind in parts:
            yield Left(name, f"holds more than one {kind}", error=True)
            return
        else:
            parts[kind] = part
    cut = any("." in base_plus_ext(member)[1] for member, _ in members)
    reason = "no image (names are cut at the first dot)" if cut else "no image"
    yield Item(name, parts) if "image" in parts else Left(name, reason, error=True)
