"""The run folder: the one place that knows what a run leaves behind and how to find it again.

    config.yaml  origins.json  environment.json  identity.json  trackers.json  status.json  log.txt  metrics.jsonl
    checkpoints/step-0002000/  checkpoints/last  checkpoints/best   samples/   results/   report.html   tensorboard/

A folder is a run when its status.json is that of one. Nothing here knows what is inside a checkpoint.
"""

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import yaml

from muse_core import run_checkpoints as saved
from muse_core.command_lines import quote
from muse_core.distributed import rank_of
from muse_core.errors import ExitCode, MuseError
from muse_core.files import free_name, held, is_abandoned, read_json, write_atomically, write_json
from muse_core.home import expanded
from muse_core.interrupts import Terminated as Terminated
from muse_core.json_text import finite, utf8
from muse_core.machine import environment, without_secrets
from muse_core.records import read_records
from muse_core.run_files import CHAIN as CHAIN, RUNS, is_run as is_run
from muse_core.run_status import KINDS, TOKENIZER as TOKENIZER, Status as Status, resume_command as resume_command
from muse_core.text_files import read_text_file
from muse_core.yaml_files import yaml_of


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
        kind: str = TOKENIZER,
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
        run._write_status(Status(kind, stage=stage, size=size, steps=steps, started=now, updated=now))
        return run

    @classmethod
    def open(cls, path: Path, kind: str = TOKENIZER) -> Self:
        """Use an existing run.

        Raises:
            MuseError: `path` is not a run folder, or a run of another kind.
        """
        if not is_run(path):
            has = "its status.json is not that of one" if (path / "status.json").exists() else "it has no status.json"
            raise MuseError(f"{path} is not a run: {has}", hint="muse ls runs")
        run = cls(path)
        run.require(kind)
        return run

    def require(self, kind: str) -> None:
        """Refuse a run of another kind; where a damaged status does not tell it, its checkpoint will.

        Raises:
            MuseError: it is one.
        """
        try:
            actual = self.status.kind
        except MuseError:
            return
        if actual != kind:
            unknown = "" if actual in KINDS else ", which this version of muse does not know"
            what = f"{self.path} is a run of kind {actual}{unknown}; this needs a run of kind {kind}"
            raise MuseError(what, hint="muse ls runs")

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
        path = self.path / "status.json"
        try:
            return Status.from_json(read_json(path))
        except ValueError as error:
            raise MuseError(f"{path} is not the status of a run: {error}") from None

    @property
    def seen(self) -> Status:
        """Return the status as it is to be shown: a process that was killed could not write that it stopped."""
        status = self.status
        return replace(status, state="stopped") if status.state == "running" and is_abandoned(self.path) else status

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
            self._write_status(self.status.failed(error))

    def interrupt(self, error: KeyboardInterrupt) -> None:
        """Record that somebody stopped it, by Ctrl-C or SIGTERM; it can be resumed. A failure stays a failure."""
        if self.status.state == "failed":
            return
        code = getattr(error, "exit_code", int(ExitCode.INTERRUPTED))
        hint = resume_command(self.path)
        self._write_status(replace(self.status, state="interrupted", hint=hint, exit_code=code))

    def _write_status(self, status: Status) -> None:
        write_json(self.path / "status.json", asdict(replace(status, updated=_now())))
        if status.state != "running":
            why = f": {status.error}" if status.error else ""
            RunFolder.log(self, f"{status.state} at step {status.step}{why}")

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
            super()._write_status(self.status.failed(error))

    def log(self, text: str, rank: int = 0) -> None:
        """Append to the log of this process."""
        super().log(text, rank or max(rank_of(os.environ).index, 1))

    def _write_status(self, status: Status) -> None:
        """Leave it to the first process."""


def _step_name(step: int) -> str:
    return f"step-{step:07d}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def refuse_in_the_way(path: Path, overwrite: bool) -> None:
    """Refuse a folder that a new run may not have, and leave it as it is.

    Raises:
        MuseError: it holds a run and `overwrite` is off, or anything that muse did not write.
    """
    RUNS.refuse(path, overwrite, [f"--resume {quote(path)} to go on with it"], in_place=True)


def runs_dir() -> Path:
    """Return the folder of new runs: $MUSE_RUNS, or `runs` here."""
    return expanded(os.environ.get("MUSE_RUNS") or "runs")


def new_path(stage: int | str, size: str, where: Path | None = None) -> Path:
    """Return a name that is free, as in runs/1b-stage2-20261123-1432."""
    return free_name((where or runs_dir()) / f"{size}-stage{stage}-{datetime.now():%Y%m%d-%H%M}")


def is_checkpoint(path: Path) -> bool:
    """Say whether a folder is one checkpoint."""
    return (path / "state.json").is_file() or (path / "model.safetensors").is_file()
