"""A folder of images is data like its shards, and says what it lacks where labels or captions are needed."""

from pathlib import Path

import pytest

from muse_core.latents import units
from muse_core.latents.members import read_latents
from tests.cli.conftest import Muse
from tests.data.conftest import picture
from tests.data.test_folders import labelled, pictures
from tests.data.test_shard_tree import put


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six images of two classes, and what desktops leave there."""
    return put(tmp_path / "photos", {**labelled({"cat": 3, "dog": 3}), "cat/._000.png": b"x", "dog/note.md": "x"})


def test_inspect_ends_with_the_command_that_trains_on_it(muse: Muse, photos: Path) -> None:
    ended = muse("inspect", "photos")
    assert ended.code == 0, ended.err
    assert "files     6, 0.0 MiB" in ended.out
    assert "classes   2, 3 to 3 samples each" in ended.out
    assert "training  stage 1 alone, as the others learn from captions: 32 images at once through 4 lanes" in ended.out
    assert "note      1 x passed over: not a picture by its name (first: dog/note.md)" in ended.out
    assert ended.out.splitlines()[-2:] == ["nothing is wrong", "next: muse train --stage 1 --size tiny --data photos"]
    found = muse("inspect", "photos", "--json", "--readers", "4").json
    assert (found["kind"], found["files"], found["class_names"]) == ("images", 6, ["cat", "dog"])
    assert found["readers"] == {"asked": 4, "fed": 4, "files_each": [1, 2], "samples_each": [1, 2]}


def test_inspect_names_damage_and_no_next_command(muse: Muse, photos: Path) -> None:
    put(photos, {"cat/bad.jpg": b"text"})
    ended = muse("inspect", "photos")
    assert ended.code == 8
    assert "1 x image cannot be opened (first: cat/bad.jpg)" in ended.err
    assert "next:" not in ended.out


def test_inspect_draws_a_sheet_of_it(muse: Muse, photos: Path, tmp_path: Path) -> None:
    assert muse("inspect", "photos", "--sample", "4").code == 0
    assert (tmp_path / "photos-samples.png").is_file()


def test_captions_beside_images_open_all_stages(muse: Muse, tmp_path: Path) -> None:
    put(tmp_path / "my photos", {**pictures(2), "000.txt": "a cat", "001.txt": "a dog"})
    ended = muse("inspect", "my photos")
    assert "next: muse train --stage 1-3 --size tiny --data 'my photos'" in ended.out
    assert muse("train", "--stage", "1-3", "--size", "tiny", "--data", "my photos", "--dry-run").code == 0


def test_a_stage_that_needs_captions_names_the_folder(muse: Muse, photos: Path) -> None:
    ended = muse("train", "--stage", "2", "--size", "tiny", "--data", "photos", "--init", "none")
    assert ended.code == 4
    assert "0 of 6 images in photos have one" in ended.err


def test_a_probe_without_labels_names_the_folder(muse: Muse, tmp_path: Path) -> None:
    put(tmp_path / "flat", pictures(3))
    put(tmp_path / "other", pictures(3, first=40))
    ended = muse("probe", "knn", "tiny", "--data", "flat", "--val-data", "other")
    assert ended.code != 0
    assert "not one of the 3 samples of flat has a label" in ended.err


@pytest.mark.slow
def test_it_is_measured_probed_and_encoded_like_its_shards(
    muse: Muse, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert muse("shard", "photos", "--out", "shards").code == 0
    monkeypatch.setattr(units, "SCENES_EACH", 4)
    scores = [muse("eval", "tiny", "--data", data, "--json").json["metrics"] for data in ("photos", "shards")]
    assert scores[0] == scores[1]
    for data in ("photos", "shards"):
        ended = muse("infer", data, "--checkpoint", "tiny", "--latents", f"latents-{data}")
        assert ended.code == 0, ended.err
    mine, theirs = (list(read_latents(tmp_path / f"latents-{data}")) for data in ("photos", "shards"))
    assert len(list((tmp_path / "latents-photos").glob("*.tar"))) == 2
    for one, other in zip(mine, theirs, strict=True):
        assert (one.z == other.z).all()
        assert one.label == other.label
    put(tmp_path / "val", {f"{name}/1.png": picture(60 + n) for n, name in enumerate(("dog", "bee", "cat"))})
    ended = muse("probe", "knn", "tiny", "--data", "photos", "--val-data", "val", "--k", "1")
    assert "bee" in ended.out + ended.err
