"""The run folder: the one place that knows what a run leaves behind and how to find it again.

    config.yaml  origins.json  environment.json  identity.json  status.json  log.txt  metrics.jsonl
    checkpoints/step-0002000/  checkpoints/last  checkpoints/best   samples/   results/   report.html   tensorboard/

A folder is a run when it has status.json. Nothing here knows what is inside a checkpoint.
"""

import json
import os
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType
from typing import Any, Literal, Self

import yaml

from muse_core import run_checkpoints as saved
from muse_core.errors import TRAINING_MEMORY, ExitCode, MuseError, MuseWarning, explained
from muse_core.files import free_name, held, read_json, write_atomically, write_json
from muse_core.home import expanded
from muse_core.interrupts import Terminated as Terminated
from muse_core.json_text import finite, utf8
from muse_core.machine import environment, without_secrets
from muse_core.records import read_records
from muse_core.run_files import RUNS
from muse_core.text_files import read_text_file
from muse_core.yaml_files import yaml_of

State = Literal["running", "finished", "failed", "interrupted"]


@dataclass(frozen=True)
class Status:
    """How a run is doing; `details` holds numbers worth listing, such as the best score."""

    state: State = "running"
    stage: int | None = None
    size: str | None = None
    step: int = 0
    steps: int | None = None
    error: str | None = None
    hint: str | None = None
    exit_code: int | None = None
    started: str = ""
    updated: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


_MAY_BE: Mapping[str, Any] = dict.fromkeys(("stage", "steps", "exit_code"), (int, NoneType))
_MUST_BE: Mapping[str, Any] = {"step": int, "state": str, "started": str, "updated": str, "details": dict}


@dataclass(frozen=True)
class RunFolder:
    """One run on disk. Only the first process of a run writes to it."""

    path: Path

    @classmethod
    def create(
        cls,
        path: Path,
        settings: Mapping[str, Any],
        origins: Mapping[str, str],
        more: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        overwrite: bool = False,
        stage: int | None = None,
        size: str | None = None,
        steps: int | None = None,
    ) -> Self:
        """Begin a run: the folder with its settings, where they came from, and this machine.

        more: further JSON documents by the names of their files, there before the folder counts as a run.

        Raises:
            MuseError: the folder is not empty and `overwrite` is off, or what is in it is not a run.
        """
        refuse_in_the_way(path, overwrite)
        if path.is_dir():
            RUNS.clear(path)
        run = cls(path)
        run.write_settings(settings, origins)
        write_json(path / "environment.json", environment())
        for name, document in (more or {}).items():
            write_json(path / name, document)
        now = _now()
        run._write_status(Status(stage=stage, size=size, steps=steps, started=now, updated=now))
        return run

    @classmethod
    def open(cls, path: Path) -> Self:
        """Use an existing run.

        Raises:
            MuseError: `path` is not a run folder.
        """
        if not is_run(path):
            raise MuseError(f"{path} is not a run: it has no status.json", hint="muse ls runs")
        return cls(path)

    def held(self) -> AbstractContextManager[None]:
        """Keep the folder to this process while it writes there; MuseError when another one does."""
        return held(self.path)

    def write_settings(self, settings: Mapping[str, Any], origins: Mapping[str, str]) -> None:
        """Write config.yaml, which `muse train --config` accepts, and which layer set each key."""
        write_atomically(self.path / "config.yaml", yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True))
        write_json(self.path / "origins.json", dict(origins))

    def settings(self) -> dict[str, Any]:
        """Read config.yaml back."""
        try:
            document = yaml_of(read_text_file(self.path / "config.yaml"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # yaml's dates raise ValueError
            raise MuseError(f"{self.path / 'config.yaml'} cannot be read: {error}") from None
        if not isinstance(document, dict):
            raise MuseError(f"{self.path / 'config.yaml'} does not hold settings")
        return document

    @property
    def status(self) -> Status:
        """Read status.json, or refuse what is none; keys written by a newer muse are kept in `details`."""
        document = read_json(self.path / "status.json")
        known = {name: document.pop(name) for name in Status.__dataclass_fields__ if name in document}
        kinds = {**dict.fromkeys(known, (str, NoneType)), **_MAY_BE, **_MUST_BE}
        wrong = [name for name, value in known.items() if not isinstance(value, kinds[name])]
        if wrong:
            raise MuseError(f"{self.path / 'status.json'} is not the status of a run: {wrong[0]}")
        known["details"] = {**known.get("details", {}), **document}
        return Status(**known)

    def update(self, *, step: int | None = None, **details: Any) -> None:
        """Note the step that was reached, and numbers worth listing."""
        old = self.status
        self._write_status(replace(old, step=old.step if step is None else step, details={**old.details, **details}))

    def resume(self) -> None:
        """Say that the run goes on."""
        self._write_status(replace(self.status, state="running", error=None, hint=None, exit_code=None))

    def finish(self, step: int, **details: Any) -> None:
        """Say that the run did what it was asked."""
        old = self.status
        self._write_status(replace(old, state="finished", step=step, exit_code=0, details={**old.details, **details}))

    def fail(self, error: BaseException, *, overrule: bool = False) -> None:
        """Record why the run stopped, with the exit code that its command must end with.

        Of several processes the one that fails first says why; what follows from it is not recorded, unless it
        `overrule`s.
        """
        if overrule or self.status.state != "failed":
            self._write_status(_failed(self.status, error))

    def interrupt(self, error: KeyboardInterrupt) -> None:
        """Record that somebody stopped it, by Ctrl-C or SIGTERM; it can be resumed. A failure stays a failure."""
        if self.status.state == "failed":
            return
        code = getattr(error, "exit_code", int(ExitCode.INTERRUPTED))
        hint = f"muse train --resume {self.path}"
        self._write_status(replace(self.status, state="interrupted", hint=hint, exit_code=code))

    def _write_status(self, status: Status) -> None:
        write_json(self.path / "status.json", asdict(replace(status, updated=_now())))

    def log(self, text: str, rank: int = 0) -> None:
        """Append a line to log.txt, or log-N.txt for the other processes."""
        with (self.path / ("log.txt" if rank == 0 else f"log-{rank}.txt")).open("ab") as file:
            file.write(utf8(f"{_now()} {without_secrets(text)}\n"))

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Append one record, which has a "step", to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite(record)) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Read metrics.jsonl; a last line that was cut short is left out."""
        return read_records(self.path / "metrics.jsonl")

    def cut_metrics(self, step: int) -> None:
        """Drop what was recorded after `step`, so that a resumed run tells each step once."""
        kept = [json.dumps(record) + "\n" for record in self.metrics() if record["step"] <= step]
        write_atomically(self.path / "metrics.jsonl", "".join(kept))

    def result_path(self, name: str) -> Path:
        """Return where the scores of a command go, as in results/eval.json."""
        return self.path / "results" / f"{name}.json"

    def sample_path(self, step: int) -> Path:
        """Return where the samples of a step go."""
        return self.path / "samples" / f"{saved.step_name(step)}.png"

    def checkpoint(
        self, step: int, keep: int | None = None, best: saved.Choice | None = None
    ) -> AbstractContextManager[Path]:
        """Fill the checkpoint of `step`; then it is `last`, `best` chooses, and others beyond the newest `keep` go."""
        return saved.saved(self.path, step, keep, best)

    def checkpoints(self) -> list[Path]:
        """List complete checkpoints, oldest step first."""
        return saved.complete(self.path)

    def last_checkpoint(self) -> Path | None:
        """Return the checkpoint that `last` names, or else the highest step."""
        steps = self.checkpoints()
        return saved.pointed_at(self.path, saved.LAST) or (steps[-1] if steps else None)


class FollowerFolder(RunFolder):
    """The run as the other processes see it: they log to files of their own and leave the rest to the first.

    A failure is recorded all the same: whoever fails first says why.
    """

    def held(self) -> AbstractContextManager[None]:
        """Leave it to the first process."""
        return nullcontext()

    def write_settings(self, settings: Mapping[str, Any], origins: Mapping[str, str]) -> None:
        """Leave it to the first process."""

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Leave it to the first process."""

    def cut_metrics(self, step: int) -> None:
        """Leave it to the first process."""

    def fail(self, error: BaseException, *, overrule: bool = False) -> None:
        """Record why this process failed, unless another one failed before or this `overrule`s it."""
        if overrule or self.status.state != "failed":
            super()._write_status(_failed(self.status, error))

    def log(self, text: str, rank: int = 0) -> None:
        """Append to the log of this process."""
        super().log(text, rank or int(os.environ.get("RANK", "1")))

    def _write_status(self, status: Status) -> None:
        """Leave it to the first process."""


def _failed(status: Status, error: BaseException) -> Status:
    known = explained(error, TRAINING_MEMORY) or MuseError(f"{type(error).__name__}: {error}", exit_code=ExitCode.BUG)
    what, hint = without_secrets(known.what), known.hint and without_secrets(known.hint)
    return replace(status, state="failed", error=what, hint=hint, exit_code=known.exit_code)


def _step_name(step: int) -> str:
    return f"step-{step:07d}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def refuse_in_the_way(path: Path, overwrite: bool) -> None:
    """Refuse a folder that a new run may not have, and leave it as it is.

    Raises:
        MuseError: it holds a run and `overwrite` is off, or anything that muse did not write.
    """
    RUNS.refuse(path, overwrite, [f"--resume {path} to go on with it"], in_place=True)


def runs_dir() -> Path:
    """Return the folder of new runs: $MUSE_RUNS, or `runs` here."""
    return expanded(os.environ.get("MUSE_RUNS") or "runs")


def new_path(stage: int | str, size: str, where: Path | None = None) -> Path:
    """Return a name that is free, as in runs/1b-stage2-20261123-1432."""
    return free_name((where or runs_dir()) / f"{size}-stage{stage}-{datetime.now():%Y%m%d-%H%M}")


def is_run(path: Path) -> bool:
    """Say whether a folder is a run."""
    return (path / "status.json").is_file()


def is_checkpoint(path: Path) -> bool:
    """Say whether a folder is one checkpoint."""
    return (path / "state.json").is_file() or (path / "model.safetensors").is_file()


def list_runs(where: Path | None = None) -> list[RunFolder]:
    """List the runs in a folder, up to two levels deep, the one updated last first, unreadable ones at the end."""
    root = where or runs_dir()
    found = {status.parent for pattern in ("*/status.json", "*/*/status.json") for status in root.glob(pattern)}
    return sorted(map(RunFolder, found), key=lambda run: (_updated(run), str(run.path)), reverse=True)


def _updated(run: RunFolder) -> str:
    try:
        return run.status.updated or ""
    except MuseError:
        return ""  # whoever needs this run's status is told; the others can still be found


def readable_runs(where: Path | None = None) -> list[tuple[RunFolder, Status]]:
    """List runs as `list_runs` does, with their status; those that cannot be read are passed over with a warning."""
    readable = []
    for run in list_runs(where):
        try:
            readable.append((run, run.status))
        except MuseError as error:
            warnings.warn(f"{error.what}; this run is passed over", MuseWarning, stacklevel=2)
    return readable


def newest_finished(where: Path | None = None, stage: int | None = None, size: str | None = None) -> RunFolder | None:
    """Return the finished run updated last that has a checkpoint, of one stage and size if asked."""
    for run, status in readable_runs(where):
        fits = stage in (None, status.stage) and size in (None, status.size)
        if fits and status.state == "finished" and run.last_checkpoint():
            return run
    return None


def find(where: str | Path) -> Path:
    """Return the checkpoint folder meant by "latest", a run folder, a checkpoint folder, or RUN:best.

    Raises:
        MuseError: there is none; the hint says how to get one.
    """
    if str(where) == "latest":
        return _latest()
    pointer = saved.split_pointer(where)
    if pointer:
        return _pointed(*pointer)
    path = Path(where)
    if is_run(path):
        return _last_of(RunFolder(path))
    if is_checkpoint(path):
        return path
    what = "holds neither a run nor a checkpoint" if path.exists() else "does not exist"
    raise MuseError(f"{path} {what}", hint="muse ls runs")


def find_run(where: str | Path) -> RunFolder:
    """Find the run meant by "latest" (the one updated last, finished or not) or by its folder.

    Raises:
        MuseError: there is none.
    """
    if str(where) != "latest":
        return RunFolder.open(Path(where))
    for run, _ in readable_runs():
        return run
    raise MuseError(f"there is no run in {runs_dir()}", hint="muse train --stage 1-3 --size tiny")


def unfinished(where: str | Path) -> RunFolder:
    """Find the run to go on with: "latest" is the one updated last that is not finished.

    Raises:
        MuseError: there is none.
    """
    if str(where) != "latest":
        return RunFolder.open(Path(where))
    for run, status in readable_runs():
        if status.state != "finished":
            return run
    raise MuseError(f"every run in {runs_dir()} is finished", hint="muse ls runs")


def run_of(path: Path) -> RunFolder | None:
    """Return the run that a run folder, a checkpoint, RUN:best, or a file inside one belongs to."""
    pointer = saved.split_pointer(path)
    path = Path(pointer[0]) if pointer else path
    inside = [path, *path.absolute().parents][:4]
    return next((RunFolder(folder) for folder in inside if is_run(folder)), None)


def _latest() -> Path:
    newest = newest_finished()
    if newest is None:
        raise MuseError(
            f"there is no finished run in {runs_dir()}", hint="make one with `muse demo`, or name a --checkpoint"
        )
    return _last_of(newest)


def _pointed(where: str, pointer: str) -> Path:
    run = RunFolder(_latest().parents[1]) if where == "latest" else RunFolder.open(Path(where))
    return _last_of(run) if pointer == saved.LAST else saved.needed_best(run.path)


def _last_of(run: RunFolder) -> Path:
    checkpoint = run.last_checkpoint()
    if checkpoint is None:
        raise MuseError(f"{run.path} has no checkpoint yet (it is {run.status.state} at step {run.status.step})")
    return checkpoint
