"""Scores as the report shows them: headlines with their baselines, and tables whose columns never mix protocols."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from muse_core.viz.curves import number
from muse_core.viz.runview import Json, RunView, ScoreView, flatten, readers_differ

Better = Literal["higher", "lower"]

MOST_HEADLINES = 6
MOST_RIVALS = 5


@dataclass(frozen=True)
class MetricLook:
    """How a metric is shown. rank: its place among the headlines, None for none; percent: a fraction shown as %."""

    label: str
    better: Better | None = None
    unit: str = ""
    digits: int = 3
    percent: bool = False
    rank: int | None = None

    def show(self, value: float | None) -> str:
        """The value as text, without its unit unless that is %."""
        if value is None:
            return "–"
        if not math.isfinite(value):
            return "not finite"
        if self.percent:
            return f"{100 * value:.1f} %"
        # A small distance keeps its leading digits: 0.0021 must not become 0.002.
        return number(value) if value and abs(value) < 10 ** (1 - self.digits) else f"{value:,.{self.digits}f}"


_KNOWN = {
    "psnr": MetricLook("PSNR", "higher", "dB", 2, rank=1),
    "ssim": MetricLook("SSIM", "higher", rank=7),
    "rfid": MetricLook("rFID", "lower", digits=2, rank=2),
    "fd-tiny-clip": MetricLook("FD tiny-CLIP", "lower", rank=3),
    "gfid": MetricLook("gFID", "lower", digits=2, rank=2),
    "gfd-tiny-clip": MetricLook("gFD tiny-CLIP", "lower", rank=3),
    "lpips": MetricLook("LPIPS", "lower", rank=8),
    "top1": MetricLook("top-1 accuracy", "higher", percent=True, rank=4),
    "top5": MetricLook("top-5 accuracy", "higher", percent=True),
    "accuracy": MetricLook("accuracy", "higher", percent=True, rank=4),
    "miou": MetricLook("mIoU", "higher", percent=True, rank=5),
    "kl": MetricLook("KL to the teacher", "lower", "nats", rank=6),
    "auc": MetricLook("object AUC", "higher", rank=5),
    "auc-distance-matched": MetricLook("object AUC, equal distance", "higher", rank=9),
}
_LOWER = ("kl", "fid", "fd", "kid", "lpips", "mse", "loss", "error", "distance")
_HIGHER = re.compile(r"psnr|ssim|top\d*$|acc|auc|iou|agreement|precision|recall|score")  # how a word begins
_COMMANDS = {
    "eval": "Reconstruction",
    "generate": "Generation",
    "zeroshot": "Zero-shot classification",
    "probe linear": "Linear probe",
    "probe topology": "Attention structure",
    "probe knn": "Nearest neighbours",
    "probe conflict": "Gradient conflict",
    "segment": "Segmentation",
}


def look_of(metric: str) -> MetricLook:
    """How to show a metric: what is known of it, or what its name tells."""
    plain = metric.lower().replace("_", "-")
    known = _KNOWN.get(plain) or _KNOWN.get(plain.replace("-", ""))
    if known:
        return known
    words = plain.split("-")
    if any(_HIGHER.match(word) for word in words):
        return MetricLook(metric, "higher")
    return MetricLook(metric, "lower" if any(word in _LOWER for word in words) else None)


def command_title(command: str) -> str:
    """What a command measures, in words."""
    return _COMMANDS.get(command, command[:1].upper() + command[1:])


@dataclass(frozen=True)
class Bar:
    """A number with the length of its bar, a fraction of the longest beside it."""

    name: str
    value: str
    share: float
    own: bool


@dataclass(frozen=True)
class Headline:
    """One score worth a large figure, with what it stands beside and how it was measured."""

    title: str
    metric: str
    value: str
    unit: str
    sense: str
    bars: tuple[Bar, ...]
    ruler: str
    fingerprint: str
    anchor: str
    baselines: bool


def headlines(runs: Sequence[RunView]) -> list[Headline]:
    """The scores to begin with: of each command the last run's, most telling metrics first."""
    last: dict[str, tuple[RunView, ScoreView]] = {}
    for run in runs:
        last |= {score.command: (run, score) for score in sorted(reversed(run.scores), key=_telling)}
    found = [
        (look.rank, order, _headline(run, score, metric, _beside(runs, run, score, metric)))
        for order, (run, score) in enumerate(last.values())
        for metric, look in ((metric, look_of(metric)) for metric in score.metrics)
        if look.rank is not None
    ]
    found.sort(key=lambda entry: entry[:2])
    return [headline for _, _, headline in found[:MOST_HEADLINES]]


def _telling(score: ScoreView) -> tuple[bool, int]:
    """Of several files of one command, eval and eval-2 tell more than eval-unseen, and more images more than fewer."""
    plain = re.fullmatch(re.escape(score.command.replace(" ", "-")) + r"(-\d+)?", score.source)
    seen = score.counts.get("seen")
    return plain is not None, seen if isinstance(seen, int) else 0


def _beside(runs: Sequence[RunView], own: RunView, score: ScoreView, metric: str) -> dict[str, float]:
    """What may stand beside a score: the same metric of other runs, measured alike, and the baselines."""
    rivals = {
        run.label: other.metrics[metric]
        for run in runs
        for other in run.scores
        if run is not own and other.command == score.command and metric in other.metrics
        if other.column(metric) == score.column(metric)
    }
    baselines = {name: values[metric] for name, values in score.baselines.items() if metric in values}
    return dict(list(rivals.items())[:MOST_RIVALS]) | baselines


def _headline(run: RunView, score: ScoreView, metric: str, beside: Mapping[str, float]) -> Headline:
    look, value = look_of(metric), score.metrics[metric]
    numbers = {run.label: value, **beside}
    longest = max((abs(each) for each in numbers.values() if math.isfinite(each)), default=0.0)
    bars = tuple(
        Bar(name, look.show(each), abs(each) / longest if longest and math.isfinite(each) else 0.0, own=index == 0)
        for index, (name, each) in enumerate(numbers.items())
    )
    sense = f"{look.better} is better" if look.better else ""
    return Headline(
        title=command_title(score.command),
        metric=look.label,
        value=look.show(value).removesuffix(" %"),
        unit="%" if look.percent and math.isfinite(value) else look.unit,
        sense=sense,
        bars=bars,
        ruler=ruler(score),
        fingerprint=score.column(metric),
        anchor=anchor(score.command),
        baselines=any(metric in values for values in score.baselines.values()),
    )


def anchor(command: str) -> str:
    """The name by which a command's table is linked to."""
    return "scores-" + "".join(letter if letter.isalnum() else "-" for letter in command.lower())


def ruler(score: ScoreView) -> str:
    """The protocol in one line: its plain fields, as many as can be read in passing."""
    parts = []
    images = score.protocol.get("images", score.counts.get("seen"))
    if isinstance(images, int):
        parts.append(f"{images:,} images")
    for key in ("data", "size", "resize", "crop", "limit"):
        value = score.protocol.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool) and value not in ("", "none"):
            parts.append(str(value) if key == "data" else f"{key} {value}")
    return " · ".join(parts)


@dataclass(frozen=True)
class Column:
    """A column of a table: one metric under one protocol."""

    metric: str
    fingerprint: str
    look: MetricLook


@dataclass(frozen=True)
class Row:
    """A run, or a baseline, with one cell for each column; `best` marks the best of several runs."""

    name: str
    cells: tuple[str, ...]
    best: tuple[bool, ...]
    baseline: bool


@dataclass(frozen=True)
class Ruler:
    """One protocol in full."""

    fingerprint: str
    fields: tuple[tuple[str, str], ...]
    counts: str


@dataclass(frozen=True)
class Table:
    """Everything one command measured."""

    title: str
    command: str
    anchor: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    rulers: tuple[Ruler, ...]
    notes: tuple[str, ...]
    not_measured: tuple[tuple[str, str], ...]
    details: tuple[tuple[str, "Detail"], ...]
    readers: str = ""

    @property
    def mixed(self) -> bool:
        """Whether some metric stands in several columns because it was measured in several ways."""
        names = [column.metric for column in self.columns]
        return len(set(names)) < len(names)


@dataclass(frozen=True)
class Detail:
    """A table that came along with some scores."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left_out: int


def score_tables(runs: Sequence[RunView]) -> list[Table]:
    """One table per command, in the order in which the commands appear."""
    by_command: dict[str, list[tuple[RunView, ScoreView]]] = {}
    for run in runs:
        for score in run.scores:
            by_command.setdefault(score.command, []).append((run, score))
    return [_table(command, pairs) for command, pairs in by_command.items()]


def _table(command: str, pairs: Sequence[tuple[RunView, ScoreView]]) -> Table:
    keys = dict.fromkeys((metric, score.column(metric)) for _, score in pairs for metric in score.metrics)
    # A metric's columns stand together even when they come from different protocols.
    order = {metric: place for place, metric in reversed(list(enumerate(metric for metric, _ in keys)))}
    columns = tuple(Column(*key, look_of(key[0])) for key in sorted(keys, key=lambda key: order[key[0]]))
    return Table(
        title=command_title(command),
        command=command,
        anchor=anchor(command),
        columns=columns,
        rows=(*_run_rows(pairs, columns), *_baseline_rows(pairs, columns)),
        rulers=tuple({score.fingerprint: _ruler(score) for _, score in pairs}.values()),
        notes=tuple(dict.fromkeys(note for _, score in pairs for note in score.notes)),
        not_measured=tuple(dict.fromkeys(entry for _, score in pairs for entry in score.not_measured.items())),
        details=tuple(_details(pairs)),
        readers=readers_differ({name: [score] for name, (_, score) in zip(_row_names(pairs), pairs, strict=True)}),
    )


def _run_rows(pairs: Sequence[tuple[RunView, ScoreView]], columns: Sequence[Column]) -> Iterable[Row]:
    names = _row_names(pairs)
    values = [_values(score, score.metrics, columns) for _, score in pairs]
    best = [_best(column.look.better, cells) for column, cells in zip(columns, zip(*values, strict=True), strict=True)]
    for name, cells in zip(names, values, strict=True):
        marks = tuple(value is not None and value == top for value, top in zip(cells, best, strict=True))
        yield Row(name, _shown(cells, columns), marks, baseline=False)


def _row_names(pairs: Sequence[tuple[RunView, ScoreView]]) -> list[str]:
    names = [run.label for run, _ in pairs]
    twice = {name for name in names if names.count(name) > 1}
    return [
        f"{name} · {score.source}" if name in twice else name for name, (_, score) in zip(names, pairs, strict=True)
    ]


def _baseline_rows(pairs: Sequence[tuple[RunView, ScoreView]], columns: Sequence[Column]) -> Iterable[Row]:
    """One row for each baseline; one for each run whose baseline of that name said something else."""
    found: dict[str, list[tuple[str, list[float | None]]]] = {}
    for run, score in pairs:
        for name, metrics in score.baselines.items():
            cells, rows = _values(score, metrics, columns), found.setdefault(name, [])
            home = next((row for _, row in rows if all(map(_agree, row, cells))), None)
            if home is None:
                rows.append((run.label, cells))
            else:
                home[:] = [old if new is None else new for old, new in zip(home, cells, strict=True)]
    for name, rows in found.items():
        for label, cells in rows:
            title = name if len(rows) == 1 else f"{name} · {label}"
            yield Row(title, _shown(cells, columns), (False,) * len(columns), baseline=True)


def _agree(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return True
    return math.isclose(one, other, rel_tol=1e-6) or not (math.isfinite(one) or math.isfinite(other))


def _values(score: ScoreView, metrics: Mapping[str, float], columns: Sequence[Column]) -> list[float | None]:
    return [
        metrics.get(column.metric) if score.column(column.metric) == column.fingerprint else None for column in columns
    ]


def _best(better: Better | None, cells: Sequence[float | None]) -> float | None:
    finite = [value for value in cells if value is not None and math.isfinite(value)]
    if better is None or len(finite) < 2:
        return None
    return max(finite) if better == "higher" else min(finite)


def _shown(cells: Sequence[float | None], columns: Sequence[Column]) -> tuple[str, ...]:
    return tuple(column.look.show(value) for column, value in zip(columns, cells, strict=True))


def _ruler(score: ScoreView) -> Ruler:
    fields = tuple((key, text_of(value)) for key, value in flatten(score.protocol).items())
    return Ruler(score.fingerprint, fields, counts_text(score.counts))


def counts_text(counts: Mapping[str, Json]) -> str:
    """What was seen and left out, as in "2,000 images seen; 3 skipped (3 undecodable)"."""
    seen, skipped = counts.get("seen"), counts.get("skipped")
    parts = [f"{seen:,} images seen"] if isinstance(seen, int) else []
    if isinstance(skipped, dict):
        reasons = [(name, int(count)) for name, count in skipped.items() if isinstance(count, int) and count]
        total = sum(count for _, count in reasons)
        why = ", ".join(f"{count:,} {name}" for name, count in reasons)
        parts.append(f"{total:,} skipped ({why})" if reasons else "none skipped")
    return "; ".join(parts)


def text_of(value: Json) -> str:
    """Any value as the report prints it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, list):
        between = "; " if any(isinstance(entry, dict) for entry in value) else ", "
        return between.join(text_of(entry) for entry in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {text_of(entry)}" for key, entry in value.items()) or "none"
    return str(value)


MOST_ROWS = 120


def _details(pairs: Sequence[tuple[RunView, ScoreView]]) -> Iterable[tuple[str, Detail]]:
    for run, score in pairs:
        for title, content in score.tables.items():
            name = title if len(pairs) == 1 else f"{title}, {run.label}"
            rows = [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []
            if isinstance(content, dict):
                rows = [{"": name, "value": value} for name, value in content.items()]
            if rows:
                yield name, _detail(rows)


def _detail(rows: Sequence[Mapping[str, Json]]) -> Detail:
    heads = tuple(dict.fromkeys(key for row in rows for key in row))
    body = tuple(tuple(text_of(row.get(head)) for head in heads) for row in rows[:MOST_ROWS])
    return Detail(heads, body, max(0, len(rows) - MOST_ROWS))
