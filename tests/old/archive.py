"""The sources of release 0.1.0: packed into one file of the fixtures, and unpacked beside the code that is tested.

The archive holds the Python files and small data of that commit. Its weights and artwork are the package's own: the
unpacked tree gets copies of the files in this one that have the recorded hash, wherever they lie by now.
"""

import hashlib
import io
import json
import lzma
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "v0.1.0"
ARCHIVE = FIXTURES / "sources.tar.xz"
BORROWED = FIXTURES / "borrowed.json"
"""Path in the tree of 0.1.0 -> sha256 of what is not in the archive."""

PROJECTS = (".", "plugins/muse-baselines", "plugins/muse-example-probe")
_BIG = (".safetensors", ".webp")
_PACKED = ("muse_cli", "muse_core", "plugins", "pyproject.toml")


def pack(commit: str) -> None:
    """Write the archive of a commit, the same bytes each time, and the hashes of what is left out of it."""
    names = _git("ls-tree", "-r", "--name-only", commit, "--", *_PACKED).decode().splitlines()
    borrowed = {}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in sorted(names):
            content = _git("show", f"{commit}:{name}")
            if name.endswith(_BIG):
                borrowed[name] = hashlib.sha256(content).hexdigest()
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    FIXTURES.mkdir(parents=True, exist_ok=True)
    ARCHIVE.write_bytes(lzma.compress(stream.getvalue(), preset=9 | lzma.PRESET_EXTREME))
    BORROWED.write_text(json.dumps(borrowed, indent=1) + "\n")
    (FIXTURES / "COMMIT").write_text(commit + "\n")


def unpack(folder: Path) -> Path:
    """Lay out the tree of 0.1.0, with the metadata of its installed packages, and return it.

    Raises:
        LookupError: a file of weights or artwork is no longer what it was.
    """
    with tarfile.open(ARCHIVE, mode="r:xz") as tar:
        tar.extractall(folder, filter="data")
    here = {path.name: [] for path in ROOT.glob("muse_core/**/*") if path.suffix in _BIG}  # type: dict[str, list[Path]]
    for path in ROOT.glob("muse_core/**/*"):
        if path.suffix in _BIG:
            here[path.name].append(path)
    for name, digest in json.loads(BORROWED.read_text()).items():
        same = [path for path in here.get(Path(name).name, []) if _digest(path) == digest]
        if not same:
            raise LookupError(f"{name} of 0.1.0 is not in this tree any more")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(same[0], folder / name)
    for project in PROJECTS:
        _install(folder / project)
    return folder


def _install(project: Path) -> None:
    """Write what an installer would of a project's name, version and entry points, beside its packages."""
    described: dict[str, Any] = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    info = project / f"{described['name'].replace('-', '_')}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {described['name']}\nVersion: 0.1.0\n")
    groups = described.get("entry-points", {})
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()) for group, entries in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout
