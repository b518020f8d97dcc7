"""What was written, as index.json records it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

FORMAT = "muse-shards/1"
INDEX_NAME = "index.json"
SKIPPED_NAME = "skipped.csv"


@dataclass(frozen=True)
class ShardEntry:
    """One written tar. name: its path inside the folder of its index."""

    name: str
    count: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Sharded:
    """How sharding ended.

    out: where. shards: every tar with its path inside `out`. fields: how many samples carry each suffix.
    splits: samples of each split, empty without splits. skipped: what was left out, by reason. errors: how many of
    these were damaged. planned: nothing was written, this is what would have been; sizes are then estimates, and
    sums and fields are missing. notes: how many images are read without something that they hold, by note. coverage:
    what was asked for and fits in part, in sentences. listing: hashes of the names, sizes, captions and labels of the
    source, as `origin.fingerprint` makes them.
    """

    out: str
    shards: tuple[ShardEntry, ...]
    fields: Mapping[str, int]
    classes: tuple[str, ...]
    splits: Mapping[str, int]
    skipped: Mapping[str, int]
    errors: int
    settings: Mapping[str, Any]
    more: Mapping[str, Any] = field(default_factory=dict)
    planned: bool = False
    notes: Mapping[str, int] = field(default_factory=dict)
    coverage: tuple[str, ...] = ()
    listing: str = ""

    @property
    def count(self) -> int:
        """Samples in all shards."""
        return sum(shard.count for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Size of all shards."""
        return sum(shard.bytes for shard in self.shards)

    def as_index(self, split: str | None = None) -> dict[str, Any]:
        """What index.json holds, of everything or of the folder of one split."""
        prefix = f"{split}/" if split else ""
        shards = [
            ShardEntry(one.name.removeprefix(prefix), one.count, one.bytes, one.sha256)
            for one in self.shards
            if one.name.startswith(prefix)
        ]
        whole: dict[str, Any] = {
            "skipped": dict(self.skipped),
            "field_counts": dict(self.fields),
            "splits": dict(self.splits),
        }
        if self.listing:
            whole["listing"] = self.listing
        if self.coverage:
            whole["coverage"] = list(self.coverage)
        more = {**self.more, **({} if split else whole)}
        return index_document(shards, self.fields, self.classes, self.settings, more)


def index_document(
    shards: Sequence[ShardEntry],
    fields: Iterable[str],
    classes: Sequence[str],
    settings: Mapping[str, Any],
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Lay out index.json; nothing in it depends on where, when or by how many it was written."""
    return {
        "format": FORMAT,
        "count": sum(shard.count for shard in shards),
        "bytes": sum(shard.bytes for shard in shards),
        "fields": sorted(fields),
        "classes": list(classes),
        "settings": dict(settings),
        "shards": [asdict(shard) for shard in shards],
        **(more or {}),
    }
