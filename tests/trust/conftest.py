"""What a stranger may send: files that would do something if they were trusted; and commands to give them to."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.conftest import Muse as Muse, clean as clean, muse as muse, shell as shell, trained as trained


class Bomb:
    """An object whose unpickling makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """The folder that is there once something was executed."""
    return tmp_path / "executed"


@pytest.fixture
def bomb(marker: Path) -> Bomb:
    """An object that tells when it is unpickled; proven to."""
    armed = Bomb(marker)
    pickle.loads(pickle.dumps(armed))
    assert marker.is_dir()
    marker.rmdir()
    return armed


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture."""
    Image.new("RGB", (48, 40), (90, 160, 40)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"
