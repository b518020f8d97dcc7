"""The table of a comparison: what was measured here, and apart from it what others published.

A column holds one metric under one protocol. What is missing says why; numbers of publications never enter a column.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from muse_core.viz.runview import ScoreView, readers_differ
from muse_core.viz.scores import MetricLook, look_of

NOTHING = "–"
ANOTHER = "measured under another protocol"

MEASURED = (
    ("eval", "rfid"),
    ("eval", "fd-tiny-clip"),
    ("eval", "psnr"),
    ("eval", "ssim"),
    ("eval", "lpips"),
    ("generate", "gfid"),
    ("generate", "gfd-tiny-clip"),
    ("zeroshot", "top1"),
    ("probe linear", "top1"),
    ("segment", "miou"),
)
"""What the table shows of all scores, in this order."""

_TITLES = {("zeroshot", "top1"): "zero-shot", ("probe linear", "top1"): "linear probe", ("segment", "miou"): "mIoU"}
_PAPERS = ("rfid", "gfid")
_DRAWN = ("generator", "samples", "sampler", "guidance", "labels")
_MEASURE_OF = {
    "eval": "eval",
    "generate": "generate",
    "zeroshot": "zeroshot",
    "probe linear": "linear",
    "segment": "segment",
}
_PUBLISHED = {"zeroshot": look_of("top1"), "linear": look_of("top1")}
_PUBLISHED_TITLES = {"gfid": "gFID", "zeroshot": "zero-shot", "linear": "linear probe", "miou": "mIoU"}


@dataclass(frozen=True)
class Published:
    """A number that somebody else printed.

    of: the model, such as "VTP-B". metric: rfid, psnr, ssim, gfid, zeroshot, linear or miou; fractions are fractions.
    source: who printed it. protocol: what is known of how it was made, and what speaks against comparing it.
    """

    of: str
    metric: str
    value: float
    source: str
    protocol: str

    @property
    def title(self) -> str:
        """What the metric is called."""
        return _PUBLISHED_TITLES.get(self.metric, look_of(self.metric).label)

    @property
    def shown(self) -> str:
        """The value with the digits that were printed."""
        look = _PUBLISHED.get(self.metric, look_of(self.metric))
        value, unit = (100 * self.value, "%") if look.percent else (self.value, look.unit)
        return f"{value:.6g} {unit}".rstrip()


@dataclass(frozen=True)
class Entry:
    """One tokenizer of a comparison; missing: measure -> why."""

    name: str
    licence: str
    scores: tuple[ScoreView, ...]
    missing: Mapping[str, str] = field(default_factory=dict)
    facts: str = ""

    def value(self, column: "Column") -> float | None:
        """Return the number for a column, or None."""
        for score in self.scores:
            if score.command == column.command and score.column(column.metric) == column.fingerprint:
                return score.metrics.get(column.metric)
        return None

    def why_missing(self, column: "Column") -> str:
        """Say why there is no number for a column."""
        for score in self.scores:
            if score.command == column.command:
                told = score.not_measured.get(column.metric)
                return told or ANOTHER
        return self.missing.get(_MEASURE_OF[column.command], "not asked for")


@dataclass(frozen=True)
class Column:
    """One metric under one protocol; the fingerprint is empty where nobody has the number."""

    command: str
    metric: str
    fingerprint: str

    @property
    def look(self) -> MetricLook:
        """How its numbers are shown."""
        return look_of(self.metric)

    @property
    def name(self) -> str:
        """What it is called in a sentence."""
        return _TITLES.get((self.command, self.metric), self.look.label)

    @property
    def title(self) -> str:
        """What stands above it."""
        look, named = self.look, self.name
        arrow = {"higher": " ↑", "lower": " ↓"}.get(look.better or "", "")
        return f"{named}{f', {look.unit}' if look.unit else ''}{arrow}"


@dataclass(frozen=True)
class Comparison:
    """Entries side by side, with what others published about them."""

    entries: tuple[Entry, ...]
    published: tuple[Published, ...] = ()

    @property
    def columns(self) -> tuple[Column, ...]:
        """What there are numbers for, and what somebody was asked for; several protocols are several columns."""
        found: list[Column] = []
        for command, metric in MEASURED:
            prints = dict.fromkeys(
                score.column(metric)
                for entry in self.entries
                for score in entry.scores
                if score.command == command and metric in score.metrics
            )
            empty = [""] if self._expected(command, metric) else []
            found += [Column(command, metric, one) for one in prints or empty]
        return tuple(found)

    def _expected(self, command: str, metric: str) -> bool:
        """Say whether a column without numbers is shown: rFID and gFID, which papers have, and what all lack."""
        told = [score.not_measured for entry in self.entries for score in entry.scores if score.command == command]
        if metric in _PAPERS and any(metric in reasons for reasons in told):
            return True
        if command == "eval" or metric == "gfd-tiny-clip":
            return False
        return all(_MEASURE_OF[command] in entry.missing for entry in self.entries)

    def cells(self, entry: Entry) -> tuple[str, ...]:
        """One row as text."""
        return tuple(column.look.show(entry.value(column)) for column in self.columns)

    def why_missing(self, entry: Entry, column: Column) -> str:
        """Say why an entry has no number for a column; of another protocol also whether files were read otherwise."""
        why = entry.why_missing(column)
        newest = max((score.reader for each in self.entries for score in each.scores), default=0)
        own = next((score.reader for score in entry.scores if score.command == column.command), newest)
        return f"{why}, image files by reader {own}" if why == ANOTHER and own != newest else why

    def reasons(self) -> dict[str, list[str]]:
        """Reason -> what it explains, as in "VQGAN: zero-shot"."""
        told: dict[str, list[str]] = {}
        for entry in self.entries:
            missing: dict[str, list[str]] = {}
            for column in self.columns:
                if entry.value(column) is None:
                    missing.setdefault(self.why_missing(entry, column), []).append(column.name)
            for why, titles in missing.items():
                told.setdefault(f"{', '.join(titles)}: {why}", []).append(entry.name)
        return told

    def readers(self) -> list[str]:
        """Say which numbers were measured on image files that were read by other rules."""
        told = readers_differ({entry.name: entry.scores for entry in self.entries})
        return [told] if told else []

    def generated(self) -> list[str]:
        """Say of each gFID how its samples were drawn and by what: the number means nothing without."""
        return [
            f"gFID of {entry.name}: "
            + "; ".join([*(f"{key} {score.protocol[key]}" for key in _DRAWN if key in score.protocol), *score.notes])
            for entry in self.entries
            for score in entry.scores
            if score.command == "generate"
        ]


def to_markdown(comparison: Comparison) -> str:
    """Lay the comparison out as Markdown, published numbers in a table of their own."""
    columns = comparison.columns
    head = ["tokenizer", *(column.title for column in columns), "licence"]
    rows = [[entry.name, *comparison.cells(entry), entry.licence] for entry in comparison.entries]
    prints = ["protocol", *(f"`{column.fingerprint or NOTHING}`" for column in columns), ""]
    parts = ["## Measured here", "", *_markdown_table(head, [*rows, prints]), ""]
    parts += [f"- {', '.join(names)}: no {what}" for what, names in comparison.reasons().items()]
    parts += [f"- {line}" for line in (*comparison.readers(), *comparison.generated())]
    if comparison.published:
        parts += ["", "## Published elsewhere", "", APART, ""]
        parts += _markdown_table(PUBLISHED_HEADS, published_rows(comparison.published))
    return "\n".join([*parts, ""])


APART = (
    "Other people's protocols: compare them with nothing above, and with each other only where the protocol agrees. "
    "Their gFID is that of a generator which they trained."
)
PUBLISHED_HEADS = ("model", "metric", "value", "source", "protocol")


def published_rows(published: Sequence[Published]) -> list[tuple[str, ...]]:
    """Return one row per published number."""
    return [(each.of, each.title, each.shown, each.source, each.protocol) for each in published]


def _markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    yield line(heads)
    yield line(["---"] * len(heads))
    yield from (line(row) for row in rows)


def to_csv(comparison: Comparison) -> str:
    """Write one line per number: kind says whether it was measured here, published elsewhere, or is missing."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("tokenizer", "kind", "command", "metric", "value", "better", "protocol", "source"))
    for entry in comparison.entries:
        for column in comparison.columns:
            value, better = entry.value(column), column.look.better or ""
            told = (
                ("measured", column.fingerprint)
                if value is not None
                else ("missing", comparison.why_missing(entry, column))
            )
            number = "" if value is None else repr(value)
            writer.writerow((entry.name, told[0], column.command, column.metric, number, better, told[1], "muse"))
    for each in comparison.published:
        writer.writerow((each.of, "published", "", each.metric, repr(each.value), "", each.protocol, each.source))
    return stream.getvalue()
