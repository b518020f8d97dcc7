"""The main road, as a stranger walks it in an empty folder: every "next:" line is typed as it was printed."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

from muse_core.runs import RunFolder
from tests.cli.conftest import Ended, Muse, clean as clean, muse as muse

PHOTOGRAPHS = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg")
SHORT = ("--steps", "2", "--batch-size", "8", "--set", "training.reconstruct=4")


def photographs(folder: Path, count: int, *, captions: bool = False, classes: bool = False) -> Path:
    """Write crops of the photographs that scikit-image ships."""
    rng, source = np.random.default_rng(0), Path(skimage.__file__).parent / "data"
    for number in range(count):
        name = PHOTOGRAPHS[number % len(PHOTOGRAPHS)]
        with Image.open(source / name) as opened:
            side = int(rng.integers(64, 128))
            left, top = (int(rng.integers(length - side)) for length in opened.size)
            crop = opened.convert("RGB").crop((left, top, left + side, top + side))
        place = folder / name.partition(".")[0] if classes else folder
        place.mkdir(parents=True, exist_ok=True)
        crop.save(place / f"{number:04d}.jpg")
        if captions:
            (place / f"{number:04d}.txt").write_text(f"part {number} of the {name.partition('.')[0]}")
    return folder


def succeeded(ended: Ended) -> Ended:
    assert ended.code == 0, ended.err
    return ended


def following(ended: Ended) -> list[str]:
    """What the last line says comes next, as it would be typed."""
    (line,) = [line for line in ended.out.splitlines() if line.startswith("next: ")]
    program, *arguments = shlex.split(line.removeprefix("next: "))
    assert program == "muse"
    return arguments


def runs() -> Iterator[RunFolder]:
    return (RunFolder(path) for path in sorted(Path("runs").iterdir()) if (path / "config.yaml").is_file())


@pytest.mark.slow
@pytest.mark.parametrize(("count", "tars", "lanes"), [(1, 1, 1), (5, 1, 1), (20, 2, 2), (160, 16, 8), (1000, 16, 8)])
def test_from_pictures_to_scores_by_what_each_command_says_comes_next(
    muse: Muse, count: int, tars: int, lanes: int
) -> None:
    photographs(Path("my photos"), count, captions=True)
    sharded = succeeded(muse("shard", "my photos"))
    assert len(list(Path("my photos-shards").glob("*.tar"))) == tars
    inspected = succeeded(muse(*following(sharded)))
    command = following(inspected)
    assert command[:5] == ["train", "--stage", "1-3", "--size", "tiny"]
    succeeded(muse(*command, "--steps", "1"))  # with the batch that the size has
    assert [run.settings()["data"]["lanes"] for run in runs()] == [lanes] * 3
    measure = ("--metric", "psnr", "--limit", "40", "--json")
    scores = succeeded(muse("eval", "--data", "my photos-shards", *measure)).json
    assert scores["counts"]["seen"] == min(count, 40)
    plain = succeeded(muse("eval", "--data", "my photos", *measure)).json
    assert plain["metrics"] == scores["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 5, 20, 160])
def test_the_same_without_shards(muse: Muse, count: int) -> None:
    photographs(Path("photos"), count, classes=count > 4)
    command = following(succeeded(muse("inspect", "photos/")))
    assert command == ["train", "--stage", "1", "--size", "tiny", "--data", "photos/"]
    succeeded(muse(*command, *SHORT))
    (run,) = runs()
    assert run.settings()["data"]["lanes"] == max(lanes for lanes in (1, 2, 4, 8) if lanes <= count)
    assert succeeded(muse("eval", "--data", "photos/", "--json")).json["counts"]["seen"] == count
    refused = muse("train", "--stage", "2", "--size", "tiny", "--data", "photos/", *SHORT)
    assert refused.code == 4
    assert f"0 of {count} image" in refused.err
    assert "photos/ have one" in refused.err


@pytest.mark.slow
def test_a_split_is_trained_on_and_measured_with_its_other_half(muse: Muse) -> None:
    photographs(Path("photos"), 60, captions=True)
    sharded = succeeded(muse("shard", "photos", "--split", "train=0.7,val=0.3", "--out", "shards"))
    command = following(succeeded(muse(*following(sharded))))
    assert command[-4:] == ["--data", "shards", "--val-data", "shards"]
    succeeded(muse(*command, *SHORT))
    first, *_ = runs()
    assert first.settings()["data"]["lanes"] == 4
    recorded = json.loads((first.path / "identity.json").read_text())
    count = {split: len(recorded["inputs"][split][0]["files"]) for split in ("train", "val")}
    assert count == {split: len(list(Path("shards", split).glob("*.tar"))) for split in ("train", "val")}
