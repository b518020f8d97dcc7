"""A stranger's shell: an environment that holds what `pip install .` brings and nothing else, and lines typed in it."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
from dataclasses import dataclass, field
from importlib.metadata import Distribution, distribution, requires
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
FILES = ("pyproject.toml", "README.md", "LICENSE", "NOTICE")
PACKAGES = ("muse_cli", "muse_core")
NEXT = re.compile(r"\bnext: (muse .+)$")
PLACEHOLDER = re.compile(r"[ =](RUN|IMAGE|FILE|DIR|PATH|SHARDS|NAME|CHECKPOINT|DATA)\b|<[^>]*>|\.\.\.")


def install(folder: Path) -> Path:
    """Make an environment in `folder` that is as `pip install .` makes it, and return where its programs are.

    Of what is installed beside these tests all that muse asks for, directly or not, is linked into it, and no more:
    nothing is downloaded.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    python = folder / "env" / "bin" / "python"
    shown = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(shown, capture_output=True, text=True, check=True).stdout.strip())
    for name in needed(ROOT / "pyproject.toml"):
        link(distribution(name), site)
    source = folder / "muse"
    source.mkdir()
    for file in FILES:
        shutil.copy(ROOT / file, source)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index"]
    subprocess.run([*pip, "--no-build-isolation", str(source)], check=True)  # refused where anything is lacking
    return python.parent


def needed(project: Path) -> list[str]:
    """Return all distributions that a project asks for, and these ask for, as far as this machine needs them."""
    waiting = [Requirement(text) for text in tomllib.loads(project.read_text())["project"]["dependencies"]]
    seen: set[tuple[str, str]] = set()
    while waiting:
        asked = waiting.pop()
        for extra in {"", *asked.extras}:
            if (asked.name, extra) not in seen:
                seen.add((asked.name, extra))
                waiting += [more for more in map(Requirement, requires(asked.name) or ()) if _is_meant(more, extra)]
    return sorted({name for name, _ in seen})


def _is_meant(asked: Requirement, extra: str) -> bool:
    return asked.marker is None or asked.marker.evaluate({"extra": extra})


def link(found: Distribution, site: Path) -> None:
    """Link what a distribution holds into another folder of packages."""
    here = Path(sysconfig.get_path("purelib"))
    for top in {file.parts[0] for file in found.files or () if file.parts[0] != ".."}:
        if (here / top).exists() and not (site / top).exists():
            (site / top).symlink_to(here / top)


@dataclass
class Typed:
    """One line that was typed, and how it ended."""

    line: str
    code: int
    out: str
    seconds: float


@dataclass
class Shell:
    """Types lines in an empty folder, each once, and then those that are said to come next."""

    programs: Path
    folder: Path
    variables: dict[str, str]
    typed: dict[str, Typed] = field(default_factory=dict)

    def type(self, line: str) -> Typed:
        """Type a line as it stands; what it says comes next is typed behind it."""
        if line not in self.typed:
            self.typed[line] = self._run(line)
            for following in self.following(line):
                self.type(following)
        return self.typed[line]

    def _run(self, line: str) -> Typed:
        inherited = {name: os.environ[name] for name in ("LANG", "LD_LIBRARY_PATH") if name in os.environ}
        path = f"{self.programs}{os.pathsep}{os.environ['PATH']}"
        started = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env={**inherited, "PATH": path, "HOME": str(self.folder.parent), "NO_COLOR": "1", **self.variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )
        return Typed(line, done.returncode, done.stdout, time.monotonic() - started)

    def following(self, line: str) -> list[str]:
        """Return the commands that a line said come next."""
        return [found[1] for said in self.typed[line].out.splitlines() if (found := NEXT.search(said))]
