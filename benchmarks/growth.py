"""What grows with the length of a run, with the number of shards, and with the number of runs in a report.

`python -m benchmarks.growth` trains a narrow network of stage 3 for 2,000 steps on one thread, starts it on 10 and on
10,000 shards, and writes the report of 1 and of 20 runs. It prints the Markdown tables that docs/growth.md shows.
Times are those of the processor, not of the clock, so that what else the machine does hardly shows.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from muse_core.data.shards import INDEX_NAME
from muse_core.data.source import open_source
from muse_core.data.writer import write_scene_shards
from muse_core.files import read_json, write_json
from muse_core.runs import RunFolder
from muse_core.settings.layers import resolve
from muse_core.settings.presets import preset
from muse_core.settings.train import TrainSettings
from muse_core.stages.plan import make_plan
from muse_core.stages.setup import build_reader
from muse_core.stages.start import train
from muse_core.training.task import Compute
from muse_core.viz.report import write_report
from muse_core.viz.runview import read_run

NARROW = {
    "run.init": "none",
    "model.width": 32,
    "model.resolution": 32,
    "model.heads": 4,
    "training.batch_size": 2,
    "training.reconstruct": 1,
    "training.save_every": 500,
    "training.log_every": 10,
    "training.eval_every": 500,
    "training.sample_every": 500,
    "training.threads": 1,
    "training.devices": "cpu",
    "losses.adversarial_start": 1,
    "data.lanes": 2,
    "data.workers": 0,
}
SAMPLES = 6
WINDOW, FIRST = 100, 10


@dataclass
class Watch:
    """Progress that notes the processor's time and the resident memory after every step."""

    seconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Leave it."""

    def warn(self, text: str) -> None:
        """Tell what should not be missed."""
        print(text)

    @contextmanager
    def track(self, what: str, total: int, unit: str = "") -> Iterator["Watch"]:
        """Follow the steps of a stage."""
        yield self

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Note the time and memory of a step."""
        if amount:
            self.seconds.append(time.process_time())
            self.memory.append(resident())


def main() -> None:
    """Measure all three and print them; end with 1 when something that should be flat is not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=20)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        flat = steps_table(folder, asked.steps)
        shards_table(folder, asked.shards)
        report_table(folder, asked.runs)
    if not flat:
        raise SystemExit(1)


def steps_table(folder: Path, steps: int) -> bool:
    """Train for many steps and compare the first hundred with the last; say whether they are alike."""
    write_scene_shards("train", 4 * SAMPLES, folder / "shards", per_shard=SAMPLES, size=32)
    write_scene_shards("val", SAMPLES, folder / "val", per_shard=SAMPLES, size=32)
    watch = Watch()
    train(narrow(folder / "shards", {"training.steps": steps, "run.out": str(folder / "run")}), {}, watch)
    took = [1000 * (late - early) for early, late in zip(watch.seconds, watch.seconds[1:], strict=False)]
    windows = {"early": slice(FIRST, FIRST + WINDOW), "late": slice(len(took) - WINDOW, None)}
    time_of = {name: statistics.median(took[window]) for name, window in windows.items()}
    memory_of = {name: statistics.median(watch.memory[window]) / 2**20 for name, window in windows.items()}
    print(f"\n| | steps {FIRST} to {FIRST + WINDOW} | steps {steps - WINDOW} to {steps} | late / early |")
    print("|---|---:|---:|---:|")
    for title, row in (("processor time of a step, ms", time_of), ("resident memory, MiB", memory_of)):
        print(f"| {title} | {row['early']:.1f} | {row['late']:.1f} | {row['late'] / row['early']:.3f} |")
    return max(row["late"] / row["early"] for row in (time_of, memory_of)) < 1.1


def shards_table(folder: Path, most: int) -> None:
    """Open few and many shards, plan a run on them, and read its first batch."""
    print("\n| shards | open them, s | plan a run, s | first batch, s | resident memory, MiB |")
    print("|---:|---:|---:|---:|---:|")
    for count in (10, most):
        where = many_shards(folder, count)
        settings = narrow(where, {})
        opened = seconds(partial(open_source, str(where), size=32))
        planned = seconds(partial(make_plan, settings))
        first = seconds(partial(first_batch, settings))
        print(f"| {count:,} | {opened:.3f} | {planned:.3f} | {first:.3f} | {resident() / 2**20:.0f} |")


def _report(runs: list[Path], page: Path) -> None:
    write_report([read_run(run) for run in runs], page, overwrite=True)


def report_table(folder: Path, most: int) -> None:
    """Write the report of one run and of several."""
    print("\n| runs | report, s | bytes of the page |")
    print("|---:|---:|---:|")
    runs = [Path(shutil.copytree(folder / "run", folder / "runs" / str(number))) for number in range(most)]
    for count in (1, most):
        page = folder / f"{count}.html"
        took = seconds(partial(_report, runs[:count], page))
        print(f"| {count} | {took:.2f} | {page.stat().st_size:,} |")
    lines = len(RunFolder(runs[0]).metrics())
    print(f"\nEach run has {lines} lines of metrics.")


def narrow(shards: Path, changes: dict[str, Any]) -> TrainSettings:
    """Settings of stage 3, tiny and made narrow, with every loss and the discriminator."""
    flags = {**NARROW, "run.stage": 3, "run.size": "tiny", "data.train": str(shards), **changes}
    flags["data.val"] = str(shards.parent / "val")
    return resolve(TrainSettings, command="train", flags=flags, preset=preset("tiny", 3), environ={})[0]


def many_shards(folder: Path, count: int) -> Path:
    """Make many shards of one: links to the same bytes, and an index that lists them all."""
    one = folder / "shards" / "000000.tar"
    index = read_json(folder / "shards" / INDEX_NAME)
    where = folder / f"shards{count}"
    where.mkdir()
    for number in range(count):
        os.link(one, where / f"{number:06d}.tar")
    entries = [{**index["shards"][0], "name": f"{number:06d}.tar"} for number in range(count)]
    write_json(where / INDEX_NAME, {**index, "count": count * SAMPLES, "shards": entries})
    return where


def first_batch(settings: TrainSettings) -> None:
    """Read what the first step would see."""
    next(build_reader(settings, Compute(torch.device("cpu")))({}))


def seconds(work: Callable[[], object]) -> float:
    """The processor's time for some work."""
    before = time.process_time()
    work()
    return time.process_time() - before


def resident() -> int:
    """Bytes of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
