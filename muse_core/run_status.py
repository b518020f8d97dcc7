"""The status of a run, as status.json holds it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal, Self

from muse_core.command_lines import command_line
from muse_core.errors import TRAINING_MEMORY, ExitCode, MuseError, explained
from muse_core.machine import without_secrets

State = Literal["running", "finished", "failed", "interrupted", "stopped"]
"""As status.json has it, except `stopped`: said to be running by a process that is no more."""

TOKENIZER = "tokenizer"
KINDS = (TOKENIZER,)
"""Kinds of runs that this version trains and uses; others are listed and never taken by default."""


def resume_command(run: Path) -> str:
    """Return what to type to go on with a run, whatever its path holds."""
    return command_line("muse", "train", "--resume", str(run))


@dataclass(frozen=True)
class Status:
    """How a run is doing; `kind` is what it trains, `details` holds numbers worth listing, such as the best score."""

    kind: str = TOKENIZER  # which a run of 0.1.0, without the field, is
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

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read a status; keys written by a newer muse are kept in `details`.

        Raises:
            ValueError: names the field that is not of its type.
        """
        known = {name: document[name] for name in cls.__dataclass_fields__ if name in document}
        types = {**dict.fromkeys(known, (str, NoneType)), **_MAY_BE, **_MUST_BE}
        wrong = [name for name, value in known.items() if not isinstance(value, types[name])]
        if wrong:
            raise ValueError(wrong[0])
        more = {name: value for name, value in document.items() if name not in known}
        return cls(**{**known, "details": {**known.get("details", {}), **more}})

    def failed(self, error: BaseException) -> Self:
        """Return the status of a run that an error ended."""
        known = explained(error, TRAINING_MEMORY) or MuseError(
            f"{type(error).__name__}: {error}", exit_code=ExitCode.BUG
        )
        what, hint = without_secrets(known.what), known.hint and without_secrets(known.hint)
        return replace(self, state="failed", error=what, hint=hint, exit_code=known.exit_code)

    def progress(self) -> str:
        """Return how far the run came, in words: "interrupted at step 3 of 10"."""
        return f"{self.state} at step {self.step}" + (f" of {self.steps}" if self.steps else "")


_MAY_BE: Mapping[str, Any] = dict.fromkeys(("stage", "steps", "exit_code"), (int, NoneType))
_MUST_BE: Mapping[str, Any] = {
    **dict.fromkeys(("kind", "state", "started", "updated"), str),
    "step": int,
    "details": dict,
}
