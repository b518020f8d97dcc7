"""What the report knows of a run: the files of one run folder, read once, with nothing left unsaid.

A file that is absent is simply not shown; one that cannot be read is named in `RunView.problems`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from muse_core.errors import MuseError
from muse_core.files import is_abandoned
from muse_core.runs import resume_command
from muse_core.text_files import json_of, read_text_file
from muse_core.yaml_files import yaml_of

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

STAGES = {"1": "topology", "2": "semantics", "3": "synergy"}


@dataclass(frozen=True)
class Sample:
    """One picture a run made of its validation images, and the step it was made at."""

    step: int
    path: Path


@dataclass(frozen=True)
class ScoreView:
    """One file of `results/`: what was measured, how, and what it stands beside.

    command: eval, probe linear, zeroshot, ... metrics: a number that was not finite is nan. fingerprint: of the whole
    protocol. columns: metric -> fingerprint of what that metric alone depends on. protocol: without its fingerprint.
    baselines: name -> metric -> value. counts: {"seen": n, "skipped": {reason: n}}. tables: title -> rows.
    pictures: files drawn of it.
    """

    command: str
    source: str
    metrics: Mapping[str, float]
    fingerprint: str
    columns: Mapping[str, str] = field(default_factory=dict)
    tokenizer: str = ""
    protocol: Mapping[str, Json] = field(default_factory=dict)
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    counts: Mapping[str, Json] = field(default_factory=dict)
    tables: Mapping[str, Json] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    not_measured: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None
    pictures: tuple[Path, ...] = ()

    def column(self, metric: str) -> str:
        """What a number must share with another one to stand in the same column."""
        return self.columns.get(metric, self.fingerprint)

    @property
    def reader(self) -> int:
        """Version of the rules by which image files were read; 1 where the protocol is older than such versions."""
        version = self.protocol.get("reader", 1)
        return version if isinstance(version, int) else 1


@dataclass(frozen=True)
class RunView:
    """One run, or any folder with results, as the report shows it; `title` replaces what it would be called."""

    name: str
    folder: Path
    settings: Mapping[str, Json] = field(default_factory=dict)
    origins: Mapping[str, Json] = field(default_factory=dict)
    environment: Mapping[str, Json] = field(default_factory=dict)
    status: Mapping[str, Json] = field(default_factory=dict)
    metrics: tuple[Mapping[str, Json], ...] = ()
    samples: tuple[Sample, ...] = ()
    scores: tuple[ScoreView, ...] = ()
    problems: tuple[str, ...] = ()
    title: str = ""

    @property
    def stage(self) -> str:
        """The stage as text ("1"), or nothing where none is told."""
        return self._told("stage")

    @property
    def size(self) -> str:
        """The size as text ("tiny"), or nothing where none is told."""
        return self._told("size")

    def _told(self, key: str) -> str:
        section: Json = self.settings.get("run")
        places = (self.status, section if isinstance(section, dict) else {}, self.settings)
        return next((str(place[key]) for place in places if place.get(key) is not None), "")

    @property
    def label(self) -> str:
        """What the report calls this run: its title, or its stage, or its folder's name."""
        meaning = STAGES.get(self.stage)
        return self.title or (f"Stage {self.stage} · {meaning}" if meaning else self.name)

    @property
    def step(self) -> int | None:
        """The last step it tells of."""
        told = self.status.get("step")
        steps = [told, *(row.get("step") for row in self.metrics[-1:])]
        return next((int(step) for step in steps if isinstance(step, int | float)), None)


def read_run(folder: Path) -> RunView:
    """Read a run folder, or a folder that holds nothing but `results/`.

    Raises:
        MuseError: it is no folder, or holds none of a run's files.
    """
    if not folder.is_dir():
        raise MuseError(f"{folder} is not a folder", hint="muse ls runs")
    problems: list[str] = []
    view = RunView(
        name=folder.resolve().name,
        folder=folder,
        settings=_document(folder / "config.yaml", problems),
        origins=_document(folder / "origins.json", problems),
        environment=_document(folder / "environment.json", problems),
        status=_status(folder, problems),
        metrics=_rows(folder / "metrics.jsonl", problems),
        samples=_samples(folder / "samples"),
        scores=_scores(folder / "results", problems),
        problems=tuple(problems),
    )
    if not (view.status or view.settings or view.scores or view.metrics or view.problems):
        raise MuseError(f"{folder} is not a run: it has neither status.json nor results", hint="muse ls runs")
    return view


def _status(folder: Path, problems: list[str]) -> dict[str, Json]:
    """Read the status as it is to be shown: a process that was killed could not write that it stopped."""
    status = _document(folder / "status.json", problems)
    if status.get("state") != "running" or not is_abandoned(folder):
        return status
    return status | {"state": "stopped", "hint": resume_command(folder)}


def _document(path: Path, problems: list[str]) -> dict[str, Json]:
    if not path.is_file():
        return {}
    try:
        text = read_text_file(path)
        content = yaml_of(text) if path.suffix == ".yaml" else json_of(text)
    except (OSError, ValueError, MuseError, yaml.YAMLError) as error:
        problems.append(f"{path.name} cannot be read: {' '.join(str(error).split())}")
        return {}
    if not isinstance(content, dict):
        problems.append(f"{path.name} holds {type(content).__name__} instead of names and values")
        return {}
    return content


def _rows(path: Path, problems: list[str]) -> tuple[Mapping[str, Json], ...]:
    """The rows of a jsonl file; lines that are not JSON objects are counted, not shown."""
    if not path.is_file():
        return ()
    rows, bad = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            bad += 1
    if bad:
        problems.append(f"{path.name}: {bad} unreadable line{'s' if bad > 1 else ''} left out")
    return tuple(rows)


def _samples(folder: Path) -> tuple[Sample, ...]:
    found = []
    for path in folder.glob("step-*.png"):
        digits = path.stem.removeprefix("step-")
        if digits.isdecimal():
            found.append(Sample(int(digits), path))
    return tuple(sorted(found, key=lambda sample: sample.step))


def _scores(folder: Path, problems: list[str]) -> tuple[ScoreView, ...]:
    views = []
    for path in sorted(folder.glob("*.json"), key=lambda path: path.stem):
        content = _document(path, problems)
        if content:
            pictures = tuple(_pictures(content, folder, problems))
            views.append(replace(score_view(content, path.stem), pictures=pictures))
    return tuple(views)


def _pictures(content: Mapping[str, Json], folder: Path, problems: list[str]) -> Iterator[Path]:
    """Find the pictures that a file of scores names; they lie beside it."""
    for name in _mapping(content.get("pictures")).values():
        picture = folder / Path(str(name)).name
        if picture.is_file():
            yield picture
        else:
            problems.append(f"{picture.name} is not there any more")


def score_view(content: Mapping[str, Json], source: str) -> ScoreView:
    """Read one document in the shape of `Scores.to_json()`; `source` says where it lies.

    A document without a fingerprint gets one of its own, so that it is never put beside another.
    """
    protocol = dict(_mapping(content.get("protocol")))
    fingerprint = protocol.pop("fingerprint", None)
    checkpoint = content.get("checkpoint")
    tokenizer = content.get("tokenizer") or (checkpoint.get("path") if isinstance(checkpoint, dict) else checkpoint)
    seconds = content.get("seconds")
    return ScoreView(
        command=str(content.get("command") or source.replace("-", " ")),
        source=source,
        metrics=_numbers(content.get("metrics")),
        fingerprint=str(fingerprint or f"none ({source})"),
        columns={name: str(value) for name, value in _mapping(content.get("columns")).items()},
        tokenizer=str(tokenizer or ""),
        protocol=protocol,
        baselines={name: _numbers(values) for name, values in _mapping(content.get("baselines")).items()},
        counts=_mapping(content.get("counts")),
        tables=_mapping(content.get("tables")),
        notes=tuple(str(note) for note in _list(content.get("notes"))),
        not_measured={name: str(why) for name, why in _mapping(content.get("not_measured")).items()},
        seconds=float(seconds) if isinstance(seconds, int | float) else None,
    )


def readers_differ(scores: Mapping[str, Iterable[ScoreView]]) -> str:
    """Say which of the scores, by who was measured, read image files by other rules, and what that means; "" if none.

    A score says nothing of the files it was measured on, so it is not known whether the rules made a difference.
    """
    by_reader: dict[int, dict[str, None]] = {}
    for name, measured in scores.items():
        for score in measured:
            by_reader.setdefault(score.reader, {})[name] = None
    if len(by_reader) < 2:
        return ""
    *older, (newest, _) = sorted(by_reader.items())
    who = "; ".join(f"{', '.join(names)} by reader {reader}" for reader, names in older)
    return (
        f"image files were read by other rules: {who}, the others by reader {newest}. Numbers are the same where every "
        "file is upright and has 8 bits a channel; else measure again"
    )


def _mapping(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _numbers(value: Json) -> dict[str, float]:
    return {
        # Scores are written without infinities: null stands for a number that was not finite.
        name: float("nan") if number is None else float(number)
        for name, number in _mapping(value).items()
        if number is None or (isinstance(number, int | float) and not isinstance(number, bool))
    }


def tell_apart(runs: Sequence[RunView]) -> list[RunView]:
    """Runs whose labels differ: those that share one get the names of their folders."""
    labels = [run.label for run in runs]
    return [run if labels.count(run.label) == 1 else replace(run, title=f"{run.label} · {run.name}") for run in runs]


def flatten(settings: Mapping[str, Json], prefix: str = "") -> dict[str, Json]:
    """Nested settings as dotted keys, in their order: {"optim": {"lr": 1}} becomes {"optim.lr": 1}."""
    flat: dict[str, Json] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
