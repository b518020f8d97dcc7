"""An environment of its own, in which the plugins of 0.1.0 are installed as they were, beside the muse of this tree."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.old.archive import PROJECTS, ROOT, unpack


@pytest.fixture(scope="session")
def old_plugins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Install them, and return the variables and the interpreter (under PYTHON) that use them."""
    folder = tmp_path_factory.mktemp("old-plugins")
    tree = unpack(folder / "tree")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    python = folder / "env" / "bin" / "python"
    shown = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    # Everything else comes from the environment that runs the tests; its editable installs do not: they are no paths.
    (Path(shown.stdout.strip()) / "tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for project in PROJECTS[1:]:
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--force-reinstall"]
        subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--no-index", str(tree / project)], check=True)
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "PYTHON": str(python)}
