"""A folder of image files looked through as a whole, as training and measuring will read it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from muse_core.data.decode import RawSample
from muse_core.data.folders import FolderSource
from muse_core.data.sample import Sample
from muse_core.data.source import remarks_of
from muse_core.file_names import NO_FILE
from muse_core.inspection.findings import Inspection
from muse_core.inspection.look import Look, look_at_sample
from muse_core.inspection.shards import facts_of, feeding, lines_of, note_missing
from muse_core.inspection.training import sharding_hint, train_command, training_facts
from muse_core.machine import cores
from muse_core.progress import Progress, Silent

_CHUNK = 256


def inspect_folder(
    source: FolderSource, *, deep: bool = False, readers: int | None = None, progress: Progress | None = None
) -> Inspection:
    """Look through a folder of image files.

    Args:
        source: the folder as training opens it. deep: decode every image, rather than open it and read its size.
        readers: ranks x workers that shall be fed.
        progress: told of every image.
    """
    whole = Look()
    for look in _looks(source, deep, progress or Silent()):
        whole.merge(look)
    note_missing(whole)
    for left in source.left:
        whole.notes.note(f"passed over: {left.reason}", left.name)
    for remark in (one for one in remarks_of(source) if NO_FILE not in one):  # which has just been noted
        whole.notes.note(remark, source.name)
    facts: dict[str, Any] = {"files": source.count, **facts_of(whole, deep), "class_names": list(source.classes)}
    facts["training"] = training_facts(source, whole.fields["caption"])
    if readers is not None:
        facts["readers"] = feeding(readers, [1] * source.count, whole.problems, source.name, source.lane_unit)
    lines = (f"files     {source.count:,}, {whole.size / 2**20:,.1f} MiB", *lines_of(facts), sharding_hint(source.name))
    command = "" if whole.problems.seen else train_command(source.name, facts["training"], held_out=False)
    return Inspection("images", source.name, facts, lines, whole.notes.all(), whole.problems.all(), command)


def pick_images(source: FolderSource, amount: int) -> list[Sample]:
    """Some images, spread evenly over the folder; fewer where there are fewer or some cannot be decoded."""
    numbers = sorted({(2 * number + 1) * source.count // (2 * amount) for number in range(amount)})
    items = [item for number in numbers for item in source.stretch(number, 1)]
    return [item for item in items if isinstance(item, Sample)]


def _looks(source: FolderSource, deep: bool, progress: Progress) -> Iterator[Look]:
    chunks = range(0, source.count, _CHUNK)
    with progress.track("inspect", source.count) as tracker, ThreadPoolExecutor(min(cores(), 8)) as pool:
        for look in pool.map(lambda first: _look(source, first, deep), chunks):
            yield look
            tracker.advance(look.samples)


def _look(source: FolderSource, first: int, deep: bool) -> Look:
    look = Look()
    for number in range(first, min(first + _CHUNK, source.count)):
        look.samples += 1
        raw = source.raw(number)
        if isinstance(raw, RawSample):
            look.size += sum(map(len, raw.members.values()))
            look_at_sample(raw, look, deep)
        else:
            look.problems.note(raw.reason, raw.example)
    return look
