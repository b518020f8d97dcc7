"""Where words go: results to stdout, everything else to stderr, and with --json one document on stdout."""

import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any, TextIO

from muse_cli import terminal
from muse_cli.pulse import Pulse
from muse_core.command_lines import command_line
from muse_core.errors import MEASURING_MEMORY
from muse_core.progress import Progress, Silent


class Output:
    """What this process says; one per process, because a process has one stdout.

    `verbosity` is -1 with --quiet, 0, and 1 or more with --verbose. `memory_hint` is what to type where memory is too
    small, once the settings of the command are known. `stdout` is where the result goes, `pulse` what is being done,
    and `is_program` says that this process is one command line, which may end it.
    """

    is_program = False

    def __init__(self) -> None:
        self.reset(json=False)

    def reset(self, *, json: bool, typed: Sequence[str] = ()) -> None:
        """Begin anew, as main does for each command line; `typed` are its words after `muse`."""
        self.json, self.muted, self.verbosity = json, False, 0
        self.typed = tuple(typed)
        self.document: dict[str, Any] | None = None
        self.memory_hint = MEASURING_MEMORY
        self.stdout: TextIO | None = None
        self.pulse = Pulse()

    def typed_without(self, *options: str) -> str:
        """Return the command line as it was typed, to be typed again without some switches."""
        return command_line("muse", *(word for word in self.typed if word not in options))

    def mute(self) -> None:
        """Leave results and progress to another process; only errors and warnings are told."""
        self.muted, self.verbosity = True, -1

    def result(self, document: Mapping[str, Any], text: str = "") -> None:
        """Give the command's result: text for people now, or the document when the command ends."""
        self.document = dict(document)
        if not self.json and not self.muted and text:
            print(text, flush=True)

    def say(self, text: str) -> None:
        """Tell something beside the result."""
        if self.verbosity >= 0:
            self.tell(terminal.fitted(text, terminal.width()) if terminal.is_live() else text)

    def detail(self, text: str) -> None:
        """Tell something that only --verbose shows."""
        if self.verbosity > 0:
            self.tell(text)

    def warn(self, text: str) -> None:
        """Tell something that should not be missed, even with --quiet."""
        self.tell(terminal.colored(f"warning: {text}", "yellow"))

    def tell(self, text: str) -> None:
        """Write to stderr. Where that takes no more, result and exit code still say what happened."""
        self.pulse.heard()
        print(f"{text}\n", end="", file=sys.stderr, flush=True)  # in one piece: the pulse tells from its own thread

    def doing(self, text: str) -> AbstractContextManager[None]:
        """Name what the block does, for who waits long for it."""
        return self.pulse.doing(lambda: text)

    def fail(self, what: str, hint: str | None, exit_code: int) -> None:
        """Tell why the command ends, on stderr, and in the document with --json."""
        self.tell(terminal.colored(f"error: {what}", "red"))
        if hint:
            self.tell(f" hint: {hint}")
        self.document = {**(self.document or {}), "error": what, "hint": hint, "exit_code": int(exit_code)}

    def finish(self, code: int) -> None:
        """Close the stdout of this command line, which `main` has noted."""
        if self.stdout is not None:
            self.close(self.stdout, code)

    def close(self, stdout: TextIO, code: int) -> None:
        """Print the document of --json, which has the exit code of whatever did not end well."""
        if self.json and not self.muted:
            ending = {} if self.document and not code else {"exit_code": int(code)}
            document = to_json({**(self.document or {}), **ending})
            print(terminal.as_json(document, stdout), file=stdout)
        stdout.flush()

    def progress(self) -> Progress:
        """Return what core code tells its progress to."""
        if self.verbosity < 0:
            return Silent()
        from muse_cli.progress import BarProgress, LineProgress

        return BarProgress(self) if terminal.is_live() else LineProgress(self)


out = Output()


def to_json(value: Any) -> Any:
    """Turn a result into plain JSON; numbers that are not finite become null, which every parser reads."""
    if isinstance(value, Mapping):
        return {str(key): to_json(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(part) for part in value]
    if isinstance(value, Enum):
        return to_json(value.value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | int | None):
        return value
    return to_json(value.tolist()) if hasattr(value, "tolist") else str(value)


def table(rows: Sequence[Sequence[object]], headers: Sequence[str] = ()) -> str:
    """Lay out columns of text; numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    right = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(cells[0]))] if cells else []
    every = [list(headers), *cells] if headers else cells
    widths = [max(len(row[i]) for row in every) for i in range(len(every[0]))] if every else []
    lines = [
        "  ".join(
            c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right or [False] * len(row), strict=True)
        )
        for row in every
    ]
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def size_text(count: int | None) -> str:
    """Write a number of bytes for people."""
    if count is None:
        return "unknown"
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
