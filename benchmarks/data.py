"""What shards cost: writing beside plain `tar`, reading beside bare decoding, and memory as files grow in number.

    python benchmarks/data.py write [--images 3000] [--kilobytes 110] [--repeats 5]
    python benchmarks/data.py read [--images 800] [--kilobytes 110] [--repeats 5]
    python benchmarks/data.py memory [--images 1000 10000 100000]

All prepare made pictures in a temporary folder (`--folder` says on which disk) and print a table in Markdown. What is
compared takes turns, sees a warm cache, and a table has the median of its rounds: of times, and of fractions, which are
those of one round each. Writing ends when the bytes are on the disk. The time to start Python is not counted.
"""

import argparse
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from muse_core.data.loader import Batches
from muse_core.data.sample import Sample, collate
from muse_core.data.sharding.options import ShardOptions
from muse_core.data.sharding.shard import shard
from muse_core.data.shards import ShardSource
from muse_core.data.transforms import Transform, train_transform

PER_FOLDER = 500
KINDS = 32
SIDE, BATCH, LANES = 256, 16, 8
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


def rounds(runs: Mapping[str, Callable[[], Run]], repeats: int) -> dict[str, list[Run]]:
    """Run everything in turns, so that what else the machine does disturbs all of it alike."""
    found: dict[str, list[Run]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            found[name].append(run())
    return found


def into_nothing(run: Callable[[Path], Run], out: Path) -> Run:
    """Write something, and remove it again."""
    found = run(out)
    shutil.rmtree(out) if out.is_dir() else out.unlink()
    return found


def fraction(of: Sequence[Run], one: Sequence[Run], what: Callable[[Run], float]) -> str:
    """Return how much less something took than another thing, as the median of the rounds."""
    return f"{statistics.median(what(a) / what(b) for a, b in zip(of, one, strict=True)):.2f}"


def usual(found: Sequence[Run], what: Callable[[Run], float]) -> float:
    """Return the median of the rounds."""
    return statistics.median(map(what, found))


def seconds(run: Run) -> float:
    """Return the time on the clock."""
    return run.seconds


def cpu(run: Run) -> float:
    """Return the time of all cores together."""
    return run.cpu


def write(folder: Path, images: int, kilobytes: float, repeats: int) -> list[str]:
    """Return the table of speeds of writing."""
    source, options = folder / "pictures", ShardOptions(per_shard=-(-images // LANES))  # enough shards for all workers
    make_pictures(source, images, kilobytes)
    runs = {"`tar`": lambda: into_nothing(lambda out: tar(source, out), folder / "plain.tar")}
    for workers in sorted({1, len(os.sched_getaffinity(0))}):
        runs[f"`muse shard --workers {workers}`"] = lambda workers=workers: into_nothing(  # type: ignore[misc]
            lambda out: spent(lambda: shard(str(source), str(out), options, workers=workers)), folder / "shards"
        )
    found = rounds(runs, repeats)
    plain = found["`tar`"]
    rows = [
        f"| {name} | {usual(one, seconds):.2f} | {usual(one, cpu):.2f} | {usual(one, cpu) / images * 1e3:.3f} ms |"
        f" {fraction(plain, one, cpu)} | {fraction(plain, one, seconds)} |"
        for name, one in found.items()
    ]
    size = plain[0].bytes / images / 1000
    return [
        f"{images:,} pictures of {size:.0f} kB on average, {repeats} rounds, load {os.getloadavg()[0]:.1f}:",
        "",
        "| writer | seconds | CPU seconds | CPU per picture | of `tar`, by CPU time | of `tar`, by the clock |",
        "|---|--:|--:|--:|--:|--:|",
        *rows,
    ]


class Window:
    """The middle of a picture as it is: no arithmetic, and all have one size."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Cut one sample."""
        top, left = ((side - self.size) // 2 for side in sample.image.shape[:2])
        return Sample(sample.key, sample.image[top : top + self.size, left : left + self.size])


def decoded(files: Sequence[Path]) -> Iterator[np.ndarray]:
    """Decode files as anybody would."""
    for file in files:
        with Image.open(file) as image:
            yield np.asarray(image.convert("RGB"))


def spent(work: Callable[[], object]) -> Run:
    """Measure something that ends its own processes."""
    users = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    begun, before = time.perf_counter(), [resource.getrusage(who) for who in users]
    work()
    wall, after = time.perf_counter() - begun, [resource.getrusage(who) for who in users]
    total = [sum(one.ru_utime + one.ru_stime for one in both) for both in (before, after)]
    return Run(wall, total[1] - total[0], 0.0, 0.0, 0)


def decode_only(files: Sequence[Path]) -> None:
    """Decode, and keep nothing."""
    for _ in decoded(files):
        pass


def read_samples(source: ShardSource, count: int) -> None:
    """Read one lane of shards."""
    for _ in islice(source.lane(0, 1, seed=0), count):
        pass


def batch_by_hand(files: Sequence[Path], transform: Transform) -> None:
    """Decode, transform and batch, with nothing around it."""
    rng = np.random.default_rng(0)
    for start in range(0, len(files), BATCH):
        collate([transform(Sample("", pixels), rng) for pixels in decoded(files[start : start + BATCH])])


def batch_together(files: Sequence[Path], transform: Transform, workers: int) -> None:
    """Do the same in several processes, which keep what they have."""
    with get_context("fork").Pool(workers) as pool:
        pool.starmap(batch_by_hand, [(files[number::workers], transform) for number in range(workers)], chunksize=1)
        pool.close()
        pool.join()


def read_batches(source: ShardSource, count: int, transform: Transform, workers: int) -> None:
    """Read batches as training does."""
    stream = iter(Batches(source, batch_size=BATCH, lanes=LANES, transform=transform, workers=workers))
    for _ in islice(stream, count // BATCH):
        pass
    stream.close()  # type: ignore[attr-defined]  # ends its processes


def read(folder: Path, images: int, kilobytes: float, repeats: int) -> list[str]:
    """Return the table of speeds of reading."""
    torch.set_num_threads(1)
    make_pictures(folder / "pictures", images, kilobytes)
    shard(str(folder / "pictures"), str(folder / "shards"), ShardOptions(per_shard=images // LANES), workers=1)
    files, source = sorted((folder / "pictures").rglob("*.jpg")), ShardSource(str(folder / "shards"))
    cores, crop, resize = len(os.sched_getaffinity(0)), Window(SIDE), train_transform(SIDE)
    pairs: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
        "decoded": (lambda: decode_only(files), lambda: read_samples(source, images)),
        "and cut, in batches": (lambda: batch_by_hand(files, crop), lambda: read_batches(source, images, crop, 0)),
        "and resized, in batches": (
            lambda: batch_by_hand(files, resize),
            lambda: read_batches(source, images, resize, 0),
        ),
        f"the same by {cores} processes": (
            lambda: batch_together(files, resize, cores),
            lambda: read_batches(source, images, resize, cores),
        ),
    }
    runs = {
        (name, side): lambda work=work: spent(work) for name, both in pairs.items() for side, work in enumerate(both)
    }
    found = rounds(runs, repeats)
    rows = []
    for name in pairs:
        bare, ours = found[name, 0], found[name, 1]
        each = [f"{usual(one, cpu) / images * 1e3:.2f} ms" for one in (bare, ours)]
        rows.append(
            f"| {name} | {each[0]} | {each[1]} | {fraction(bare, ours, cpu)} | {fraction(bare, ours, seconds)} |"
        )
    size = sum(file.stat().st_size for file in files) / images / 1000
    return [
        f"{images:,} pictures of {size:.0f} kB on average, {repeats} rounds, load {os.getloadavg()[0]:.1f}:",
        "",
        "| pictures | by hand, CPU each | from shards, CPU each | fraction, by CPU time | fraction, by the clock |",
        "|---|--:|--:|--:|--:|",
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
    for name, images in (("write", 3000), ("read", 800)):
        part = parts.add_parser(name)
        part.add_argument("--images", type=int, default=images)
        part.add_argument("--kilobytes", type=float, default=110, help="of a picture, about as in ImageNet")
        part.add_argument("--repeats", type=int, default=5)
    parts.add_parser("memory").add_argument("--images", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    typed = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=typed.folder) as name:
        folder = Path(name)
        if typed.part == "memory":
            lines = memory(folder, typed.images)
        else:
            compare = {"write": write, "read": read}[typed.part]
            lines = compare(folder, typed.images, typed.kilobytes, typed.repeats)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
