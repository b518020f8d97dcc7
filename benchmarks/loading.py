"""Loading a checkpoint of the 1B size: how long, and in how much memory, beside reading its bytes.

`python -m benchmarks.loading` writes a random checkpoint in the released layout to a temporary folder, reads it once so
that its pages are cached, and then reads and loads it in turns, in one process per kind of file, imports excluded. Time
is taken by the clock and of the processor: other work on the machine stretches the one and hardly the other. Memory is
that of the first time. It prints the Markdown table that docs/loading.md shows.
"""

import argparse
import json
import math
import os
import statistics
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


FRESH = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""Large blocks come from the system and go back to it each time, as in a process that loads once."""


def main() -> None:
    """Measure, print the table, and end with 1 when a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of reading and loading, in turns")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(in_turns(Path(asked.measure), asked.rounds)))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(name, write(Path(folder), file), asked.rounds) for name, file in FILES.items()]
    print(table(rows))
    if any(row["memory"] > LIMITS["memory"] or row["processor"] > LIMITS["time"] for row in rows):
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


def measure(name: str, file: Path, rounds: int) -> dict[str, Any]:
    """Compare loading with reading, in a process of its own: medians of the rounds, and the first one's memory."""
    command = [sys.executable, "-m", "benchmarks.loading", "--measure", str(file), "--rounds", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **FRESH})
    turns: list[dict[str, Any]] = json.loads(done.stdout)
    middle = {key: statistics.median(turn[key] for turn in turns) for key in TIMES}
    return {
        "name": name,
        "bytes": file.stat().st_size,
        **{key: turns[0][key] for key in ("kept", "peak")},
        "memory": turns[0]["peak"] / turns[0]["kept"],
        **middle,
        # Reading and loading of one round had the same neighbours, so ratios are taken within rounds.
        "clock": statistics.median(turn["load"] / turn["read"] for turn in turns),
        "processor": statistics.median(turn["load_cpu"] / turn["read_cpu"] for turn in turns),
    }


TIMES = ("read", "load", "read_cpu", "load_cpu")


def in_turns(file: Path, rounds: int) -> list[dict[str, float]]:
    """Read and load a file in turns; nothing of one turn is kept for the next."""
    import muse_core.model.released  # noqa: F401 - imported before anything is measured

    read(file)  # the pages are cached from here on
    return [read(file) | load(file) for _ in range(rounds)]


def read(file: Path) -> dict[str, float]:
    """Read a file's bytes into memory."""
    clock, processor = time.perf_counter(), time.process_time()
    content = file.read_bytes()
    taken = {"read": time.perf_counter() - clock, "read_cpu": time.process_time() - processor}
    del content
    return taken


def load(file: Path) -> dict[str, float]:
    """Load a released checkpoint into a network that is ready to run."""
    from muse_core.model.released import load_released

    before, peak = own_memory(), Peak()
    clock, processor = time.perf_counter(), time.process_time()
    with peak:
        network, _ = load_released(file)
    taken = {"load": time.perf_counter() - clock, "load_cpu": time.process_time() - processor}
    kept = sum(weight.nbytes for weight in network.state_dict().values())
    return {**taken, "peak": peak.highest - before, "kept": kept}


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
    heads = ("file", "size", "kept in memory", "peak", "peak / kept")
    heads += tuple(f"{what}, {time}" for time in ("processor", "clock") for what in ("reading", "loading", "ratio"))
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for row in rows:
        sizes = [f"{row[key] / 1e9:.2f} GB" for key in ("bytes", "kept", "peak")]
        processor = [f"{row['read_cpu']:.2f} s", f"{row['load_cpu']:.2f} s", f"{row['processor']:.2f}"]
        ratio = f"{row['memory']:.2f}"
        clock = [f"{row['read']:.2f} s", f"{row['load']:.2f} s", f"{row['clock']:.2f}"]
        cells = [row["name"], *sizes, ratio, *processor, *clock]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
