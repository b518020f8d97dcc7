"""Disks that fill up or cannot be written, and two commands that want one folder."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from muse_cli.main import main
from muse_core.files import HOLD
from tests.faults.commands import FORKS, PATIENCE_S, say_into
from tests.faults.disks import SmallDisk, read_only
from tests.faults.scene import Scene, error_in, said_in, steps_of
from tests.faults.trial import Shown, again

Codes = dict[str, int]


def in_a_process(work: Callable[[], Codes], folder: Path) -> tuple[Codes, Path]:
    """Do something where mounts and limits reach nobody else; its exit codes, and what it said."""
    said = said_in(folder)
    process = FORKS.Process(target=_told, args=(work, folder / "codes.json", said))
    process.start()
    process.join(PATIENCE_S)
    assert process.exitcode == 0, said.read_text()
    codes: Codes = json.loads((folder / "codes.json").read_text())
    return codes, said


def _told(work: Callable[[], Codes], codes: Path, said: Path) -> None:
    say_into(said)
    codes.write_text(json.dumps(work()))
    sys.exit(0)


def full_while_saving(scene: Scene, rng: np.random.Generator) -> Shown | None:
    folder, whole = scene.folder(), scene.whole()
    saved = [sum(file.stat().st_size for file in one.iterdir()) for one in (whole / "checkpoints").glob("step-*")]
    size = 60_000 + int(rng.uniform(0.05, 0.95) * sum(saved))
    largest = int(rng.uniform(0.05, 0.95) * max(file.stat().st_size for file in whole.rglob("*.safetensors")))
    codes, said = in_a_process(partial(_save, scene.config(), folder, size, largest), folder)
    if codes["first"] == 0:
        return None
    problem = scene.difference(folder / "run") if codes["again"] == 0 else error_in(said, folder)
    problem = problem or ("half a checkpoint is left" if codes["left"] else "")
    lost = again(codes["told"], codes["saved"])
    return Shown(error_in(folder / "first.txt", folder), codes["first"], lost, codes["told"] - codes["saved"], problem)


def _save(config: Path, folder: Path, size: int, largest: int) -> Codes:
    from muse_core.runs import RunFolder

    disk = SmallDisk(folder / "disk", size, largest)
    run = disk.folder / "run"
    say_into(folder / "first.txt")
    first = main(["train", "--config", str(config), "--out", str(run)])
    say_into(folder / "again.txt")
    disk.make_room()
    told, saved = steps_of(RunFolder(run))
    left = len(list(run.glob("checkpoints/.step-*")))
    again = main(["train", "--resume", str(run)]) if first else 0
    shutil.copytree(run, folder / "run")
    return {"first": first, "again": again, "told": told, "saved": saved, "left": left}


def full_while_sharding(scene: Scene, rng: np.random.Generator) -> Shown | None:
    folder, pictures = scene.folder(), scene.pictures
    command = ["shard", str(pictures), "--per-shard", "5", "--workers", str(rng.integers(1, 3)), "--out"]
    whole = sum(path.stat().st_size for path in pictures.iterdir())
    size, largest = 30_000 + int(rng.uniform(0.1, 1.0) * whole), int(rng.uniform(0.1, 0.9) * whole / 4)
    codes, said = in_a_process(partial(_shard, command, folder, size, largest), folder)
    if codes["first"] == 0:
        return None
    same = codes["again"] == 0 and contents(folder / "out") == contents(scene.sharded)
    problem = "" if same else f"other shards: {error_in(said, folder)}"
    return Shown(error_in(folder / "first.txt", folder), codes["first"], "nothing", problem=problem)


def _shard(command: list[str], folder: Path, size: int, largest: int) -> Codes:
    disk = SmallDisk(folder / "disk", size, largest)
    out = disk.folder / "out"
    say_into(folder / "first.txt")
    first = main([*command, str(out)])
    say_into(folder / "again.txt")
    disk.make_room()
    begun = (disk.folder / ".out.partial").exists()
    again = main([*command, str(out), *(["--resume"] if begun else [])])
    shutil.copytree(out, folder / "out")
    return {"first": first, "again": again}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def full_while_caching(scene: Scene, rng: np.random.Generator) -> Shown | None:
    folder = scene.folder()
    command = ["probe", "knn", "tiny", "--data", "demo:train:48", "--val-data", "demo:val:12", "--k", "1"]
    size = int(rng.uniform(4096, 12_000)) // 4096 * 4096
    codes, said = in_a_process(partial(_cache, command, folder, size), folder)
    found, expected = (json.loads((folder / name).read_text())["metrics"] for name in ("small.json", "roomy.json"))
    problem = "" if found == expected else f"other scores: {found}, expected {expected}"
    problem = problem or ("a torn file is left" if codes["torn"] else "")
    return Shown(
        error_in(folder / "first.txt", folder), codes["first"], "the cache: features are read anew", 0, problem
    )


def _cache(command: list[str], folder: Path, size: int) -> Codes:
    disk = SmallDisk(folder / "disk", size, size)
    os.environ["MUSE_CACHE"] = str(disk.folder)
    say_into(folder / "first.txt")
    first = main([*command, "--out", str(folder / "small.json")])
    torn = sum(path.name.endswith(".tmp") for path in disk.folder.rglob("*"))
    disk.make_room()
    say_into(folder / "again.txt")
    main([*command, "--out", str(folder / "roomy.json")])
    return {"first": first, "torn": torn}


def cannot_write(what: str, scene: Scene, rng: np.random.Generator) -> Shown | None:
    folder = scene.folder()
    codes, _ = in_a_process(partial(_read_only, what, scene.config(), str(scene.pictures), folder), folder)
    problem = f"{codes['written']} files were written" if codes["written"] else ""
    return Shown(error_in(folder / "first.txt", folder), codes["first"], "nothing", 0, problem)


def _read_only(what: str, config: Path, pictures: str, folder: Path) -> Codes:
    closed = folder / "closed"
    closed.mkdir()
    read_only(closed)
    say_into(folder / "first.txt")
    out = str(closed / "out")
    command = {
        "train": ["train", "--config", str(config), "--out", out],
        "into": ["train", "--config", str(config), "--out", str(closed)],
        "shard": ["shard", pictures, "--out", out],
        "eval": ["eval", "tiny", "--data", "demo:val", "--limit", "2", "--metric", "psnr", "--out", f"{out}.json"],
    }[what]
    return {"first": main(command), "written": len(list(closed.iterdir()))}


CANNOT_WRITE = tuple(partial(cannot_write, what) for what in ("train", "into", "shard", "eval"))


def two_at_once(scene: Scene, rng: np.random.Generator) -> Shown | None:
    folder = scene.folder()
    going_on = rng.random() < 0.5
    if going_on:
        begun = scene.train(folder)
        begun.wait_for_steps(1)
        if begun.kill() == "already over":
            return None
    both = []
    for _ in range(2):
        both.append(scene.resume(folder) if going_on else scene.train(folder))
        both[-1].said.touch()
        time.sleep(rng.uniform(0.0, 0.3))
    codes = [one.code() for one in both]
    if sorted(codes) != [0, 4]:
        problem = f"exit codes {codes}: " + "; ".join(error_in(one.said, folder) for one in both)
        return Shown("", max(codes), "", problem=problem)
    refused = both[codes.index(4)]
    if "is finished" in error_in(refused.said, folder):
        return None
    problem = scene.difference(folder / "run")
    return Shown(error_in(refused.said, folder).replace(HOLD, ""), 4, "nothing", 0, problem)
