"""CPU seconds that short commands take, by release 0.1.0 and by these sources: `python -m benchmarks.quick`.

Both run in turns on one machine, user and system time of the whole process, the least of several runs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.old.archive import ROOT, unpack

LINES = (
    "--help",
    "--version",
    "eval --help",
    "doctor",
    "eval tiny --data nowhere",
    "eval tiny --data demo:val:16 --metric psnr",
    "inspect checkpoint",
)
CHECKPOINT = ROOT / "muse_core" / "model" / "weights" / "tiny_checkpoint"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of which the least counts")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="muse-quick-") as scratch:
        old = unpack(Path(scratch) / "tree")
        (Path(scratch) / "checkpoint").symlink_to(CHECKPOINT)
        print("| command | 0.1.0, CPU s | now, CPU s | now / 0.1.0 |\n|---|---|---|---|")
        for line in LINES:
            pairs = [(cpu_seconds(old, line, scratch), cpu_seconds(ROOT, line, scratch)) for _ in range(runs)]
            before, now = (min(column) for column in zip(*pairs, strict=True))
            print(f"| `muse {line}` | {before:.2f} | {now:.2f} | {now / before:.2f} |", flush=True)


def cpu_seconds(tree: Path, line: str, folder: str) -> float:
    """Return the CPU seconds of one command, run with one thread by the sources in a tree."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MUSE_")}
    own = {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "MUSE_CACHE": f"{folder}/cache", "MUSE_OFFLINE": "1"}
    command = [sys.executable, "-m", "muse_cli", *line.split()]
    process = subprocess.Popen(
        command, cwd=folder, env={**kept, **own}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0  # it was waited for above
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
