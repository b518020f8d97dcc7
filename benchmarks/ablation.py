"""Which of the paper's defaults tiny should keep: one factor at a time, over seeds, by a rule fixed beforehand.

    python benchmarks/ablation.py RESULTS [--seeds 3] [--steps-scale 1] [--images 500] [--longer RESULTS]

Everything is kept under RESULTS and made once: a stage that was stopped goes on from its checkpoint, a finished stage
or measurement is never repeated. The command may be started several times at once; the processes share the work. All
configurations have the same data, steps, parts and measurements. Writes docs/ablation.md.
"""

import argparse
import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ablation_factors import CONFIGURATIONS, QUANTITIES, Configuration
from ablation_page import Longer, write_page
from ablation_rule import Results

from muse_core import api
from muse_core.data.source import open_source
from muse_core.data.writer import write_scene_shards
from muse_core.errors import MuseError
from muse_core.evaluation.attention import measure as measure_topology
from muse_core.evaluation.features import ProbeData
from muse_core.evaluation.linear import measure as measure_linear
from muse_core.evaluation.options import ConflictOptions, LinearOptions, TopologyOptions
from muse_core.evaluation.protocol import Scores
from muse_core.evaluation.reading import EvalData
from muse_core.evaluation.segmentation import SegmentOptions, segment
from muse_core.evaluation.spec import ProbeContext
from muse_core.evaluation.zeroshot import zeroshot
from muse_core.files import read_json, write_json
from muse_core.model.load import late_teacher
from muse_core.runs import RunFolder, is_run
from muse_core.settings.presets import STAGES, preset
from muse_core.stages.conflict import measure as measure_conflict
from muse_core.stages.start import resume

SIDE = 64
UNTOUCHED = "tiny-encoder"
SHARDS = 16
METRICS = ("psnr", "ssim", "fd-tiny-clip")


@dataclass(frozen=True)
class Scale:
    """How much of everything; written down with the results, which never mix two of these.

    steps: of the preset's, as a factor. decoded: images of each batch that are decoded, None for the preset's. train:
    scenes trained on. images: held-out scenes measured on. probe: training scenes that linear probe and segmentation
    head learn from. epochs: passes of the segmentation head.
    """

    steps: float
    decoded: int | None
    train: int
    images: int
    probe: int
    epochs: int

    def steps_of(self, stage: int) -> int:
        """Return the steps of a stage."""
        return max(2, round(self.steps * int(preset("tiny", stage)["training"]["steps"])))


@dataclass(frozen=True)
class Place:
    """Where results lie."""

    root: Path
    scale: Scale

    @property
    def train(self) -> Path:
        """Training shards."""
        return self.root / "data" / "train"

    @property
    def val(self) -> Path:
        """Held-out shards."""
        return self.root / "data" / "val"

    def run(self, name: str, seed: int) -> Path:
        """Folder of one configuration and seed."""
        return self.root / "runs" / f"{name}-{seed}"

    def read(self, shards: Path, split: str, limit: int | None = None) -> EvalData:
        """Read shards for measuring."""
        return EvalData(open_source(str(shards), split=split, size=SIDE), size=SIDE, limit=limit)


@contextmanager
def claimed(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Hold a folder against other processes of this command; the system lets go of it when a process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def prepare(place: Place) -> None:
    """Write the scenes that all configurations share, and hold the results to one scale.

    Raises:
        MuseError: the results were begun at another scale.
    """
    with claimed(place.root, wait=True):
        kept, wanted = place.root / "scale.json", asdict(place.scale)
        if kept.exists() and read_json(kept) != wanted:
            raise MuseError(
                f"{place.root} was begun with {read_json(kept)}", hint="the same options, or another folder"
            )
        write_json(kept, wanted)
        for split, count, folder in (("train", place.scale.train, place.train), ("val", place.scale.images, place.val)):
            if not folder.exists():
                write_scene_shards(split, count, folder, per_shard=-(-count // SHARDS))


def train(place: Place, one: Configuration, seed: int, stage: int) -> None:
    """Train a stage, go on with one that was stopped, or leave a finished one as it is."""
    folder = place.run(one.name, seed) / f"stage{stage}"
    if is_run(folder):
        run = RunFolder.open(folder)
        if run.status.state != "finished":
            resume(run)
        return
    shutil.rmtree(folder, ignore_errors=True)  # stopped before it was a run
    steps = place.scale.steps_of(stage)
    overrides = {
        "run.seed": seed,
        "run.init": str(place.run(one.name, seed) / f"stage{stage - 1}") if stage > 1 else "none",
        "training.steps": steps,
        "training.threads": 1,
        "training.devices": "cpu",
        "training.save_every": -(-steps // 3),
        "training.eval_every": steps,
        "training.sample_every": steps,
        "training.keep": 1,
        "training.track": ("none",),
        "data.val": str(place.val),
        "data.workers": 0,
        "training.reconstruct": place.scale.decoded,  # None leaves it to the preset
        **one.settings(stage),
    }
    api.train(stage, "tiny", str(place.train), str(folder), overrides)


def measures(place: Place, one: Configuration | None, tokenizer: Any) -> dict[str, Callable[[], Scores]]:
    """Return what is measured of a finished tokenizer, or of the untouched encoder, by name."""
    validation, learning = place.read(place.val, "val"), place.read(place.train, "train", place.scale.probe)
    context = ProbeContext(
        tokenizer=tokenizer,
        validation=ProbeData(tokenizer, validation),
        train=ProbeData(tokenizer, learning),
        teacher=late_teacher(tokenizer),
    )
    linear = LinearOptions(epochs=20, least_steps=200, rates=(0.1, 0.3, 1.0), decays=(1e-3, 1e-2))
    head = SegmentOptions(epochs=place.scale.epochs, rate=0.1)
    found: dict[str, Callable[[], Scores]] = {
        "zeroshot": partial(zeroshot, tokenizer, validation),
        "linear": partial(measure_linear, context, linear),
        "segment": lambda: segment(tokenizer, learning, validation, head).scores,
    }
    if one:
        found["eval"] = partial(api.evaluate, tokenizer, str(place.val), METRICS)
        found["topology"] = partial(measure_topology, context, TopologyOptions())
    if one and one.conflict:
        found["conflict"] = partial(
            measure_conflict, context, ConflictOptions(batches=3, batch_size=16, routing=one.routing)
        )
    return found


def measure(place: Place, folder: Path, one: Configuration | None, where: str | Path) -> None:
    """Take the measurements that are missing."""
    tokenizer = api.load_tokenizer(where)
    for name, take in measures(place, one, tokenizer).items():
        kept = folder / "scores" / f"{name}.json"
        if not kept.exists():
            take().save(kept)


def finish(place: Place, one: Configuration, seed: int) -> None:
    """Train and measure one configuration with one seed, as far as that was not done before."""
    folder = place.run(one.name, seed)
    for stage in STAGES:
        train(place, one, seed, stage)
    measure(place, folder, one, folder / "stage3")
    write_json(folder / "finished.json", {"finished": True})


def is_finished(place: Place, name: str, seed: int) -> bool:
    """Say whether nothing of a run is missing."""
    return (place.run(name, seed) / "finished.json").exists()


def collect(place: Place, seeds: int) -> tuple[Results, dict[str, dict[int, Any]], dict[str, float]]:
    """Read the finished runs: their numbers, what the gradient meter found, and the untouched encoder's numbers."""
    runs: dict[str, dict[int, Mapping[str, float]]] = {}
    conflict: dict[str, dict[int, Any]] = {}
    for one in CONFIGURATIONS:
        for seed in (seed for seed in range(seeds) if is_finished(place, one.name, seed)):
            scores = place.run(one.name, seed) / "scores"
            found = {part: read_json(scores / f"{part}.json") for part in {quantity.measure for quantity in QUANTITIES}}
            runs.setdefault(one.name, {})[seed] = {
                quantity.name: float(found[quantity.measure]["metrics"][quantity.metric]) for quantity in QUANTITIES
            }
            if one.conflict:
                conflict.setdefault(one.name, {})[seed] = read_json(scores / "conflict.json")
    untouched = place.root / "untouched" / "scores"
    raw = {
        quantity.name: float(read_json(untouched / f"{quantity.measure}.json")["metrics"][quantity.metric])
        for quantity in QUANTITIES
        if (untouched / f"{quantity.measure}.json").exists()
    }
    return Results(runs), conflict, raw


def longer_runs(root: Path, seeds: int) -> Longer:
    """Read what this command found elsewhere, with more of everything."""
    place = Place(root.absolute(), Scale(**read_json(root / "scale.json")))
    return Longer(collect(place, seeds)[0], place.scale)


def run_missing(place: Place, seeds: int, chosen: list[Configuration]) -> None:
    """Make every run that nobody has made or is making."""
    with claimed(place.root / "untouched") as mine:
        if mine:
            measure(place, place.root / "untouched", None, UNTOUCHED)
    main = [(one, seed) for seed in range(seeds) for one in chosen if one.kind == "factor" or one.name == "stress"]
    rest = [(one, seed) for seed in range(seeds) for one in chosen if (one, seed) not in main]
    for one, seed in main + rest:
        began = time.process_time()
        with claimed(place.run(one.name, seed)) as mine:
            if mine and not is_finished(place, one.name, seed):
                finish(place, one, seed)
                print(f"{one.name}, seed {seed}: {time.process_time() - began:.0f} processor seconds", flush=True)


def main() -> None:
    """Make what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps-scale", type=float, default=1.0, help="factor on the steps of the tiny presets")
    parser.add_argument("--decoded", type=int, help="images of each batch that are decoded; empty: as in the presets")
    parser.add_argument("--train-scenes", type=int, default=8_000)
    parser.add_argument("--images", type=int, default=500, help="held-out scenes")
    parser.add_argument("--probe-scenes", type=int, default=1_000)
    parser.add_argument("--probe-epochs", type=int, default=4, help="passes of the segmentation head")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[one.name for one in CONFIGURATIONS])
    parser.add_argument("--longer", type=Path, metavar="RESULTS", help="of longer runs, told beside these")
    parser.add_argument("--page", action="store_true", help="only write the page, of what is finished")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "ablation.md")
    options = parser.parse_args()
    scale = Scale(
        steps=options.steps_scale,
        decoded=options.decoded,
        train=options.train_scenes,
        images=options.images,
        probe=options.probe_scenes,
        epochs=options.probe_epochs,
    )
    place = Place(options.results.absolute(), scale)
    torch.set_num_threads(1)
    prepare(place)
    if not options.page:
        run_missing(place, options.seeds, [one for one in CONFIGURATIONS if one.name in (options.only or [one.name])])
    results, conflict, raw = collect(place, options.seeds)
    longer = longer_runs(options.longer, options.seeds) if options.longer else None
    write_page(options.out, results, conflict, raw, scale, options.seeds, longer)
    missing = sum(options.seeds - len(results.runs.get(one.name, {})) for one in CONFIGURATIONS)
    print(f"{options.out} written" + (f"; {missing} runs are not made" if missing else ""))


if __name__ == "__main__":
    main()
