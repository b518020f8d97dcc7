"""What an attempt to shard a source records of itself, and whether it may be continued with what is asked for now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from muse_core.data.sharding.items import Item
from muse_core.data.sharding.options import ShardOptions
from muse_core.data.sharding.places import Place
from muse_core.data.sharding.plan import MOST_EACH
from muse_core.data.sharding.report import INDEX_NAME, Sharded, ShardEntry
from muse_core.data.sharding.steps import LISTED, PLANNED, listed_entries
from muse_core.data.sharding.unchanged import any_affected, changed_since, differences
from muse_core.errors import ExitCode, MuseError
from muse_core.image_files import READER
from muse_core.progress import Progress

SETTINGS = "settings.json"
MAY_CHANGE = ("on_error", "limit_errors", "source", "masks_at", "reader")
"""What a resumed attempt may have otherwise: whether it succeeds, and where the same images lie; no byte follows."""

_LISTED_FACTS = ("fingerprint", "order", "names", "numbers", "splits", "more")
_STEPS = (LISTED, PLANNED, "listing", "seen", "texts", "checked", "plan", "written")


def settings_of(source: str, options: ShardOptions) -> dict[str, Any]:
    """Return what an attempt records of itself; folders as they are named from anywhere."""
    return {
        "source": Place(source).path(),
        "masks_at": Place(options.masks).path() if options.masks else None,
        "reader": READER,
        **options.as_settings(),
        "split_order": list(options.split or {}),
    }


def recorded(work: Place) -> dict[str, Any]:
    """Return what an attempt recorded of itself; nothing where there is none."""
    return read(work, SETTINGS) if work.exists(SETTINGS) else {}


def as_begun(options: ShardOptions, work: Place, out: Place) -> ShardOptions:
    """Return options with the number of samples in a shard that an attempt was begun with, where none is asked for.

    0.1.0 filled shards with `MOST_EACH`, and recorded that, in `work` and at the end in the index of `out`.
    """
    before = recorded(work)
    if not before and out.exists(INDEX_NAME):
        before = read(out, INDEX_NAME).get("settings", {})
    begun_by_default = options.most_samples is None and before.get("per_shard") == MOST_EACH
    return replace(options, per_shard=MOST_EACH) if begun_by_default else options


def read(place: Place, name: str) -> dict[str, Any]:
    """Read a JSON document of an attempt, or the index of what is written.

    Raises:
        MuseError: it is damaged.
    """
    try:
        document: dict[str, Any] = json.loads(place.read(name))
    except ValueError as problem:
        raise MuseError(f"{place.path(name)} is not valid JSON: {problem}", hint="--overwrite") from problem
    return document


def refuse_other_settings(before: Mapping[str, Any], now: Mapping[str, Any], out: str) -> None:
    """Refuse to continue with settings that would give other bytes.

    Raises:
        MuseError: names each with both values, exit code 3.
    """
    changed = [
        f"{key}: {before.get(key)!r} -> {value!r}"
        for key, value in now.items()
        if before.get(key) != value and key not in MAY_CHANGE
    ]
    if changed:
        raise MuseError(
            f"{out} was begun with other settings: {'; '.join(changed)}",
            hint="the same settings with --resume, or --overwrite",
            exit_code=ExitCode.SETTINGS,
        )


def finished(out: Place, shown: str, settings: Mapping[str, Any]) -> Sharded:
    """Return what a finished attempt wrote, where it had these settings."""
    index = read(out, INDEX_NAME)
    mine = {key: value for key, value in settings.items() if key in index.get("settings", {})}
    refuse_other_settings(index.get("settings", {}), mine, shown)
    return Sharded(
        out=shown,
        shards=tuple(ShardEntry(**entry) for entry in index["shards"]),
        fields=index["field_counts"],
        classes=tuple(index["classes"]),
        splits=index["splits"],
        skipped=index["skipped"],
        errors=0,
        settings=index["settings"],
        coverage=tuple(index.get("coverage", ())),
        listing=index.get("listing", ""),
    )


def refuse_other_listing(
    source: str, work: Place, before: Mapping[str, Any], again: Place, now: dict[str, Any]
) -> None:
    """Refuse to continue where a source holds other files, captions or classes than when it was listed.

    Raises:
        MuseError: names what came, went or differs.
    """
    now = json.loads(json.dumps(now))
    facts = [fact for fact in _LISTED_FACTS if before[fact] != now[fact]]
    if facts:
        changes = differences(listed_entries(work, before), listed_entries(again, now))
        raise changed_since(source, changes or [f"{fact} of its classes or splits" for fact in facts])


def begin_anew_if_read_otherwise(work: Place, out: str, *, alone: bool, progress: Progress) -> None:
    """Drop what an attempt found with another reader of images, where some image is read otherwise now.

    What 0.1.0 began is always dropped: it recorded nothing that images could be compared with.

    Args:
        work: where the attempt keeps what it found. out: where shards go, for what is said.
        alone: whether no other command shares the work and may be reading what would go.

    Raises:
        MuseError: others do.
    """
    settings = recorded(work)
    if settings.get("reader") == READER:
        return
    listed = read(work, LISTED) if work.exists(LISTED) else {"chunks": 0}
    items = (entry for entry in listed_entries(work, listed) if isinstance(entry, Item))
    if "reader" not in settings or any_affected(items):
        what = f"the attempt to write {out} was begun by a muse that reads images otherwise"
        if not alone:
            raise MuseError(what, hint="once with --overwrite, by one process")
        progress.warn(f"{what}, and begins anew")
        for name in _STEPS:
            work.remove(name)
    work.write(SETTINGS, json.dumps({**settings, "reader": READER}))
