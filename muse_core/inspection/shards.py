"""Shards looked through as a whole: what they hold, whether they agree with their index, and who they can feed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from muse_core.data.decode import RawSample, decode
from muse_core.data.places import folder_of
from muse_core.data.sample import Sample
from muse_core.data.shards import Shard, ShardSource, find_shards, read_index, read_shard
from muse_core.data.source import open_source, remarks_of
from muse_core.errors import ExitCode, MuseError
from muse_core.home import expanded
from muse_core.inspection.findings import Findings, Inspection
from muse_core.inspection.look import Look, look_at
from muse_core.inspection.training import train_command, training_facts, training_line
from muse_core.machine import cores
from muse_core.progress import Progress, Silent

MOST = 0.9
"""A field that so large a part of the samples has is missing where it is not."""


def inspect_shards(
    where: str,
    *,
    deep: bool = False,
    readers: int | None = None,
    split: str = "train",
    progress: Progress | None = None,
) -> Inspection:
    """Look through shards.

    Args:
        where: as for training.
        deep: decode every picture, rather than open it and read its size.
        readers: ranks x workers that shall be fed.
        split: which folder inside `where` is preferred.
        progress: told of every shard.

    Raises:
        MuseError: there are no shards, or an index is not JSON.
    """
    if readers is not None and readers < 1:
        raise MuseError(f"{readers} readers cannot read", hint="--readers 8", exit_code=ExitCode.USAGE)
    shards = find_shards(where, split)
    indexes = {folder: read_index(folder) for folder in dict.fromkeys(folder_of(shard.where) for shard in shards)}
    looks = list(_looks(shards, indexes, deep, progress or Silent()))
    whole = Look()
    for look in looks:
        whole.merge(look)
    _judge_whole(whole, shards, indexes)
    for remark in remarks_of(open_source(where, split=split)):
        whole.notes.note(remark, where)
    facts = {"shards": len(shards), **facts_of(whole, deep), "other_splits": _others(where, split)}
    facts["training"] = training_facts(ShardSource(where, split=split), whole.fields["caption"])
    if readers is not None:
        facts["readers"] = feeding(readers, [look.samples for look in looks], whole.problems, where)
    held_out = any(Path(other).name == "val" for other in facts["other_splits"])
    command = "" if whole.problems.seen else train_command(where, facts["training"], held_out=held_out)
    lines = (f"shards    {len(shards):,}, {whole.size / 2**20:,.1f} MiB", *lines_of(facts))
    return Inspection("shards", where, facts, lines, whole.notes.all(), whole.problems.all(), command)


def pick_samples(where: str, amount: int, split: str = "train") -> list[Sample]:
    """Some samples, spread evenly over all shards; fewer where there are fewer or some cannot be decoded."""
    shards = find_shards(where, split)
    counts = [sum(1 for _ in read_shard(shard, lambda number: False)) for shard in shards]
    total = sum(counts)
    chosen = {(2 * number + 1) * total // (2 * amount) for number in range(amount)}
    found, before = [], 0
    for shard, count in zip(shards, counts, strict=True):
        mine = {number - before for number in chosen}
        items = [decode(item) for item in read_shard(shard, mine.__contains__) if isinstance(item, RawSample)]
        found += [item for item in items if isinstance(item, Sample)]
        before += count
    return found


def _looks(shards: Sequence[Shard], indexes: Mapping[str, Any], deep: bool, progress: Progress) -> Iterator[Look]:
    def one(shard: Shard) -> Look:
        return look_at(shard, _entry(shard, indexes), deep=deep)

    with progress.track("inspect", len(shards)) as tracker, ThreadPoolExecutor(min(cores(), 8)) as pool:
        for look in pool.map(one, shards):
            yield look
            tracker.advance()


def _entry(shard: Shard, indexes: Mapping[str, Any]) -> dict[str, Any] | None:
    index = indexes[folder_of(shard.where)] or {}
    return next((entry for entry in index.get("shards", []) if entry.get("name") == shard.name), None)


def _judge_whole(whole: Look, shards: Sequence[Shard], indexes: Mapping[str, Any]) -> None:
    """Note what no single shard tells: missing pairs, what occurs twice, and shards that an index alone knows."""
    note_missing(whole)
    for what, counts in (("key is in several shards", whole.keys), ("picture is there before", whole.pictures)):
        again = counts.total() - len(counts)
        if again:
            whole.notes.note(what, "in all shards together", again)
    for folder, index in indexes.items():
        here = {shard.name for shard in shards if folder_of(shard.where) == folder}
        if index is None:
            whole.notes.note("folder without index.json: nothing to compare with", folder)
            continue
        listed = {str(entry.get("name")) for entry in index.get("shards", [])}
        for name in sorted(here - listed):
            whole.problems.note("shard is not in the index", name)
        if len(shards) > 1:  # a single shard may be looked at on its own
            for name in sorted(listed - here):
                whole.problems.note("shard of the index is not here", name)


def note_missing(whole: Look) -> None:
    """Note samples that lack what nearly all others have."""
    for name in ("caption", "label", "mask"):
        lacking = whole.usable - whole.fields[name]
        if lacking and whole.fields[name] >= MOST * whole.usable:
            whole.problems.note(f"sample without {name}, which the others have", whole.without[name], lacking)


def facts_of(whole: Look, deep: bool) -> dict[str, Any]:
    """Return what is to be known of all samples together."""
    widths = Counter[int]()
    heights = Counter[int]()
    for (width, height), count in whole.sizes.items():
        widths[width] += count
        heights[height] += count
    return {
        "samples": whole.samples,
        "usable": whole.usable,
        "bytes": whole.size,
        "decoded": deep,
        "fields": dict(sorted(whole.fields.items())),
        "formats": dict(whole.formats.most_common()),
        "width": _spread(widths),
        "height": _spread(heights),
        "common_sizes": {f"{width}x{height}": count for (width, height), count in whole.sizes.most_common(5)},
        "caption_words": _spread(whole.words),
        "distinct_captions": len(whole.captions),
        "classes": len(whole.labels),
        "per_class": _spread(Counter(whole.labels.values())),
    }


def _spread(counts: Counter[int]) -> dict[str, float] | None:
    """Smallest, median, mean and largest of counted values; None when there are none."""
    total = counts.total()
    if not total:
        return None
    below = 0
    ordered = sorted(counts.items())
    for value, count in ordered:
        below += count
        if 2 * below >= total:
            median = value
            break
    mean = sum(value * count for value, count in ordered) / total
    return {"min": ordered[0][0], "median": median, "mean": round(mean, 2), "max": ordered[-1][0]}


def feeding(
    readers: int, samples: Sequence[int], problems: Findings, where: str, unit: str = "shard"
) -> dict[str, Any]:
    """Return what each of so many readers gets, when each shard, or image file, belongs to one of them."""
    if readers > len(samples):
        what = f"{readers} readers need as many {unit}s; there are {len(samples)}: use at most {len(samples)} readers"
        problems.note(what, where)
        return {"asked": readers, "fed": len(samples)}
    shares = [samples[reader::readers] for reader in range(readers)]
    sums = [sum(share) for share in shares]
    return {
        "asked": readers,
        "fed": readers,
        f"{unit.rpartition(' ')[2]}s_each": [min(map(len, shares)), max(map(len, shares))],
        "samples_each": [min(sums), max(sums)],
    }


def _others(where: str, split: str) -> list[str]:
    """Splits of a folder that are left out because one is looked at."""
    folder = expanded(where)
    if not any((folder / split).glob("*.tar")):
        return []
    return sorted({str(tar.parent) for tar in folder.glob("*/*.tar") if tar.parent.name != split})


def lines_of(facts: Mapping[str, Any]) -> Iterator[str]:
    """Say the facts, a line each."""
    how = "all decoded" if facts["decoded"] else "all opened; --deep decodes them"
    yield f"samples   {facts['samples']:,}, {facts['usable']:,} usable ({how})"
    yield "fields    " + (", ".join(f"{name} {count:,}" for name, count in facts["fields"].items()) or "none")
    yield "pictures  " + (", ".join(f"{kind} {count:,}" for kind, count in facts["formats"].items()) or "none")
    for name in ("width", "height", "caption_words"):
        if facts[name]:
            spread = ", ".join(f"{key} {value:,}" for key, value in facts[name].items())
            more = f"; {facts['distinct_captions']:,} distinct" if name == "caption_words" else ""
            yield f"{name.partition('_')[0]:<9} {spread}{' words' if more else ' pixels'}{more}"
    if facts["classes"]:
        each = facts["per_class"]
        yield f"classes   {facts['classes']:,}, {each['min']:,} to {each['max']:,} samples each"
    readers = facts.get("readers")
    if readers and "samples_each" in readers:
        unit = "shards" if "shards_each" in readers else "files"
        low, high = readers[f"{unit}_each"]
        few, many = readers["samples_each"]
        yield f"readers   {readers['asked']} can be fed: {low} to {high} {unit}, {few:,} to {many:,} samples each"
    yield training_line(facts["training"], facts["usable"])
    if facts.get("other_splits"):
        yield f"left out  {', '.join(facts['other_splits'])}: muse inspect looks at one split"
