"""One tar: which samples it holds, found from its headers alone, and their bytes on request.

Samples are found by random access, so members of one sample may stand anywhere in the tar. What cannot be read becomes
a `Skip`; a tar that ends too early, or in the middle of something, is noticed even where reading it raises no error.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from muse_core.data.decode import RawSample
from muse_core.data.sample import Skip
from muse_core.data.shard_names import base_plus_ext
from muse_core.file_names import is_clutter
from muse_core.text_files import readable

CUT_OFF = "cut off by the end of its shard"
REPEATED = "key occurs again later in its shard"
TWICE = "key holds the same suffix twice"
CUT_SHARD = "shard is cut off"
MORE = "shard has more behind its end"
NO_SAMPLES = "shard holds no samples"
CHANGED = "shard changed while it was read"
APART = "members of a sample are not together in its shard (joined)"

_BLOCK = tarfile.BLOCKSIZE
_META = re.compile(r"__[^/]*__($|/)")  # names that webdataset keeps for itself


@dataclass(frozen=True)
class Member:
    """Where one file of a tar lies: its content begins at byte `offset`. check: the checksum in its header."""

    suffix: str
    offset: int
    size: int
    check: int


@dataclass
class Entry:
    """One sample of a tar, or why what is there is none. apart: other samples stand between its members."""

    key: str
    members: list[Member] = field(default_factory=list)
    problem: str | None = None
    apart: bool = False


@dataclass(frozen=True)
class Listing:
    """What a tar holds.

    entries: in the order in which their first members stand. problem: why there may be more than could be listed.
    others: files that belong to no sample, such as those without a suffix. ordered: keys stand in rising order.
    """

    entries: tuple[Entry, ...]
    problem: str | None = None
    others: int = 0
    ordered: bool = True


def list_tar(stream: BinaryIO) -> Listing:
    """List the samples of a tar that is not packed."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    if size == 0:
        return Listing((), "shard is empty")
    finder = _Finder()
    problem, end = None, 0
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # else it keeps every header
                finder.take(info)
                end = tar.offset
    except (tarfile.TarError, ValueError) as error:
        problem = CUT_SHARD if finder.runs else f"shard is not a tar ({type(error).__name__})"
    problem = problem or _wrong_end(stream, end, size)
    entries = finder.entries()
    if entries and problem not in (None, MORE):
        _mark_cut(entries, finder.last())
    if not entries:
        problem = problem or NO_SAMPLES
    return Listing(tuple(entries), problem, finder.others, finder.ordered)


def _mark_cut(entries: list[Entry], last: Entry) -> None:
    """Mark the samples of a damaged tar that may lack members: the last, and where members stand apart any other."""
    expected = {member.suffix for entry in entries if entry.apart for member in entry.members}
    for entry in entries:
        if entry is last or not expected <= {member.suffix for member in entry.members}:
            entry.problem = entry.problem or CUT_OFF


def read_entry(stream: BinaryIO, entry: Entry, key: str) -> RawSample | Skip:
    """The bytes of one sample under the name `key`."""
    if entry.problem:
        return Skip(entry.problem, key)
    members = {}
    for member in entry.members:
        stream.seek(member.offset - _BLOCK)
        block = stream.read(_BLOCK + member.size)
        if len(block) < _BLOCK + member.size or _header_check(block) != member.check:
            return Skip(CHANGED, key)
        members[member.suffix] = block[_BLOCK:]
    return RawSample(key, members)


def read_tar(
    stream: BinaryIO, name: str, wanted: Callable[[int], bool], listing: Listing | None = None
) -> Iterator[RawSample | Skip | None]:
    """Every sample of a tar called `name`, or None where `wanted` says no to its number: nothing of it is read then."""
    found = listing or list_tar(stream)
    stem = name.removesuffix(".tar")
    before = _state(stream)
    for number, entry in enumerate(found.entries):
        key = f"{stem}/{entry.key}"
        if not wanted(number):
            yield None
        elif _state(stream) != before:
            yield Skip(CHANGED, key)
        else:
            yield read_entry(stream, entry, key)
    apart = [entry.key for entry in found.entries if entry.apart]
    if apart:
        yield Skip(APART, f"{name} ({len(apart)} samples, first {apart[0]})", error=False)
    if found.problem and not (found.problem == CUT_SHARD and found.entries):  # then its last sample tells
        yield Skip(found.problem, name)


class _Finder:
    """Gathers members into runs that stand together, and runs into samples."""

    def __init__(self) -> None:
        self.runs: list[Entry] = []
        self.others = 0
        self.ordered = True

    def take(self, info: tarfile.TarInfo) -> None:
        if _META.match(info.name) or info.isdir() or is_clutter(info.name):
            return
        name = readable(info.name).removeprefix("./")
        key, suffix = base_plus_ext(name)
        if key is None or not info.isreg() or info.issparse():
            self.others += 1
            return
        if not self.runs or self.runs[-1].key != key:
            self.ordered = self.ordered and (not self.runs or self.runs[-1].key < key)
            self.runs.append(Entry(key))
        self.runs[-1].members.append(Member(suffix.lower(), info.offset_data, info.size, info.chksum))

    def last(self) -> Entry:
        """The sample that the last member belongs to."""
        return self._home[self.runs[-1].key]

    def entries(self) -> list[Entry]:
        """Join the runs of each key, where they are one sample in parts."""
        by_key: dict[str, list[Entry]] = {}
        for run in self.runs:
            by_key.setdefault(run.key, []).append(run)
        kept = {key: _resolve(runs) for key, runs in by_key.items()}
        self._home = {key: runs[-1] for key, runs in kept.items()}
        stays = {id(run) for runs in kept.values() for run in runs}
        return [run for run in self.runs if id(run) in stays]


def _resolve(runs: list[Entry]) -> list[Entry]:
    """The samples in the runs of one key: one, where they fit together, else all of them with what is wrong."""
    for run in runs:
        if len({member.suffix for member in run.members}) < len(run.members):
            run.problem = TWICE
    if len(runs) == 1:
        return runs
    suffixes = [{member.suffix for member in run.members} for run in runs]
    every = set.union(*suffixes)
    if sum(len(run.members) for run in runs) == len(every):
        runs[0].members, runs[0].apart = [member for run in runs for member in run.members], True
        return runs[:1]
    for run in runs if every > suffixes[0] else runs[1:]:  # the first is whole when it lacks nothing
        run.problem = run.problem or REPEATED
    return runs


def _wrong_end(stream: BinaryIO, end: int, size: int) -> str | None:
    """Say what is wrong where the last member ends: a tar ends in blocks of zeros and nothing else.

    Python's reader, as others, takes a damaged header for the end, and so does whoever joins two tars.
    """
    stream.seek(end)
    block = stream.read(_BLOCK)
    if len(block) < _BLOCK:
        return CUT_SHARD
    if any(block):
        return f"shard is damaged at byte {end}"
    while block := stream.read(1 << 20):
        if any(block):
            return MORE
    return None


def _header_check(block: bytes) -> int:
    text = block[148:156].split(b"\0")[0].strip()
    return int(text, 8) if text and all(48 <= one < 56 for one in text) else -1


def _state(stream: BinaryIO) -> tuple[int, int] | None:
    """Size and time of change of an open file; None when it is none."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, AttributeError):
        return None
    return found.st_size, found.st_mtime_ns
