"""Environments of their own: the plugins of 0.1.0 as they were, and every extra, each beside the muse of this tree."""

import os
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from tests.old.archive import PROJECTS, ROOT, unpack


def overlay(folder: Path) -> Path:
    """Make an environment in `folder` on top of the one that runs the tests, and return its interpreter.

    Of the other one it has what is installed and not its editable installs: they are no paths.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    shown = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    (Path(shown.stdout.strip()) / "tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def pip(python: Path, *words: str) -> None:
    """Let pip do something in an environment."""
    common = ["--disable-pip-version-check", "--python", str(python)]
    done = subprocess.run([sys.executable, "-m", "pip", *common, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.fixture(scope="session")
def old_plugins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Install them, and return the variables and the interpreter (under PYTHON) that use them."""
    folder = tmp_path_factory.mktemp("old-plugins")
    tree = unpack(folder / "tree")
    python = overlay(folder / "env")
    for project in PROJECTS[1:]:
        where = str(tree / project)
        pip(python, "install", "--force-reinstall", "--no-deps", "--no-build-isolation", "--no-index", where)
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "PYTHON": str(python)}


@pytest.fixture(scope="session")
def trackers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install every extra of pyproject.toml but dev, under constraints.txt, and return the interpreter with them."""
    python = overlay(tmp_path_factory.mktemp("trackers") / "env")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = [package for name, packages in extras.items() if name != "dev" for package in packages]
    pip(python, "install", "--constraint", str(ROOT / "constraints.txt"), *wanted)
    return python
