"""Nothing of this machine's settings reaches these tests."""

import os
from pathlib import Path

import pytest

from muse_core import registry
from muse_core.runs import RunFolder
from muse_core.stages.start import RunSummary


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No MUSE_* variables but an empty folder of runs; no plugin remembered."""
    for name in [name for name in os.environ if name.startswith("MUSE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MUSE_RUNS", str(tmp_path / "runs"))
    registry.forget()


@pytest.fixture(scope="session")
def checkpoints(three_stages: dict[int, RunSummary]) -> dict[int, Path]:
    """The finished checkpoint of each stage; do not write into them."""
    found = {stage: RunFolder(run.folder).last_checkpoint() for stage, run in three_stages.items()}
    return {stage: path for stage, path in found.items() if path is not None}
