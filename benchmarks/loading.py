"""Loading a checkpoint of the 1B size: how long, and in how much memory, beside reading its bytes.

`python -m benchmarks.loading` writes a random checkpoint in the released layout to a temporary folder, reads it once so
that its pages are cached, and measures each way of loading in a process of its own, imports excluded. It prints the
Markdown table that docs/loading.md shows.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

KEYS = Path(__file__).parents[1] / "tests" / "fixtures" / "muse_reference" / "keys_1b.json"
LIMITS = {"memory": 1.5, "time": 2.0}
FILES = {"safetensors": "model.safetensors", "torch file": "pytorch_model.bin"}


def main() -> None:
    """Measure, print the table, and end with 1 when a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of which the best counts")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    parser.add_argument("--read", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.load or asked.read:
        print(json.dumps(load(Path(asked.load)) if asked.load else read(Path(asked.read))))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(name, write(Path(folder), file), asked.rounds) for name, file in FILES.items()]
    print(table(rows))
    if any(row["memory"] > LIMITS["memory"] or row["time"] > LIMITS["time"] for row in rows):
        raise SystemExit(1)


def write(folder: Path, name: str) -> Path:
    """Write the 617 tensors of a 1B checkpoint, drawn at random."""
    draws = torch.Generator().manual_seed(0)
    shapes = json.loads(KEYS.read_text())
    tensors = {key: torch.rand(math.prod(shape), generator=draws).reshape(shape) for key, shape in shapes.items()}
    file = folder / name
    if file.suffix == ".safetensors":
        save_file(tensors, file)
    else:
        torch.save(tensors, file)
    return file


def measure(name: str, file: Path, count: int) -> dict[str, Any]:
    """Compare loading with reading; the best of several rounds each, because the machine has other work."""
    in_process(file, "--read")  # the pages are cached from here on
    rounds = [(in_process(file, "--read"), in_process(file, "--load")) for _ in range(count)]
    reading = min(read["seconds"] for read, _ in rounds)
    seconds = min(loaded["seconds"] for _, loaded in rounds)
    peak, kept = (max(loaded[key] for _, loaded in rounds) for key in ("peak", "kept"))
    return {
        "name": name,
        "bytes": file.stat().st_size,
        "kept": kept,
        "peak": peak,
        "memory": peak / kept,
        "reading": reading,
        "seconds": seconds,
        "time": seconds / reading,
    }


def in_process(file: Path, what: str) -> dict[str, float]:
    """Measure one way in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.loading", what, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def read(file: Path) -> dict[str, float]:
    """Read a file's bytes into memory."""
    started = time.perf_counter()
    content = file.read_bytes()
    return {"seconds": time.perf_counter() - started, "bytes": len(content)}


def load(file: Path) -> dict[str, float]:
    """Load a released checkpoint into a network that is ready to run."""
    from muse_core.model.released import load_released

    before, peak = own_memory(), Peak()
    started = time.perf_counter()
    with peak:
        network, _ = load_released(file)
    seconds = time.perf_counter() - started
    kept = sum(weight.nbytes for weight in network.state_dict().values())
    return {"seconds": seconds, "peak": peak.highest - before, "kept": kept}


def own_memory() -> int:
    """Return the bytes that only this process holds; pages of files, which the system may drop, are not among them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


class Peak:
    """The most memory this process held while the block ran, looked at every few milliseconds."""

    def __init__(self, look: Callable[[], int] = own_memory) -> None:
        self.highest = 0
        self._look = look
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._watch.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watch.join()
        self.highest = max(self.highest, self._look())

    def _run(self) -> None:
        while not self._done.wait(0.005):
            self.highest = max(self.highest, self._look())


def table(rows: list[dict[str, Any]]) -> str:
    """Lay out the measurements as Markdown."""
    lines = [
        "| file | size | kept in memory | peak | peak / kept | reading its bytes | loading | loading / reading |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r['name']} | {r['bytes'] / 1e9:.2f} GB | {r['kept'] / 1e9:.2f} GB | {r['peak'] / 1e9:.2f} GB "
        f"| {r['memory']:.2f} | {r['reading']:.2f} s | {r['seconds']:.2f} s | {r['time']:.2f} |"
        for r in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
