"""Commands in processes of their own, started fast: what they say is kept, and they can be killed at any moment."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from muse_cli.main import main
from muse_core.runs import RunFolder

PATIENCE_S = 300.0
KILLED = 128 + signal.SIGKILL
"""What a shell says of a command that was killed."""

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["muse_core.stages.start", "muse_cli.main", "muse_cli.launch", "muse_cli.commands.train"])


@dataclass(frozen=True)
class Running:
    """A command on its way, the run it fills, and the file that takes what it says."""

    process: BaseProcess
    run: RunFolder
    said: Path

    def lines(self) -> int:
        """Steps that the run has told."""
        path = self.run.path / "metrics.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def partial(self) -> list[str]:
        """Checkpoints that are being written."""
        folder = self.run.path / "checkpoints"
        return [name for name in os.listdir(folder) if name.startswith(".step-")] if folder.exists() else []

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Look without rest until something is so, or the process is over."""
        deadline = time.monotonic() + PATIENCE_S
        while not ready() and self.process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.0005)

    def wait_for_steps(self, steps: int) -> None:
        """Look until the run has told so many steps."""
        self.wait_for(lambda: self.lines() >= steps)

    def children(self) -> list[int]:
        """Processes that the command started."""
        found: list[int] = []
        for thread in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            found += map(int, thread.read_text().split())
        return found

    def kill(self) -> str:
        """Kill it, and say in the midst of what it was."""
        was_alive = self.process.is_alive()
        self.process.kill()
        self.process.join()
        if not was_alive or self.process.exitcode != -signal.SIGKILL:
            return "already over"
        if self.partial():
            return "while a partial checkpoint exists"
        return "between saves" if self.run.checkpoints() else "before the first save"

    def code(self) -> int:
        """Wait for the end; the exit code as a shell has it."""
        self.process.join(PATIENCE_S)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"the command did not end within {PATIENCE_S:.0f} s:\n{self.said.read_text()}")
        return self.process.exitcode if self.process.exitcode >= 0 else 128 - self.process.exitcode


def start(run: Path, arguments: Sequence[str], said: Path, before: Callable[[], None] | None = None) -> Running:
    """Start a command; `before` is done first, in its process."""
    process = FORKS.Process(target=_command, args=(list(arguments), said, before))
    process.start()
    return Running(process, RunFolder(run), said)


def say_into(said: Path) -> None:
    """Let all that this process says go to a file."""
    handle = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)


def _command(arguments: list[str], said: Path, before: Callable[[], None] | None) -> None:
    say_into(said)
    # A process from a fork server would start its readers from one more such server, as no command of a user does.
    multiprocessing.set_start_method("fork", force=True)
    if before is not None:
        before()
    sys.exit(main(arguments))
