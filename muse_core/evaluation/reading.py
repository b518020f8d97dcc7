"""The samples that a number is measured on: read once, in order, counted.

Letters: B images, S side of an image.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from muse_core.command_lines import quote
from muse_core.data.sample import Batch, Sample, Skips, collate
from muse_core.data.source import remarks_of
from muse_core.data.transforms import eval_transform
from muse_core.data.vocabulary import counted, reasons_in_words, scene_classes, vocabulary_of
from muse_core.errors import MuseError
from muse_core.evaluation.processes import ALONE, Team
from muse_core.evaluation.protocol import Counts, Value
from muse_core.image_files import READER, noted
from muse_core.progress import Progress, warn_once

if TYPE_CHECKING:
    from muse_core.data.source import Source

_LIMIT_ERRORS = 0.01  # of the samples, from the 1000th on: more damage than that is no accident


@dataclass(frozen=True)
class EvalData:
    """A source, and how it is read for measuring: shorter side to `size`, centre crop, every sample once.

    Args:
        source: from `muse_core.data.open_source`.
        size: S in pixels.
        batch_size: images at a time; changes no number.
        limit: stop after so many images; the result says that it is partial.
        device: where batches are put.
        team: who else reads the same data; each process reads its share.
        turn: samples that a process takes at a time; None for a batch. No batch goes beyond a turn.
    """

    source: "Source"
    size: int
    batch_size: int = 64
    limit: int | None = None
    device: str = "cpu"
    team: Team = ALONE
    turn: int | None = None

    @property
    def name(self) -> str:
        """What the data was asked for as."""
        return self.source.name

    @property
    def total(self) -> int:
        """Images to expect, 0 when nobody knows before reading."""
        count = self.source.count
        if count is None:
            return self.limit or 0
        return count if self.limit is None else min(count, self.limit)

    @property
    def run(self) -> int:
        """Samples that a process takes at a time."""
        return self.turn or self.batch_size

    @property
    def share(self) -> int:
        """Images to expect in this process."""
        return self.team.share_of(self.total, self.run)

    def batch_of(self, position: int) -> tuple[int, int]:
        """Which batch a sample belongs to, however many processes there are: its turn, and the batch within."""
        turn, within = divmod(position, self.run)
        return turn, within // self.batch_size

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes that labels index, where the data says them."""
        return classes_of(self.source)

    def describe(self) -> dict[str, Value]:
        """Return what of the reading belongs into a protocol; the number of images is added once it is known."""
        return {
            "data": self.name,
            "size": self.size,
            "resize": "shorter side, bicubic, antialiased",
            "crop": "centre",
            "partial": self.limit is not None,
            "reader": READER,
        }


def classes_of(source: "Source") -> tuple[str, ...] | None:
    """What the labels of a source mean: shards as their index says, built-in scenes as phrases with their article."""
    classes = vocabulary_of(source).classes
    return None if classes is None else tuple(one.shown for one in classes)


def mask_names(source: "Source", label_rule: str) -> tuple[str, ...] | None:
    """What the classes in masks mean under a label rule: shards as their index says.

    Built-in scenes store 0 for what is no thing, recipes such as ADE20K's for anything that has no name.
    """
    masks = vocabulary_of(source).masks
    if masks is None:
        return classes_of(source)
    names = tuple(one.shown for one in masks)
    nothing = "background" if masks[0] == scene_classes()[0] else "other"
    return (nothing, *names) if label_rule == "plain" else names


@dataclass
class Tally:
    """Counts while reading: samples used, those left out by reason, and those read in part by note."""

    seen: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)

    def skip(self, reason: str, amount: int) -> None:
        """Count samples that were read but cannot be used."""
        if amount:
            self.skipped[reason] = self.skipped.get(reason, 0) + amount

    def counts(self) -> Counts:
        """Return what is written beside a result."""
        return {"seen": self.seen, "skipped": dict(self.skipped)}


@dataclass
class Numbered(Batch):
    """A batch that knows where in the data its samples stand: positions (B,), counted over all processes."""

    positions: tuple[int, ...] = ()


def samples(data: EvalData, tally: Tally) -> Iterator[tuple[int, Sample]]:
    """Read this process's share once, each sample as it is stored, with its position in the data.

    Raises:
        MuseError: too many samples are damaged.
    """
    skips, team = Skips(), data.team
    for number, item in enumerate(data.source.once(team.rank, team.world, data.run)):
        position = team.position(number, data.run)
        if data.limit is not None and position >= data.limit:
            break
        skips.note(item)
        skips.refuse_many(_LIMIT_ERRORS)
        if isinstance(item, Sample):
            tally.seen += 1
            tally.notes.update(item.notes)
            yield position, item
    for reason, amount in skips.reasons.items():
        tally.skip(reason, amount)


def settle(data: EvalData, tally: Tally, progress: Progress) -> None:
    """Let every `tally` hold the counts of all processes, once all have reached their end, and tell of its notes.

    Raises:
        MuseError: no process found a single usable sample.
    """
    parts = data.team.gather((tally.seen, dict(tally.skipped), dict(tally.notes)))
    tally.seen, tally.skipped, tally.notes = 0, {}, Counter()
    for seen, skipped, notes in parts:
        tally.seen += seen
        tally.notes.update(notes)
        for reason, amount in skipped.items():
            tally.skip(reason, amount)
    if not tally.seen:
        what = f"no usable sample in {data.name}: {reasons_in_words(tally.skipped) or 'it is empty'}"
        raise MuseError(what, hint=f"muse inspect {quote(data.name)}")
    remarks = [*remarks_of(data.source), *(f"{data.name}: {note}" for note in noted(tally.notes))]
    for remark in remarks if data.team.rank == 0 else ():
        warn_once(progress, remark)


def read(data: EvalData, progress: Progress, what: str, tally: Tally) -> Iterator[Numbered]:
    """Read the data once in batches, resized and cropped, on its device, with progress; `tally` counts.

    A batch holds what is usable of `batch_size` samples that follow each other; fewer where a turn ends.

    Raises:
        MuseError: too many samples are damaged, or not one is usable.
    """
    transform = eval_transform(data.size)
    with progress.track(what, data.share) as tracker:
        for _, turn in groupby(samples(data, tally), lambda one: data.batch_of(one[0])):
            batch = _collated([(position, transform(sample)) for position, sample in turn], data.device)
            yield batch
            tracker.advance(len(batch.positions))
    settle(data, tally, progress)


def _collated(waiting: list[tuple[int, Sample]], device: str) -> Numbered:
    batch = collate([sample for _, sample in waiting]).to(device)
    return Numbered(**vars(batch), positions=tuple(position for position, _ in waiting))


HOW_LABELS = (
    "muse shard PICTURES --classes folders, where folders are the classes; else NAME.cls beside each picture, "
    "or 'label' in NAME.json"
)


def unlabelled(name: str, seen: int) -> MuseError:
    """Make the error for data of which labels were asked for, and that have none."""
    return MuseError(
        f"not one of the {counted(seen, 'sample')} of {name} has a label",
        hint=HOW_LABELS,
    )


def named(tokenizer: object) -> str:
    """Name of a tokenizer for results: from its `info` where it has one, else its class."""
    from muse_core.model.abilities import Described

    return tokenizer.info.name if isinstance(tokenizer, Described) else type(tokenizer).__name__
