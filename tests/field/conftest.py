"""An empty folder with the inputs of one case, in which commands are typed as the people who met it did."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import (
    Ended as Ended,
    Muse as Muse,
    clean as clean,
    install as install,
    muse as muse,
    shell as shell,
    trained as trained,
)
from tests.field.inputs import CASES, RED, coded, flat, put, tar

Case = Callable[[str], Path]


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Make the inputs of a case and stand in their folder."""

    def make(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        CASES[name](folder)
        monkeypatch.chdir(folder)
        return folder

    return make


@pytest.fixture
def inputs(tmp_path: Path, trained: Path) -> Path:
    """What the command lines read, in the folder where they are typed."""
    put(tmp_path / "d/0.jpg", coded(flat(RED)))
    put(tmp_path / "y.jpg", coded(flat(RED, 64, 64)))
    tar(tmp_path / "s/0.tar", [(f"{n}.jpg", coded(flat(RED, 64, 64))) for n in range(2)])
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path
