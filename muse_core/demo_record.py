"""What a demo leaves of itself in its folder, so that it can be found and can go on: demo.json."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

from muse_core.command_lines import quote
from muse_core.errors import MuseError
from muse_core.files import contents, free_name, held, read_json, write_json
from muse_core.progress import Progress
from muse_core.run_search import list_runs
from muse_core.runs import runs_dir

FILE = "demo.json"
FORMAT = "muse-demo/1"


@dataclass(frozen=True)
class DemoRecord:
    """A demo as it was asked for, and how far it came.

    quick, seed, overrides: as `run_demo` takes them.
    state: finished, or else running (or killed), interrupted or failed, which all can go on.
    at: what it was doing.
    seconds: of all attempts together.
    scores: the files of scores in the last run, by measurement.
    """

    quick: bool
    seed: int = 0
    overrides: Mapping[str, Any] = field(default_factory=dict)
    state: str = "running"
    at: str = "the beginning"
    seconds: float = 0.0
    scores: Mapping[str, str] = field(default_factory=dict)
    updated: str = ""

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing to go on with."""
        return self.state == "finished"


_ANY = DemoRecord(quick=False)


def _values(record: DemoRecord) -> list[Any]:
    return [getattr(record, name) for name in DemoRecord.__dataclass_fields__]


class Journal:
    """The record of the demo that is at work, and what is written of it on the way."""

    def __init__(self, root: Path, record: DemoRecord) -> None:
        self.root = root
        self.record = record
        self._before, self._began = record.seconds, time.monotonic()

    @property
    def seconds(self) -> float:
        """Time spent on this demo until now, by the clock, over all attempts."""
        return self._before + time.monotonic() - self._began

    def note(self, **changes: Any) -> None:
        """Write down how far it came."""
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        self.record = replace(self.record, **changes, seconds=round(self.seconds, 1), updated=now)
        write_json(self.root / FILE, {"format": FORMAT, **asdict(self.record)})


def read_record(root: Path) -> DemoRecord | None:
    """Read the record of the demo in a folder; None where none is, or none that can be understood."""
    try:
        document = read_json(root / FILE)
        record = DemoRecord(**{name: document[name] for name in DemoRecord.__dataclass_fields__})
    except (MuseError, KeyError, OSError):
        return None
    is_whole = all(
        isinstance(value, type(default)) for value, default in zip(_values(record), _values(_ANY), strict=True)
    )
    return record if is_whole and document.get("format") == FORMAT else None


def default_place(quick: bool) -> Path:
    """Return where a demo goes: among the runs, so that its last one is found by whatever names no run."""
    return runs_dir() / ("demo-quick" if quick else "demo")


def way_on(root: Path) -> str:
    """Return the command that goes on with a demo."""
    named = root not in (default_place(quick=False), default_place(quick=True))
    return "muse demo --resume" + (f" --out {quote(root)}" if named else "")


@contextmanager
def begun(out: Path, record: DemoRecord, progress: Progress) -> Iterator[Journal]:
    """Begin a demo in `out`, or beside it where something else lies, and keep the folder to this process.

    Raises:
        MuseError: a demo is there, at work or not.
    """
    root = _free(out, progress)
    with held(root):
        earlier = read_record(root)
        if earlier is not None:
            raise _refusal(root, earlier)
        journal = Journal(root, record)
        journal.note()
        yield journal


def _free(out: Path, progress: Progress) -> Path:
    """Return the first of out, out-2, ... where nothing lies or a demo, which then is not begun again beside itself."""
    names = chain([out], (out.with_name(f"{out.name}-{number}") for number in count(2)))
    chosen = next(name for name in names if not os.path.lexists(name) or _is_empty(name) or read_record(name))
    if chosen != out:
        progress.say(f"{out} is there already; writing to {chosen}")
    return chosen


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not contents(folder)


def _refusal(root: Path, record: DemoRecord) -> MuseError:
    another = f"muse demo{' --quick' if record.quick else ''} --out {quote(free_name(root))}"
    if record.is_finished:
        what = f"{root} holds a finished demo: {root / 'report.html'}"
        return MuseError(what, hint=f"{another} makes another one")
    what = f"{root} holds a demo that is not finished: it came as far as {record.at}"
    return MuseError(what, hint=f"{way_on(root)} goes on with it; {another} makes another one")


@contextmanager
def resumed(out: Path | None, quick: bool, progress: Progress) -> Iterator[Journal]:
    """Go on with the demo in `out`, or with the one last at work, and keep its folder to this process.

    Raises:
        MuseError: there is none, it is finished, or it is not `quick` where that was asked for.
    """
    root = out or _last_unfinished(quick)
    if read_record(root) is None:
        raise MuseError(f"there is no demo in {root}", hint=f"muse demo --out {quote(root)} begins one")
    with held(root):
        record = read_record(root)
        if record is None or record.is_finished:
            raise _refusal(root, record or DemoRecord(quick, state="finished"))
        if quick and not record.quick:
            raise MuseError(f"the demo in {root} was not begun with --quick", hint=way_on(root))
        journal = Journal(root, record)
        progress.say(f"goes on with the demo in {root}, which came as far as {record.at}")
        journal.note(state="running")
        yield journal


def _last_unfinished(quick: bool) -> Path:
    places = {path.parent for path in runs_dir().glob(f"*/{FILE}")} | {run.path.parent for run in list_runs()}
    demos = [(record, place) for place in places if (record := read_record(place))]
    found = [(record, place) for record, place in demos if not quick or record.quick]
    going = [(record.updated, place) for record, place in found if not record.is_finished]
    if going:
        return max(going)[1]
    begin, which = ("muse demo --quick", " quick") if quick else ("muse demo", "")
    if not found:
        raise MuseError(f"there is no{which} demo in {runs_dir()} to go on with", hint=f"{begin} begins one")
    another = quote(free_name(default_place(quick)))
    raise MuseError(f"every{which} demo in {runs_dir()} is finished", hint=f"{begin} --out {another} makes another one")
