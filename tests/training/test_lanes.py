"""How many lanes a run reads through when nobody says it: what shards, batch, accumulation and processes all allow."""

import signal
from pathlib import Path
from typing import Any

import pytest

from muse_core.data.loader import LanePlan, chosen_lanes
from muse_core.data.mixing import MixedSource
from muse_core.data.source import SceneSource, open_source
from muse_core.data.writer import write_scene_shards
from muse_core.errors import MuseError
from muse_core.runs import RunFolder
from muse_core.stages.plan import make_plan
from muse_core.stages.start import resume
from muse_core.training.lanes import with_lanes
from tests.data.conftest import picture
from tests.data.test_shard_tree import put
from tests.training.mini import StopAt, equal, last_weights, lean, train_lean


class Feeds(SceneSource):
    """A source that feeds so many lanes."""

    def __init__(self, most: int | None) -> None:
        super().__init__()
        self.max_lanes = most  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("batch_size", "world", "shards", "lanes"),
    [
        *((32, 1, None, 8), (32, 1, 100, 8), (32, 1, 5, 4), (32, 1, 1, 1), (40, 1, 7, 5), (24, 1, 7, 6)),
        *((7, 1, 16, 7), (11, 1, 16, 1), (4, 1, 16, 4), (1, 1, 1, 1), (32, 2, 7, 4), (24, 3, 16, 6), (24, 3, 5, 3)),
        *((384, 16, 64, 16), (384, 12, 12, 12)),
    ],
)
def test_as_many_as_everything_allows(batch_size: int, world: int, shards: int | None, lanes: int) -> None:
    source = Feeds(shards)
    assert chosen_lanes(batch_size, world, source) == lanes
    assert LanePlan.of(batch_size, None, world, source) == LanePlan(batch_size, lanes, world)


def test_a_number_given_by_hand_is_obeyed_or_refused() -> None:
    assert LanePlan.of(32, 2, 1, Feeds(16)).lanes == 2
    with pytest.raises(MuseError, match="8 lanes need as many shards") as refused:
        LanePlan.of(32, 8, 1, Feeds(5))
    assert refused.value.hint == "--set data.lanes=4"


@pytest.mark.parametrize(
    ("batch_size", "world", "shards", "told", "hint"),
    [
        (32, 4, 3, "4 processes need as many shards; demo:train has 3", "--devices 3 at most; or write at least 4"),
        (30, 4, 16, "30 images that are read at once cannot be shared by 4 processes", "a multiple of the 4 processes"),
    ],
)
def test_processes_without_a_lane_are_refused_with_the_number(
    batch_size: int, world: int, shards: int, told: str, hint: str
) -> None:
    with pytest.raises(MuseError, match=told) as refused:
        LanePlan.of(batch_size, None, world, Feeds(shards))
    assert hint in str(refused.value.hint)


def shards(folder: Path, images: int, each: int) -> str:
    return str(write_scene_shards("train", images, folder, per_shard=each, size=32).folder)


def test_the_plan_says_what_was_chosen_and_of_few_images_how_often_they_come(tmp_path: Path) -> None:
    few = shards(tmp_path / "few", 5, 2)
    plan = make_plan(lean(1, {"data.lanes": None, "data.train": few, "training.batch_size": 16}))
    assert plan.missing == []
    assert plan.settings.data.lanes == 2
    assert f"lanes    2 in place of 8: 3 shards of {few}, 16 images at once and 1 process allow that many" in plan.lines
    assert "few      5 images for 16 at once: each is in every batch about 3 times" in plan.lines
    usual = make_plan(lean(1, {"data.lanes": None, "data.train": "demo"}))
    assert usual.settings.data.lanes == 8
    assert not [text for text in usual.lines if text.startswith(("lanes", "few"))]


def test_the_plan_says_that_images_are_files_and_what_is_faster(tmp_path: Path) -> None:
    where = images(tmp_path / "my photos", 20)
    plan = make_plan(lean(1, {"data.lanes": None, "data.train": where, "training.batch_size": 16}))
    assert plan.missing == []
    assert any(text.startswith(f"data     {where}: 20 image files, 2 or 3 in each of 8 lanes, ") for text in plan.lines)
    assert f"faster   muse shard '{where}' makes tars: one file to open instead of many" in plan.lines
    (missing,) = make_plan(lean(2, {"data.lanes": None, "data.train": where})).missing
    assert f"0 of 20 images in {where} have one" in missing


def test_of_a_mix_the_part_with_the_fewest_shards_decides(tmp_path: Path) -> None:
    many, few = shards(tmp_path / "many", 16, 2), shards(tmp_path / "few", 8, 4)
    mix = open_source(f"0.7 {many} + 0.3 {few}")
    assert isinstance(mix, MixedSource)
    assert LanePlan.of(8, None, 1, mix).lanes == 2
    plan = make_plan(lean(1, {"data.lanes": None, "data.train": f"{many} + {few}"}))
    assert any(text.startswith(f"lanes    2 in place of 8: 2 shards of {few}, ") for text in plan.lines)


def test_settings_without_data_or_with_a_number_stay_as_they_are() -> None:
    for settings in (lean(1, {"data.lanes": None, "data.train": None}), lean(1, {"data.lanes": 2})):
        assert with_lanes(settings, 1) is settings


def images(folder: Path, count: int) -> str:
    return str(put(folder, {f"{n}.png": picture(40 + n, 36) for n in range(count)}))


@pytest.mark.parametrize("kind", ["shards", "images", "mix"])
def test_a_run_keeps_its_lanes_and_goes_on_exactly(tmp_path: Path, kind: str) -> None:
    kinds = {"shards": shards(tmp_path / "s", 12, 3), "images": images(tmp_path / "i", 5)}
    data = kinds.get(kind, f"0.7 {kinds['images']} + 0.3 {kinds['shards']}")
    changes: dict[str, Any] = {"data.lanes": None, "data.train": data}
    whole = train_lean(1, tmp_path / "whole", changes)
    with pytest.raises(KeyboardInterrupt):
        train_lean(1, tmp_path / "run", changes, StopAt(2, signal.SIGTERM))
    run = RunFolder(tmp_path / "run")
    assert run.settings()["data"]["lanes"] == 4
    said = StopAt(99)
    again = resume(run, said)
    assert any("exactly, from step-0000002" in text for text in said.said)
    assert equal(last_weights(whole), last_weights(again))


def test_a_run_on_images_goes_on_where_they_moved_and_not_with_others(tmp_path: Path) -> None:
    where = images(tmp_path / "i", 5)
    with pytest.raises(KeyboardInterrupt):
        train_lean(1, tmp_path / "run", {"data.lanes": None, "data.train": where}, StopAt(1))
    run = RunFolder(tmp_path / "run")
    (tmp_path / "i" / "3.png").write_bytes(picture(43, 37))
    with pytest.raises(MuseError, match=r"its train data changed.*3\.png had"):
        resume(run)
    put(tmp_path / "i", {"3.png": picture(43, 36), "5.png": picture()})
    with pytest.raises(MuseError, match=r"5\.png is new"):
        resume(run)
    (tmp_path / "i" / "5.png").unlink()
    assert resume(run).steps == 4
