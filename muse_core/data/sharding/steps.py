"""The four steps from a source to shards; what each found lies in files, so that any process can go on from there."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, cast

from muse_core.data.decode import BadMemberError
from muse_core.data.sharding.check import look
from muse_core.data.sharding.items import Item, Left, Looked, Planned, listed_from, planned_from, to_line
from muse_core.data.sharding.listing import open_listing
from muse_core.data.sharding.members import members
from muse_core.data.sharding.options import ShardOptions
from muse_core.data.sharding.places import Place
from muse_core.data.sharding.plan import ShardPlan, shards, shuffled, split_of
from muse_core.data.sharding.tar import TarWriter
from muse_core.data.sharding.unchanged import (
    Moved,
    Nowhere,
    changed_since,
    identity_of_entry,
    refuse_changed,
    relocated,
    seen_of,
    stamp_of,
)
from muse_core.errors import MuseError

CHUNK = 1000
"""Items that are checked together."""

FEW = 10
"""So many damaged files are never too many: one in twenty snapshots is no reason to refuse the other nineteen."""

LISTED, PLANNED = "listed.json", "planned.json"


@dataclass(frozen=True)
class Task:
    """What every step needs.

    source, out, work: folders or addresses; tars go to `out`, everything else to `work`. moved: where folders of the
    source lie now that lay elsewhere when it was listed.
    """

    source: str
    out: str
    work: str
    options: ShardOptions
    moved: Moved = ()


def list_source(task: Task, told: Callable[[int], None]) -> dict[str, Any]:
    """Step 1: write what the source holds into chunks, and return what is to be known of all of it."""
    listing = open_listing(Place(task.source), task.options)
    work, digest = Place(task.work), hashlib.sha256()
    seen = _Seen()
    chunks = 0
    while chunk := list(islice(listing.items, CHUNK)):
        for entry in chunk:
            seen.note(entry)
            digest.update(identity_of_entry(entry))
        work.write(f"listing/{chunks:06d}.jsonl", "".join(map(to_line, chunk)))
        chunks += 1
        told(len(chunk))
    order = listing.order if listing.order is not None else seen.folders(task.options.classes)
    return {
        "chunks": chunks,
        "items": seen.items,
        "fingerprint": digest.hexdigest(),
        "order": list(order),
        "names": list(listing.names or order),
        "numbers": listing.numbers,
        "splits": list(listing.splits),
        "more": dict(listing.more),
    }


class _Seen:
    """What decides whether folders are classes: all pictures exactly one folder deep, in several, without captions."""

    def __init__(self) -> None:
        self.items = 0
        self._labels: set[str] = set()
        self._one_deep = True
        self._captions = False

    def note(self, entry: Item | Left) -> None:
        if isinstance(entry, Item):
            self.items += 1
            self._labels.add(entry.label)
            self._one_deep &= entry.name.count("/") == 1
            self._captions |= bool(entry.text) or not entry.parts.keys().isdisjoint(("txt", "json"))

    def folders(self, classes: str) -> tuple[str, ...]:
        likely = self._one_deep and len(self._labels) > 1 and not self._captions
        return tuple(sorted(self._labels - {""})) if classes == "folders" or likely else ()


def check_chunk(task: Task, number: int) -> int:
    """Step 2, of one chunk: look at its items, and return how many there were.

    Raises:
        MuseError: an item has changed since an earlier attempt looked at it.
    """
    work = Place(task.work)
    entries = _chunk(work, number)
    items = [relocated(entry, task.moved) for entry in entries if isinstance(entry, Item)]
    seen, name = f"seen/{number:06d}.json", f"checked/{number:06d}.json"
    if work.exists(seen):
        refuse_changed(task.source, items, json.loads(work.read(seen)))
    else:
        work.write(seen, json.dumps([seen_of(item) for item in items]))
    if not work.exists(name):
        work.write(name, json.dumps([look(item, task.options) for item in items]))
    return len(entries)


def plan(task: Task, listed: dict[str, Any]) -> dict[str, Any]:
    """Step 3: decide where every item goes, and return the shards to be.

    Raises:
        MuseError: nothing is left to store, or too much is damaged.
    """
    work, options = Place(task.work), task.options
    planned: list[dict[str, Any]] = []
    with work.writing("skipped.csv") as stream:
        leaving = _Leaving(stream)
        notes: Counter[str] = Counter()
        samples = _samples(task, listed, leaving, notes)
        ordered = shuffled(samples, options.seed) if options.shuffle else samples
        for number, shard in enumerate(shards(ordered, options.per_shard, options.shard_bytes)):
            work.write(f"plan/{number:06d}.jsonl", "".join(shard.lines))
            planned.append(_described(number, shard))
    leaving.refuse(listed["items"], options)
    if not planned:
        raise MuseError(f"no pictures to store in {task.source}{leaving.in_words()}", hint=leaving.hint())
    planned.sort(key=lambda one: str(one["name"]))
    counts = Counter({split: 0 for split in [*(options.split or {}), *listed["splits"]]})
    for one in planned:
        counts[one["split"]] += one["count"]
    return {
        "shards": planned,
        "counts": counts,
        "width": max(5, *(len(str(count - 1)) for count in counts.values() if count)),
        "skipped": leaving.reasons,
        "errors": leaving.damaged.total(),
        "notes": notes,
    }


def write_shard(task: Task, width: int, shard: dict[str, Any]) -> dict[str, Any]:
    """Step 4, of one shard: write its tar, then the record that it is there.

    Raises:
        MuseError: it was there, and its images are no longer those that it holds.
    """
    out, work = Place(task.out), Place(task.work)
    record_name = f"written/{shard['number']:06d}.json"
    samples = [planned_from(line) for line in work.read(f"plan/{shard['number']:06d}.jsonl").decode().splitlines()]
    samples = [planned._replace(item=relocated(planned.item, task.moved)) for planned in samples]
    stamps = [stamp_of(planned.item) for planned in samples]
    if work.exists(record_name) and out.exists(shard["name"]):
        done: dict[str, Any] = json.loads(work.read(record_name))
        if done["stamps"] == stamps:
            return done
        again = _fill(task, width, shard, samples, cast(BinaryIO, Nowhere()))
        if again["sha256"] != done["sha256"]:
            others = zip(samples, stamps, done["stamps"], strict=True)
            names = [planned.item.name for planned, now, before in others if now != before]
            raise changed_since(task.source, [f"{name} (in {shard['name']}, which is written)" for name in names])
        record = {**done, "stamps": stamps}
    else:
        with out.writing(shard["name"]) as stream:
            record = {**_fill(task, width, shard, samples, stream), "stamps": stamps}
    work.write(record_name, json.dumps(record))
    return record


def _fill(
    task: Task, width: int, shard: dict[str, Any], samples: Sequence[Planned], stream: BinaryIO
) -> dict[str, Any]:
    """Write the samples of a shard to a stream, and return its record."""
    fields: Counter[str] = Counter()
    left: list[tuple[str, str]] = []
    tar, count = TarWriter(stream), 0
    for planned in samples:
        try:
            stored = members(planned, task.options)
        except BadMemberError as problem:
            _stop_if_asked(Left(planned.item.name, str(problem), error=True), task.options)
            left.append((planned.item.name, str(problem)))
            continue
        tar.add(f"{shard['first'] + count:0{width}d}", stored)
        fields.update(stored.keys())
        count += 1
    tar.close()
    record = {"name": shard["name"], "split": shard["split"], "count": count, "bytes": tar.bytes, "sha256": tar.sha256}
    return {**record, "fields": fields, "skipped": left}


def csv_row(*values: str) -> bytes:
    """Write one row; names that are not text keep their bytes."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(values)
    return stream.getvalue().encode("utf-8", "surrogateescape")


def _samples(
    task: Task, listed: dict[str, Any], leave: Callable[[Left], None], notes: Counter[str]
) -> Iterator[tuple[str, Planned, int]]:
    work, options = Place(task.work), task.options
    index = {key: number for number, key in enumerate(listed["order"])}
    for number in range(listed["chunks"]):
        looked = iter([Looked(*one) for one in json.loads(work.read(f"checked/{number:06d}.json"))])
        for entry in _chunk(work, number):
            if isinstance(entry, Left):
                leave(entry)
                continue
            found = next(looked)
            if not found.reason and options.classes == "folders" and not entry.label:
                found = Looked(reason="lies in no class folder", error=True)
            if found.reason:
                leave(Left(entry.name, found.reason, found.error))
                continue
            label = int(entry.label) if listed["numbers"] and entry.label else index.get(entry.label, -1)
            notes.update(found.notes)
            split = entry.split or (split_of(entry.name, options.split) if options.split else "")
            yield split, Planned(entry, found.suffix, label), found.bytes


class _Leaving:
    """Notes what is left out: each with its reason in a file, and counts."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.reasons: Counter[str] = Counter()
        self.damaged: Counter[str] = Counter()
        self._first: Left | None = None
        self._tars = False

    def __call__(self, left: Left) -> None:
        self._stream.write(csv_row(left.name, left.reason))
        self.reasons[left.reason] += 1
        self._tars |= left.name.endswith(".tar")
        if left.error:
            self.damaged[left.reason] += 1
            self._first = self._first or left

    def refuse(self, items: int, options: ShardOptions) -> None:
        """Stop when anything is damaged, or too much of it, as the options say."""
        if self._first is None:
            return
        _stop_if_asked(self._first, options)
        count = self.damaged.total()
        if count > max(FEW, options.limit_errors * items):
            found = "; ".join(f"{number} x {reason}" for reason, number in self.damaged.most_common(5))
            raise MuseError(
                f"{count} of {items} pictures are damaged, more than the allowed {options.limit_errors:.1%}: {found} "
                f"(first: {self._first.name})",
                hint=f"--limit-errors {-(-100 * count // max(1, items))}%",
            )

    def in_words(self) -> str:
        """Say why things were left out, most frequent first."""
        reasons = "; ".join(f"{count} x {reason}" for reason, count in self.reasons.most_common(5))
        return f": {reasons}" if reasons else ""

    def hint(self) -> str | None:
        """Say what was perhaps meant."""
        return "tars of pictures are read with --recipe cc12m" if self._tars else None


def _stop_if_asked(left: Left, options: ShardOptions) -> None:
    if options.on_error == "stop":
        raise MuseError(f"{left.name}: {left.reason}", hint="--on-error skip leaves such files out and counts them")


def _described(number: int, shard: ShardPlan) -> dict[str, Any]:
    return {
        "number": number,
        "name": shard.name,
        "split": shard.split,
        "first": shard.first,
        "count": len(shard.lines),
        "bytes": shard.bytes,
    }


def listed_entries(work: Place, listed: Mapping[str, Any]) -> Iterator[Item | Left]:
    """Return everything that was listed, in order."""
    for number in range(listed["chunks"]):
        yield from _chunk(work, number)


def _chunk(work: Place, number: int) -> list[Item | Left]:
    return [listed_from(line) for line in work.read(f"listing/{number:06d}.jsonl").decode().splitlines()]
