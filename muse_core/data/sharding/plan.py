"""Which sample goes where: splits by name, order, and where one shard ends and the next begins."""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from muse_core.data.sharding.items import Planned, planned_from, to_line
from muse_core.data.sharding.tar import space_for

FEWEST_TARS = 16
"""Tars of a split that has enough images, where nobody said how large they shall be: training reads several at once."""

FEWEST_EACH = 8
"""Images that are worth a tar of their own until there are so many tars."""

MOST_EACH = 10_000

_WHOLE = 2**64


@dataclass
class ShardPlan:
    """One tar to be. number: within its split. first: the key of its first sample. lines: its samples."""

    split: str
    number: int
    first: int
    bytes: int = 0
    lines: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Path of the tar inside the output."""
        return f"{self.split}/{self.number:06d}.tar" if self.split else f"{self.number:06d}.tar"


def split_of(name: str, shares: Mapping[str, float]) -> str:
    """Draw a split by a hash of a name, so that it stays when other names come or go."""
    drawn = _hash(name) / _WHOLE
    for split, share in shares.items():
        if drawn < share:
            return split
        drawn -= share
    return list(shares)[-1]


def room(count: int, number: int) -> int:
    """Return how many samples shard `number` of a split of `count` samples takes, where nobody said it.

    At least `FEWEST_TARS` shards, or as many as get `FEWEST_EACH` samples, that are filled evenly; never more than
    `MOST_EACH` in one.
    """
    tars = max(1, min(FEWEST_TARS, count // FEWEST_EACH))
    each, rest = divmod(count, tars)
    return min(MOST_EACH, max(1, each + (number % tars < rest)))


def shards(
    samples: Iterable[tuple[str, Planned, int]], room: Callable[[str, int], int], shard_bytes: int
) -> Iterator[ShardPlan]:
    """Fill shards with samples as they come: each a split, a sample, and the bytes it takes.

    A shard ends before it holds more samples than there is room for, or more than `shard_bytes`; one sample always
    fits.

    Args:
        samples: of all splits. room: samples in a shard of a split with this number. shard_bytes: of a tar, about.
    """
    open_shards: dict[str, ShardPlan] = {}
    for split, planned, size in samples:
        size += space_for(20) if planned.label is not None else 0
        shard = open_shards.get(split)
        if shard is not None and (len(shard.lines) >= room(split, shard.number) or shard.bytes + size > shard_bytes):
            yield shard
            shard = ShardPlan(split, shard.number + 1, shard.first + len(shard.lines))
        shard = shard or ShardPlan(split, 0, 0)
        open_shards[split] = shard
        shard.lines.append(to_line(planned))
        shard.bytes += size
    yield from open_shards.values()


def shuffled(samples: Iterable[tuple[str, Planned, int]], seed: int) -> Iterator[tuple[str, Planned, int]]:
    """Order samples by a hash of seed and name; they wait on disk, only their order is in memory."""
    offsets, hashes = array("Q"), array("Q")
    with tempfile.TemporaryFile() as waiting:
        for split, planned, size in samples:
            offsets.append(waiting.tell())
            hashes.append(_hash(f"{seed}/{planned.item.name}"))
            waiting.write(f"{split}\t{size}\t{to_line(planned)}".encode())
        for index in sorted(range(len(offsets)), key=hashes.__getitem__):
            waiting.seek(offsets[index])
            split, taken, line = waiting.readline().decode().split("\t", 2)
            yield split, planned_from(line), int(taken)


def _hash(name: str) -> int:
    # Names are what the file system says they are, which need not be valid text.
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8])
