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

from muse_core.data.coverage import Coverage
from muse_core.data.decode import BadMemberError
from muse_core.data.labels import BadLabelError
from muse_core.data.sharding.check import look
from muse_core.data.sharding.classes import LOOK_LIKE_SPLITS, FolderClasses, Numbering, words_as_classes
from muse_core.data.sharding.damage import Damage, refuse_empty_splits
from muse_core.data.sharding.items import Item, Left, Looked, Planned, listed_from, planned_from, to_line
from muse_core.data.sharding.listing import open_listing
from muse_core.data.sharding.members import members, without_caption
from muse_core.data.sharding.options import ShardOptions
from muse_core.data.sharding.places import Place
from muse_core.data.sharding.plan import ShardPlan, room, shards, shuffled, split_of
from muse_core.data.sharding.tar import TarWriter
from muse_core.data.sharding.tree import MADE
from muse_core.data.sharding.unchanged import (
    Moved,
    Nowhere,
    changed_since,
    identity_of_entry,
    name_of_entry,
    refuse_changed,
    relocated,
    seen_of,
    stamp_of,
    texts_of,
)
from muse_core.data.vocabulary import reasons_in_words
from muse_core.errors import MuseError

CHUNK = 1000
"""Items that are checked together."""

NO_FOLDER = "lies in no class folder"
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
    work, digest, files = Place(task.work), hashlib.sha256(), hashlib.sha256()
    seen = FolderClasses()
    chunks = 0
    while chunk := list(islice(listing.items, CHUNK)):
        for entry in chunk:
            seen.note(entry)
            if not isinstance(entry, Left) or entry.reason != MADE:  # results that come beside images change no shard
                digest.update(identity_of_entry(entry))
                files.update(name_of_entry(entry))
        work.write(f"listing/{chunks:06d}.jsonl", "".join(map(to_line, chunk)))
        chunks += 1
        told(len(chunk))
    coverage = listing.asked.judge() if seen.items else []
    order = listing.order
    if order is None:
        try:
            order = seen.folders(task.options.classes)
        except BadLabelError as problem:
            raise MuseError(f"folders {problem}", hint="rename one of them, or --classes none") from None
    if said := seen.in_words(task.options.classes):
        coverage.append(said)
    if order and LOOK_LIKE_SPLITS.issuperset(name.lower() for name in order):
        coverage.append(f"the classes are {', '.join(order)}, which look like splits; muse shard each of these folders")
    return {
        "coverage": coverage,
        "asked": {kind: [one.what, one.pattern] for kind, one in listing.asked.coverages.items()},
        "chunks": chunks,
        "items": seen.items,
        "fingerprint": digest.hexdigest(),
        "files": files.hexdigest(),
        "order": list(order),
        "names": list(listing.names or order),
        "numbers": listing.numbers,
        "splits": list(listing.splits),
        "more": dict(listing.more),
    }


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
        found = json.loads(work.read(seen))
        refuse_changed(task.source, items, found)
    else:
        found = [seen_of(item) for item in items]
        work.write(seen, json.dumps(found))
    if not work.exists(_texts(number)):
        texts = [texts_of(item, heads) for item, (_, heads) in zip(items, found, strict=True)]
        work.write(_texts(number), json.dumps(texts))
    if not work.exists(name):
        work.write(name, json.dumps([look(item, task.options) for item in items]))
    return len(entries)


def texts_in(task: Task, number: int) -> list[str]:
    """Return hashes of the texts beside each item of a chunk, which are read where it was not checked before."""
    work, name = Place(task.work), _texts(number)
    if not work.exists(name):
        items = (relocated(entry, task.moved) for entry in _chunk(work, number) if isinstance(entry, Item))
        work.write(name, json.dumps([texts_of(item, {}) for item in items]))
    found: list[str] = json.loads(work.read(name))
    return found


def _texts(number: int) -> str:
    return f"texts/{number:06d}.json"


def plan(task: Task, listed: dict[str, Any]) -> dict[str, Any]:
    """Step 3: decide where every item goes, and return the shards to be.

    Raises:
        MuseError: nothing is left to store, or too much is damaged.
    """
    work, options = Place(task.work), task.options
    planned: list[dict[str, Any]] = []
    numbering = _numbering(task, listed)
    asked = {kind: Coverage(*one) for kind, one in listed["asked"].items()}
    asked.setdefault("captions", Coverage(f"--captions {options.captions}"))
    with work.writing("skipped.csv") as stream:
        leaving = _Leaving(stream)
        notes: Counter[str] = Counter()
        samples = _samples(task, listed, numbering, asked, leaving, notes)
        ordered = shuffled(samples, options.seed) if options.shuffle else samples
        most = _room(task, listed, numbering)
        for number, shard in enumerate(shards(ordered, most, options.most_bytes)):
            work.write(f"plan/{number:06d}.jsonl", "".join(shard.lines))
            planned.append(_described(number, shard))
    if leaving.damage.first:
        _stop_if_asked(leaving.damage.first, options)
    leaving.damage.refuse_much(listed["items"], options)
    if not planned:
        raise MuseError(f"no pictures to store in {task.source}{leaving.in_words()}", hint=leaving.hint())
    for coverage in asked.values():
        coverage.refuse_none()
    planned.sort(key=lambda one: str(one["name"]))
    counts = Counter({split: 0 for split in [*(options.split or {}), *listed["splits"]]})
    for one in planned:
        counts[one["split"]] += one["count"]
    refuse_empty_splits(counts, options)
    return {
        "coverage": [*filter(None, (coverage.in_words() for coverage in asked.values())), *listed["coverage"]],
        "classes": list(listed["names"] or numbering.names),
        "shards": planned,
        "counts": counts,
        "width": max(5, *(len(str(count - 1)) for count in counts.values() if count)),
        "skipped": leaving.reasons,
        "notes": notes,
        "damaged": leaving.damage.reasons,
        "first_damaged": leaving.damage.first,
    }


def write_shard(task: Task, width: int, shard: dict[str, Any]) -> dict[str, Any]:
    """Step 4, of one shard: write its tar, then the record that it is there.

    Raises:
        MuseError: it was there, and its images are no longer those that it holds.
    """
    out, work = Place(task.out), Place(task.work)
    record_name = f"written/{shard['number']:06d}.json"
    samples = samples_of(task, shard)
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


def samples_of(task: Task, shard: Mapping[str, Any]) -> list[Planned]:
    """Return what a shard is to hold, in order."""
    lines = Place(task.work).read(f"plan/{shard['number']:06d}.jsonl").decode().splitlines()
    samples = [planned_from(line) for line in lines]
    return [planned._replace(item=relocated(planned.item, task.moved)) for planned in samples]


def csv_row(*values: str) -> bytes:
    """Write one row; names that are not text keep their bytes."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(values)
    return stream.getvalue().encode("utf-8", "surrogateescape")


def _checked(work: Place, listed: dict[str, Any]) -> Iterator[tuple[Item, Looked] | Left]:
    """Everything that was listed, images with what the look at them found."""
    for number in range(listed["chunks"]):
        looked = iter([Looked(*one) for one in json.loads(work.read(f"checked/{number:06d}.json"))])
        for entry in _chunk(work, number):
            yield entry if isinstance(entry, Left) else (entry, next(looked))


def _numbering(task: Task, listed: dict[str, Any]) -> Numbering:
    options = task.options
    if listed["order"] or listed["numbers"] or options.classes != "auto" or options.recipe:
        return Numbering.of(listed["order"], listed["numbers"])
    found = (one for one in _checked(Place(task.work), listed) if not isinstance(one, Left))
    return Numbering.of(words_as_classes((item, looked) for item, looked in found if not looked.reason))


def _samples(
    task: Task,
    listed: dict[str, Any],
    numbering: Numbering,
    asked: Mapping[str, Coverage],
    leave: Callable[[Left], None],
    notes: Counter[str],
) -> Iterator[tuple[str, Planned, int]]:
    options = task.options
    beside = asked.get("captions") if options.captions.partition(":")[0] in ("txt", "json") else None
    for found in _checked(Place(task.work), listed):
        if isinstance(found, Left):
            leave(found)
            continue
        item, looked = found
        label, bad = numbering.label(item, looked)
        if not looked.reason and options.classes == "folders" and not item.label:
            bad = NO_FOLDER
        if looked.reason or bad:
            leave(Left(item.name, looked.reason or bad, looked.error if looked.reason else True))
            continue
        if beside:
            known = looked.captioned or beside.needs
            beside.note(looked.captioned, "" if known else without_caption(item, options.captions))
        for kind in listed["asked"]:
            asked[kind].note_of(item.name, fits=kind not in item.lacks)
        notes.update(looked.notes)
        split = item.split or (split_of(item.name, options.split) if options.split else "")
        yield split, Planned(item, looked.suffix, label), looked.bytes


def _room(task: Task, listed: dict[str, Any], numbering: Numbering) -> Callable[[str, int], int]:
    """Return how many samples each shard of a split takes: as asked, or shared out once all of them are counted."""
    most = task.options.most_samples
    if most is not None:
        return lambda split, number: most
    every = _samples(task, {**listed, "asked": {}}, numbering, {}, lambda left: None, Counter())
    counts = Counter(split for split, _, _ in every)
    return lambda split, number: room(counts[split], number)


class _Leaving:
    """Notes what is left out: each with its reason in a file, and counts."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.reasons: Counter[str] = Counter()
        self.damage = Damage()
        self._tars = False

    def __call__(self, left: Left) -> None:
        self._stream.write(csv_row(left.name, left.reason))
        self.reasons[left.reason] += 1
        self._tars |= left.name.endswith(".tar")
        if left.error:
            self.damage.note(left)

    def in_words(self) -> str:
        """Say why things were left out, most frequent first."""
        reasons = reasons_in_words(self.reasons)
        return f": {reasons}" if reasons else ""

    def hint(self) -> str | None:
        """Say what was perhaps meant."""
        if NO_FOLDER in self.reasons:
            return "a folder for each class, or --classes csv:FILE with the class of every image, or --classes none"
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
