"""What writing shards costs: its speed beside plain `tar` on the same files, and its memory as files grow in number.

    python benchmarks/data.py write [--images 5000] [--kilobytes 110] [--repeats 3]
    python benchmarks/data.py memory [--images 1000 10000 100000]

Both prepare made pictures in a temporary folder (`--folder` says on which disk) and print a table in Markdown. `tar`
and `muse shard` see a warm cache, and both end when the bytes are on the disk. The time to start Python is not counted.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

PER_FOLDER = 500
KINDS = 32
CHILD = """
import json, resource, sys, time
from muse_core.data.sharding.shard import shard
begun = time.perf_counter()
start = resource.getrusage(resource.RUSAGE_SELF)
report = shard(sys.argv[1], sys.argv[2], workers=int(sys.argv[3]))
spent = time.perf_counter() - begun
own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
cpu = sum(one.ru_utime + one.ru_stime for one in (own, children)) - start.ru_utime - start.ru_stime
peak = max(own.ru_maxrss, children.ru_maxrss)
print(json.dumps([spent, cpu, peak / 1024, start.ru_maxrss / 1024, report.bytes]))
"""


class Run(NamedTuple):
    """One measurement: seconds, seconds of all cores together, peak memory of the largest process in MiB and the same
    before it began, bytes written."""

    seconds: float
    cpu: float
    mib: float
    before: float
    bytes: int


def jpeg(kilobytes: float, kind: int) -> bytes:
    """Return a jpg of about a size, different for each kind; at least as large as its header."""
    rng = np.random.default_rng(kind)
    side = max(8, int((kilobytes * 2300) ** 0.5))
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(stream, "JPEG", quality=50)
    return stream.getvalue()


def make_pictures(folder: Path, count: int, kilobytes: float) -> None:
    """Fill a folder with pictures, some hundred in each folder in it."""
    kinds = [jpeg(kilobytes * (0.5 + kind / KINDS), kind) for kind in range(KINDS)]
    for number in range(count):
        inside = folder / "all" / f"{number // PER_FOLDER:04d}"  # so deep that folders are not classes
        if number % PER_FOLDER == 0:
            inside.mkdir(parents=True)
        (inside / f"{number:06d}.jpg").write_bytes(kinds[number % KINDS])


def tar(source: Path, out: Path) -> Run:
    """Run plain tar, until its bytes are on the disk."""
    begun, before = time.perf_counter(), os.times()
    subprocess.run(["tar", "--sort=name", "-cf", str(out), "-C", str(source), "."], check=True)
    with out.open("rb") as stream:
        os.fsync(stream.fileno())
    seconds, after = time.perf_counter() - begun, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(seconds, cpu, 0.0, 0.0, out.stat().st_size)


def muse(source: Path, out: Path, workers: int) -> Run:
    """Run `muse shard` in a process of its own."""
    command = [sys.executable, "-c", CHILD, str(source), str(out), str(workers)]
    return Run(*json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def fastest(run: Callable[[Path], Run], out: Path, repeats: int) -> Run:
    """Repeat a run, each time into nothing; what disturbs a machine only makes it slower."""
    found = []
    for _ in range(repeats):
        found.append(run(out))
        shutil.rmtree(out) if out.is_dir() else out.unlink()
    return min(found)


def write(folder: Path, images: int, kilobytes: float, repeats: int) -> list[str]:
    """Return the table of speeds."""
    source = folder / "pictures"
    make_pictures(source, images, kilobytes)
    plain = fastest(lambda out: tar(source, out), folder / "plain.tar", repeats)
    runs = {"`tar`": plain}
    for workers in sorted({1, len(os.sched_getaffinity(0))}):
        run = fastest(lambda out, count=workers: muse(source, out, count), folder / "shards", repeats)
        runs[f"`muse shard --workers {workers}`"] = run
    rows = [
        f"| {name} | {run.seconds:.2f} | {run.cpu:.2f} | {images / run.seconds:,.0f} | "
        f"{run.bytes / run.seconds / 1e6:,.0f} | {plain.seconds / run.seconds:.2f} |"
        for name, run in runs.items()
    ]
    size = plain.bytes / images / 1000
    head = [f"{images:,} pictures of {size:.0f} kB on average, the fastest of {repeats}:", ""]
    return [
        *head,
        "| writer | seconds | CPU seconds | images/s | MB/s | of `tar` |",
        "|---|--:|--:|--:|--:|--:|",
        *rows,
    ]


def memory(folder: Path, counts: list[int]) -> list[str]:
    """Return the table of memory."""
    rows = []
    for count in counts:
        make_pictures(folder / str(count), count, 0.5)
        run = muse(folder / str(count), folder / "shards", 1)
        rows.append(f"| {count:,} | {run.before:.0f} | {run.mib:.0f} | {run.seconds:.1f} |")
        shutil.rmtree(folder / "shards")
    head = ["| images | MiB before | MiB at the peak | seconds |", "|--:|--:|--:|--:|"]
    return [*head, *rows]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="a disk to measure on")
    parts = parser.add_subparsers(dest="part", required=True)
    speed = parts.add_parser("write")
    speed.add_argument("--images", type=int, default=5000)
    speed.add_argument("--kilobytes", type=float, default=110, help="of a picture, about as in ImageNet")
    speed.add_argument("--repeats", type=int, default=3)
    parts.add_parser("memory").add_argument("--images", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    typed = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=typed.folder) as name:
        folder = Path(name)
        write_table = typed.part == "write"
        lines = (
            write(folder, typed.images, typed.kilobytes, typed.repeats) if write_table else memory(folder, typed.images)
        )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
