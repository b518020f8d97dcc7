"""One of two trees of sources, and commands run with it: on one thread, offline, without settings of this machine."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class FailedError(Exception):
    """A command ended with another exit code than 0."""


@dataclass(frozen=True)
class Tree:
    """sources: the folder that holds muse_cli and muse_core, and folders of plugins in front of it."""

    sources: tuple[Path, ...]

    def muse(self, folder: Path, line: str) -> str:
        """Run a command in a folder and return what it prints.

        Raises:
            FailedError: it did not end well.
        """
        command = [sys.executable, "-m", "muse_cli", *line.split()]
        done = subprocess.run(command, cwd=folder, env=self._environment(folder), capture_output=True, text=True)
        if done.returncode:
            raise FailedError(f"muse {line}: ended with {done.returncode}\n{done.stderr[-2000:]}")
        return done.stdout

    def scores(self, folder: Path, line: str) -> Record:
        """Run a command that measures, and return its document."""
        document: Record = json.loads(self.muse(folder, f"{line} --json"))
        return document

    def _environment(self, folder: Path) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MUSE_")}
        path = os.pathsep.join(map(str, self.sources))
        own = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MUSE_CACHE": str(folder / "cache"), "MUSE_OFFLINE": "1"}
        return {**kept, **own, "NO_COLOR": "1"}


def losses(run: Path) -> dict[int, Record]:
    """Read what a run logged at each step, less what depends on the machine's speed."""
    records: dict[int, Record] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        kept = {key: value for key, value in record.items() if key.startswith(("loss/", "grad_norm/", "val/", "lr"))}
        records.setdefault(record["step"], {}).update(kept)
    return records
