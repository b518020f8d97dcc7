"""Every number with the conditions it was measured under, and those with a fingerprint."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from muse_core import __version__
from muse_core.files import json_text
from muse_core.marks import Mark, made_of, marked_document
from muse_core.ownership import refuse_taken, write_file

Value = str | int | float | bool | None | Sequence["Value"] | Mapping[str, "Value"]
Row = Mapping[str, str | int | float | None]
_SCORES = Mark("scores")


class Counts(TypedDict):
    """How many samples a number rests on, and how many were left out for which reason."""

    seen: int
    skipped: dict[str, int]


@dataclass(frozen=True)
class Protocol:
    """Everything that could change a number.

    fields: what all numbers of a result share: data, images, size, resize, crop, precision, recipe ...
    metrics: what only one metric depends on, by metric: its extractor, its window.
    """

    fields: Mapping[str, Value]
    metrics: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """First 12 hex digits of the sha256 of everything written here as canonical JSON."""
        return _fingerprint({"fields": self.fields, "metrics": self.metrics})

    def column(self, metric: str) -> str:
        """Fingerprint of what this metric depends on: two numbers may share a column only when these are equal.

        It does not change when other metrics are measured beside it.
        """
        return _fingerprint({"fields": self.fields, "metric": self.metrics.get(metric, {})})

    def to_json(self) -> dict[str, Any]:
        """Return the fields, the metrics' own under "metrics", and the fingerprint."""
        own = {"metrics": dict(self.metrics)} if self.metrics else {}
        return {**self.fields, **own, "fingerprint": self.fingerprint}


def _fingerprint(document: Mapping[str, Any]) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Scores:
    """Named numbers with everything needed to believe them.

    Args:
        command: what measured them: "eval", "zeroshot", "probe linear" ...
        tokenizer: name of what was measured.
        metrics: the numbers. Fractions are fractions, not per cent.
        protocol: under which conditions.
        counts: samples seen, and skipped by reason.
        standard_errors: of the metrics that have one: how much a number would move with other samples of the same kind.
        baselines: the same numbers for something that needs no learning, by baseline: chance, distance only ...
        tables: rows worth showing, by title: per class, per layer, the sweep.
        notes: sentences that belong beside the numbers.
        not_measured: metric -> why it is missing.
        pictures: PNG files by name, written beside the scores; the JSON file says under which names.
        seconds: by the clock.
        checkpoint: path, step, sha256 of what was measured, when it came from a file.
    """

    command: str
    tokenizer: str
    metrics: Mapping[str, float]
    protocol: Protocol
    counts: Counts
    standard_errors: Mapping[str, float] = field(default_factory=dict)
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    not_measured: Mapping[str, str] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    seconds: float = 0.0
    checkpoint: Mapping[str, str | int | None] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return them as a JSON document. A number that is not finite becomes null: JSON has no infinity."""
        document = {
            "command": self.command,
            "muse": __version__,
            "tokenizer": self.tokenizer,
            "checkpoint": self.checkpoint,
            "protocol": self.protocol.to_json(),
            "columns": {name: self.protocol.column(name) for name in self.metrics},
            "metrics": self.metrics,
            "standard_errors": self.standard_errors,
            "baselines": self.baselines,
            "counts": self.counts,
            "tables": self.tables,
            "notes": self.notes,
            "not_measured": self.not_measured,
            "seconds": round(self.seconds, 3),
        }
        return {key: _plain(value) for key, value in document.items()}

    def save(self, path: Path, *, overwrite: bool = False) -> dict[str, Any]:
        """Write the scores to a file, complete or not at all, and the pictures beside it.

        A picture whose name is taken by what muse did not draw for this file gets another one.

        Returns:
            What the file holds: `to_json()`, under "pictures" the names of those files, and the mark of muse.

        Raises:
            MuseError: `path` is there and `overwrite` is off.
        """
        refuse_taken(path, overwrite)
        main = self.command.replace(" ", "-")
        stems = {name: path.stem if name == main else f"{path.stem}-{name}" for name in self.pictures}
        files = {name: f"{stem}.png" for name, stem in stems.items()}
        for name, file in files.items():
            mark = Mark("figure", made_of(path.name, name))
            files[name] = write_file(path.with_name(file), self.pictures[name], mark, step_aside=True).name
        document = marked_document({**self.to_json(), **({"pictures": files} if files else {})}, _SCORES)
        write_file(path, json_text(document), _SCORES, overwrite=overwrite)
        return document


def errors_of_shares(shares: Mapping[str, float], count: int) -> dict[str, float]:
    """Return the standard errors of shares of `count` independent samples, such as accuracies."""
    return {name: math.sqrt(share * (1 - share) / count) for name, share in shares.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    return value
