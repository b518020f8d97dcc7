"""How the fixtures of 0.1.0 were made: `python -m tests.old.record COMMIT`, with the history; no test runs it."""

import json
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from tests.old.archive import FIXTURES, pack, unpack
from tests.old.lines import ON_RUNS, RUNS, SCORES
from tests.old.tree import Tree

_IMAGES = """
from pathlib import Path
from PIL import Image
from muse_core.data.source import open_source
folder = Path("images"); folder.mkdir()
for number, scene in enumerate(open_source("demo:val:16").once()):
    Image.fromarray(scene.image).resize((64, 64)).save(folder / f"{number:02d}.png")
    (folder / f"{number:02d}.txt").write_text(scene.caption)
    (folder / f"{number:02d}.cls").write_text(str(scene.label))
"""


def main() -> None:
    """Record everything anew from one commit."""
    pack(sys.argv[1])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tree, work = unpack(folder / "tree"), folder / "work"
        work.mkdir()
        old = Tree((tree, *sorted((tree / "plugins").iterdir())))
        _shards(tree, work)
        old.muse(work, "shard images --out shards")
        for line in RUNS.values():
            old.muse(work, line)
        for line in ON_RUNS.values():
            old.muse(work, line)
        old.muse(work, "infer shards --checkpoint tiny --latents latents --dtype float16")
        old.muse(work, "export runs/stage3 --out export")
        _keep_texts(work)
        _keep_scores(old, work, tree)
    (FIXTURES / "machine.json").write_text(json.dumps(machine(), indent=1) + "\n")


def machine() -> dict[str, Any]:
    """Return what decides the last bits of a sum."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {"processor": names[0].partition(":")[2].strip(), "torch": torch.__version__, "threads": 1}


def header_of(path: Path) -> dict[str, Any]:
    """Read the header of a safetensors file: names, types, shapes and metadata."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
    return header


def _shards(tree: Path, work: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    subprocess.run([sys.executable, "-c", _IMAGES], cwd=work, env=environment, check=True)


def _keep_texts(work: Path) -> None:
    """Copy what was written: small files as they are, files of weights as their headers."""
    for path in sorted(work.rglob("*")):
        name = path.relative_to(work)
        if not path.is_file() or name.parts[0] in ("images", "cache") or path.suffix == ".png" or path.name == ".held":
            continue
        target = FIXTURES / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            target.with_name(f"{path.name}.json").write_text(json.dumps(header_of(path), separators=(",", ":")) + "\n")
        elif path.name in ("environment.json", "config.yaml"):  # less what names this machine
            target.write_text(path.read_text().replace(platform.platform(), "Linux-x86_64").replace(f"{work}/", ""))
        else:
            shutil.copyfile(path, target)
    cache = sorted((work / "cache" / "features").iterdir())[0]
    (FIXTURES / "cache").mkdir(exist_ok=True)
    shutil.copyfile(cache, FIXTURES / "cache" / cache.name)


def _keep_scores(old: Tree, work: Path, tree: Path) -> None:
    folder = FIXTURES / "scores"
    folder.mkdir(exist_ok=True)
    for name, line in SCORES.items():
        text = old.muse(work, f"{line} --json").replace(f"{tree}/", "")
        (folder / f"{name}.json").write_text(text)


if __name__ == "__main__":
    main()
