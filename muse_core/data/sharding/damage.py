"""Damage that sharding finds, early or late, and what it must not end with: too much of it, or nothing to store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from muse_core.data.sharding.items import Left
from muse_core.data.sharding.options import ShardOptions
from muse_core.data.vocabulary import reasons_in_words
from muse_core.errors import MuseError

FEW = 10
"""So many damaged files are never too many: one in twenty snapshots is no reason to refuse the other nineteen."""


@dataclass
class Damage:
    """What is damaged, by reason, whenever it was found. first: the first of it."""

    reasons: Counter[str] = field(default_factory=Counter)
    first: Left | None = None

    @staticmethod
    def of(planned: Mapping[str, Any]) -> Damage:
        """Return what was found before anything was written."""
        first = planned["first_damaged"]
        return Damage(Counter(planned["damaged"]), Left(*first) if first else None)

    def note(self, left: Left) -> None:
        """Count one file."""
        self.reasons[left.reason] += 1
        self.first = self.first or left

    def note_late(self, record: Mapping[str, Any]) -> None:
        """Count what writing one shard found."""
        for name, reason in record["skipped"]:
            self.note(Left(name, reason, error=True))

    def refuse_much(self, items: int, options: ShardOptions) -> None:
        """Refuse to go on where more of the items are damaged than the options allow.

        Raises:
            MuseError: too many are.
        """
        count = self.reasons.total()
        if self.first is None or count <= max(FEW, options.limit_errors * items):
            return
        found = reasons_in_words(self.reasons)
        raise MuseError(
            f"{count} of {items} pictures are damaged, more than the allowed {options.limit_errors:.1%}: {found} "
            f"(first: {self.first.name})",
            hint=f"--limit-errors {-(-100 * count // max(1, items))}%",
        )


def refuse_empty_splits(counts: Mapping[str, int], options: ShardOptions) -> None:
    """Refuse to finish where a split that was asked for, or that the source has, gets nothing.

    Raises:
        MuseError: such a split is empty.
    """
    empty = [split for split, count in counts.items() if split and not count]
    if empty:
        how = f"none of {sum(counts.values()):,} images {'was drawn for' if options.split else 'is in'} it"
        raise MuseError(
            f"split {empty[0]} stays empty: {how}",
            hint="a larger share of it in --split, or more images" if options.split else "leave its folder out",
        )


def refuse_nothing_left(
    source: str, items: int, planned: Mapping[str, Any], records: Iterable[Mapping[str, Any]], options: ShardOptions
) -> None:
    """Judge what was written: what was found while writing counts as what was found before.

    Raises:
        MuseError: too much is damaged, nothing is left, or nothing of a split.
    """
    damage, counts = Damage.of(planned), Counter({split: 0 for split in planned["counts"] if split})
    for record in records:
        damage.note_late(record)
        counts[record["split"]] += record["count"]
    damage.refuse_much(items, options)
    if not counts.total():
        reasons = reasons_in_words(damage.reasons)
        raise MuseError(f"no image of {source} could be stored: {reasons}", hint="muse shard --verify --dry-run")
    refuse_empty_splits(counts, options)
