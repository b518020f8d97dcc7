"""Wrong settings files: through config check and a dry run, which must agree."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from muse_core.errors import ExitCode
from tests.fuzz.judge import muse
from tests.fuzz.kinds import Bug, Cases
from tests.fuzz.mutate import damaged, wrong
from tests.training.mini import lean

PLANNED = 10
"""One case in so many is also planned, which takes longer."""

FOR = ("train", "shard", "eval")


def settings(folder: Path, cases: list[int], of: Cases) -> Iterator[Bug]:
    """A settings file with keys and values that are missing, too many or of another kind, or damaged as text."""
    folder.mkdir(parents=True)
    for case in cases:
        rng, path = of.rng(case), folder / f"{case}.yaml"
        command = "train" if case % PLANNED == 0 else FOR[case % len(FOR)]
        document = _document(command)
        text = yaml.dump(wrong(document, rng) if case % 3 else document, allow_unicode=True).encode("utf-8", "replace")
        path.write_bytes(text if case % 3 else damaged(text, rng))
        checked = muse("config", "check", str(path), "--for", command, "--json")
        if checked.bug:
            yield of.bug(case, checked)
        elif checked.code not in (ExitCode.DONE, ExitCode.PROBLEMS, ExitCode.FILE, ExitCode.SETTINGS):
            yield of.bug(case, checked, f"exit code {checked.code}")
        if case % PLANNED == 0:
            yield from _planned(case, path, checked.code, of)


def _planned(case: int, path: Path, checked: int, of: Cases) -> Iterator[Bug]:
    planned = muse("train", "--config", str(path), "--dry-run", "--json")
    if planned.bug:
        yield of.bug(case, planned)
    elif checked == ExitCode.DONE and planned.code == ExitCode.SETTINGS and "divide" not in planned.err:
        yield of.bug(case, planned, f"config check accepts what train refuses: {planned.err.splitlines()[0]}")
    elif checked != ExitCode.DONE and planned.code == ExitCode.DONE:
        yield of.bug(case, planned, "train accepts what config check refuses")


def _document(command: str) -> dict[str, Any]:
    if command == "train":
        return lean(1, {"training.devices": "cpu"}).model_dump(mode="json")
    if command == "shard":
        return {"captions": "auto", "per_shard": 10, "shard_size": "1MB", "split": "train=0.9,val=0.1", "workers": 1}
    return {"data": "demo:val", "metrics": ["psnr"], "limit": 4, "batch_size": 2, "devices": "cpu"}
