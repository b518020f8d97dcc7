"""What a finished set was made of: whether its source still holds the same, and what of it does not."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO

from muse_core.data.decode import BadMemberError, RawSample
from muse_core.data.sharding.items import Item, Planned
from muse_core.data.sharding.members import texts
from muse_core.data.sharding.options import ShardOptions
from muse_core.data.sharding.places import Place, open_file
from muse_core.data.sharding.report import Sharded
from muse_core.data.sharding.steps import Task, check_chunk, list_source, plan, samples_of, texts_in
from muse_core.data.sharding.team import spread
from muse_core.data.tars import list_tar, read_entry
from muse_core.errors import MuseError
from muse_core.progress import Progress
from muse_core.text_files import readable

VERSION = "2"
"""Of fingerprints. Those of the first have none in front, and know of texts how long they are."""


def fingerprint(task: Task, listed: Mapping[str, Any]) -> str:
    """Return what a set remembers of its source: VERSION:FILES:ALL, hashes of its images and of all it holds."""
    digest = hashlib.sha256(listed["fingerprint"].encode())
    for number in range(listed["chunks"]):
        for one in texts_in(task, number):
            digest.update(f"{one}\n".encode())
    return f"{VERSION}:{listed['files']}:{digest.hexdigest()}"


def refuse_other_source(
    source: str, finished: Sharded, options: ShardOptions, workers: int, progress: Progress
) -> None:
    """Refuse to call shards finished whose source has come to hold other files, sizes, captions or labels since.

    Raises:
        MuseError: it has. Shards of 0.1.0 do not say what they were made of, and are not compared.
    """
    if not finished.listing:
        return
    with tempfile.TemporaryDirectory() as folder:
        task = Task(Place(source).path(), folder, folder, options)
        with progress.track("listing", 0) as tracker:
            listed = list_source(task, tracker.advance)
        if finished.listing == listed["fingerprint"]:  # of the first version
            return
        changed = ""
        if finished.listing.startswith(f"{VERSION}:"):
            with progress.track("comparing", listed["items"]) as tracker:
                for found in spread(partial(texts_in, task), range(listed["chunks"]), workers):
                    tracker.advance(len(found))
            now = fingerprint(task, listed)
            if finished.listing == now:
                return
            if finished.listing.split(":")[1] == listed["files"]:
                first = _first_other(task, listed, finished, workers)
                changed = f" (first: {first})" if first else " (captions or labels)"
    raise MuseError(
        f"{source} holds other files, captions or classes than when {finished.out} was finished{changed}",
        hint="--overwrite to write the shards anew, or another --out",
    )


def _first_other(task: Task, listed: dict[str, Any], finished: Sharded, workers: int) -> str:
    """Name the first file beside the same images whose text is not what the shards hold, "" where none is known."""
    try:
        for _ in spread(partial(check_chunk, task), range(listed["chunks"]), workers):
            pass
        planned = plan(task, listed)
    except MuseError:  # with these texts nothing can be stored
        return ""
    if [(one["name"], one["count"]) for one in planned["shards"]] != [(one.name, one.count) for one in finished.shards]:
        return ""
    label = ""
    for shard in planned["shards"]:
        with open_file(Place(finished.out).path(shard["name"])) as stream:
            for sample, there in _pairs(samples_of(task, shard), stream):
                kind = _differs(sample, there, task.options, (planned["classes"], finished.classes))
                if kind in ("json", "txt"):
                    return _name(task, sample.item, kind)
                label = label or (_name(task, sample.item, kind) if kind else "")
    return label


def _pairs(samples: Sequence[Planned], stream: BinaryIO) -> Iterator[tuple[Planned, Mapping[str, bytes]]]:
    """Yield what is to be stored now with what is stored, without images."""
    entries = list_tar(stream).entries
    for sample, entry in zip(samples, entries, strict=False):
        entry.members = [member for member in entry.members if member.suffix in ("json", "txt", "cls")]
        found = read_entry(stream, entry, entry.key)
        if isinstance(found, RawSample):
            yield sample, found.members


def _differs(
    sample: Planned, there: Mapping[str, bytes], options: ShardOptions, classes: tuple[Sequence[str], Sequence[str]]
) -> str:
    """Return which text of a sample is another one than is stored, "" for none; labels as the names of classes."""
    try:
        now = texts(sample, options)
    except BadMemberError:
        return next((kind for kind in ("json", "txt", "cls") if kind in sample.item.parts), "")
    kind = next((kind for kind in ("json", "txt") if now.get(kind) != there.get(kind)), "")
    labels = [_label(held.get("cls"), names) for held, names in zip((now, there), classes, strict=True)]
    return kind or ("cls" if labels[0] != labels[1] else "")


def _label(content: bytes | None, names: Sequence[str]) -> str:
    number = int(content) if content else -1
    return names[number] if 0 <= number < len(names) else str(number)


def _name(task: Task, item: Item, kind: str) -> str:
    """Return the file that a text of an item is in, or what it is of an image where it is in no file of its own."""
    part = item.parts.get(kind)
    if part is None or part.offset >= 0:
        return readable(f"{'label' if kind == 'cls' else 'caption'} of {item.name}")
    return readable(part.path.removeprefix(f"{Place(task.source).path()}/"))
