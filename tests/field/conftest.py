"""An empty folder with the inputs of one case, in which commands are typed as the people who met it did."""

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
from tests.field.inputs import CASES

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
