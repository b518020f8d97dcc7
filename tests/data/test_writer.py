"""Written shards are deterministic, complete or absent, and readable by anything that reads tars."""

import hashlib
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset

from muse_core.data.sample import Sample
from muse_core.data.scenes import CLASSES, scene_at
from muse_core.data.shards import ShardSource
from muse_core.data.writer import write_scene_shards, write_shards
from muse_core.errors import MuseError


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_samples_give_the_same_bytes_whatever_was_written_first(tmp_path: Path) -> None:
    first = write_scene_shards("val", 7, tmp_path / "a", per_shard=3, size=32)
    second = write_scene_shards("val", 7, tmp_path / "b", per_shard=3, size=32)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert [shard.count for shard in first.shards] == [3, 3, 1]
    assert first.shards == second.shards
    assert first.count == 7


def test_the_index_describes_the_shards(tmp_path: Path) -> None:
    write_scene_shards("val", 5, tmp_path / "a", per_shard=3, size=32)
    index = json.loads((tmp_path / "a" / "index.json").read_text())
    assert (index["count"], index["fields"]) == (5, ["cls", "json", "png", "seg.png", "txt"])
    assert index["classes"] == [one.name for one in CLASSES]
    for shard in index["shards"]:
        content = (tmp_path / "a" / shard["name"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (shard["bytes"], shard["sha256"])


def test_members_are_numbered_sorted_and_without_owner_or_time(tmp_path: Path) -> None:
    write_scene_shards("val", 4, tmp_path / "a", per_shard=2, size=32)
    with tarfile.open(tmp_path / "a" / "000001.tar") as tar:
        members = tar.getmembers()
    suffixes = ["cls", "json", "png", "seg.png", "txt"]
    assert [member.name for member in members] == [f"{n:08d}.{suffix}" for n in (2, 3) for suffix in suffixes]
    assert {(one.mtime, one.uid, one.gid, one.uname, one.gname, one.mode) for one in members} == {
        (0, 0, 0, "", "", 0o644)
    }


def test_what_was_written_is_read_back_unchanged(tmp_path: Path) -> None:
    write_scene_shards("ood", 3, tmp_path / "a", size=32)
    for index, sample in enumerate(ShardSource(str(tmp_path / "a")).once()):
        scene = scene_at("ood", index, 32)
        assert isinstance(sample, Sample)
        assert sample.mask is not None
        np.testing.assert_array_equal(sample.image, scene.image)
        np.testing.assert_array_equal(sample.mask, scene.class_mask())
        assert (sample.caption, sample.label) == (scene.caption, scene.label)


def test_webdataset_reads_them(tmp_path: Path) -> None:
    write_scene_shards("val", 3, tmp_path / "a", size=32)
    found = list(webdataset.WebDataset(str(tmp_path / "a" / "000000.tar"), shardshuffle=False))
    assert [one["__key__"] for one in found] == [f"{n:08d}" for n in range(3)]
    assert found[0]["txt"].decode() == scene_at("val", 0, 32).caption


def test_given_members_are_stored_untouched(tmp_path: Path) -> None:
    write_shards([{"__key__": "x", "jpg": b"\xff\xd8bytes", "txt": "café"}], tmp_path / "a")
    with tarfile.open(tmp_path / "a" / "000000.tar") as tar:
        stored = {one.name: tar.extractfile(one).read() for one in tar.getmembers()}  # type: ignore[union-attr]
    assert stored == {"00000000.jpg": b"\xff\xd8bytes", "00000000.txt": "café".encode()}


def test_a_folder_that_holds_something_is_only_replaced_on_request(tmp_path: Path) -> None:
    out = tmp_path / "a"
    out.mkdir()
    (out / "precious.txt").write_text("mine")
    with pytest.raises(MuseError) as refused:
        write_scene_shards("val", 2, out, size=32)
    assert (refused.value.exit_code, (out / "precious.txt").exists()) == (4, True)
    with pytest.raises(MuseError, match="holds no shards"):
        write_scene_shards("val", 2, out, size=32, overwrite=True)
    assert sorted(contents(out)) == ["precious.txt"]
    (out / "precious.txt").unlink()
    write_scene_shards("val", 2, out, size=32)
    with pytest.raises(MuseError, match="holds shards already") as refused:
        write_scene_shards("val", 2, out, size=32)
    assert "--overwrite" in str(refused.value.hint)
    write_scene_shards("val", 3, out, size=32, overwrite=True)
    assert sorted(contents(out)) == ["000000.tar", "index.json"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken() -> "list[Sample]":
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_shards((one for _ in range(1) for one in broken()), tmp_path / "a")
    with pytest.raises(MuseError, match="no samples"):
        write_shards([], tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
