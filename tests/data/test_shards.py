"""Shards are found, read in lanes, and what is broken in them is named and counted."""

import itertools
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import BinaryIO

import pytest

from muse_core.data import shards, tars
from muse_core.data.decode import RawSample, ShapeFilter, decode
from muse_core.data.sample import Sample, Skip
from muse_core.data.shards import Shard, ShardSource, read_shard
from muse_core.data.source import Item, SceneSource, Source, open_source
from muse_core.data.tars import read_entry
from muse_core.errors import MuseError
from tests.data.conftest import MakeTar, good, picture, with_suffixes
from tests.data.test_decode import bomb


def keys(items: list[Item]) -> list[str]:
    return [item.key for item in items]


def first(source: Source, n: int, *, lane: int = 0, lanes: int = 1, seed: int = 0, start: int = 0) -> list[str]:
    return keys(list(itertools.islice(source.lane(lane, lanes, seed=seed, start=start), n)))


def reasons(path: Path) -> Counter[str]:
    items = list(ShardSource(str(path)).once())
    return Counter(item.reason if isinstance(item, Skip) else "good" for item in items)


def test_demo_names_scenes_and_anything_else_shards(scene_shards: Path) -> None:
    source = open_source("demo:ood:12", size=32)
    assert isinstance(source, SceneSource)
    assert (source.split, source.count, source.size) == ("ood", 12, 32)
    assert open_source("demo", split="val").name == "demo:val"
    assert isinstance(open_source(str(scene_shards)), ShardSource)


@pytest.mark.parametrize("where", ["demo:val:many", "demo:val:0", "demo:val:1:2"])
def test_a_malformed_set_of_scenes_is_refused(where: str) -> None:
    with pytest.raises(MuseError) as refused:
        open_source(where)
    assert refused.value.exit_code == 2


def test_scene_lanes_are_fresh_for_ever_and_cover_every_index() -> None:
    source = SceneSource("train", size=32)
    seen = [key for lane in range(4) for key in first(source, 5, lane=lane, lanes=4)]
    assert sorted(seen) == [f"train-{index:09d}" for index in range(20)]
    assert set(seen).isdisjoint(first(source, 20, seed=1))


@pytest.mark.parametrize("pattern", ["{}", "{}/*.tar", "{}/{{000000..000007}}.tar"])
def test_folders_globs_and_braces_find_the_same_shards(scene_shards: Path, pattern: str) -> None:
    source = ShardSource(pattern.format(scene_shards))
    assert [shard.path.name for shard in source.shards] == [f"{n:06d}.tar" for n in range(8)]
    assert source.count == 48
    assert source.fields == {"image", "caption", "label", "mask"}


def test_a_folder_of_splits_is_entered(scene_shards: Path, tmp_path: Path) -> None:
    shutil.copytree(scene_shards, tmp_path / "val")
    assert ShardSource(str(tmp_path), split="val").count == 48


@pytest.mark.parametrize("where", ["pipe:cat a.tar", "a.tar::pipe:cat b.tar", "{a.tar,pipe:cat b.tar}"])
def test_pipe_addresses_are_refused(where: str) -> None:
    with pytest.raises(MuseError, match="refused"):
        ShardSource(where)


def test_absent_shards_are_refused_by_name(scene_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(MuseError, match=r"2 of 10 shards do not exist: .*000008.tar"):
        ShardSource(f"{scene_shards}/{{000000..000009}}.tar")
    with pytest.raises(MuseError, match="no shards"):
        ShardSource(str(tmp_path))


def test_reading_once_gives_every_sample_once_in_order_shared_among_readers(scene_shards: Path) -> None:
    source = ShardSource(str(scene_shards))
    whole = keys(list(source.once()))
    assert len(set(whole)) == len(whole) == 48
    assert whole == sorted(whole)
    shared = [keys(list(source.once(index, 3))) for index in range(3)]
    assert [key for group in itertools.zip_longest(*shared) for key in group if key] == whole


def test_a8_no_sample_repeats_within_a_pass_and_lanes_share_none(scene_shards: Path) -> None:
    source = ShardSource(str(scene_shards))
    lanes = [first(source, 12, lane=lane, lanes=4) for lane in range(4)]
    assert sorted(key for lane in lanes for key in lane) == keys(list(source.once()))


def test_b6_order_follows_from_the_seed_and_from_nothing_else(scene_shards: Path) -> None:
    source, again = ShardSource(str(scene_shards)), ShardSource(str(scene_shards))
    assert first(source, 30, seed=5) == first(again, 30, seed=5)
    assert first(source, 30, seed=5) != first(source, 30, seed=6)
    passes = first(source, 96, seed=5)
    assert sorted(passes[:48]) == sorted(passes[48:])
    assert passes[:48] != passes[48:]


@pytest.mark.parametrize("start", [1, 5, 12, 13, 40])
@pytest.mark.parametrize("indexed", [True, False])
def test_a_lane_continues_at_the_exact_next_sample(
    scene_shards: Path, tmp_path: Path, start: int, indexed: bool
) -> None:
    folder = shutil.copytree(scene_shards, tmp_path / "copy")
    if not indexed:
        (folder / "index.json").unlink()
    source = ShardSource(str(folder), shuffle=4)
    whole = first(source, 60, lane=1, lanes=4, seed=2)
    assert first(source, 60 - start, lane=1, lanes=4, seed=2, start=start) == whole[start:]


def test_more_lanes_than_shards_are_refused_with_the_number_to_use(scene_shards: Path) -> None:
    with pytest.raises(MuseError) as refused:
        next(ShardSource(str(scene_shards)).lane(8, 9, seed=0))
    assert refused.value.hint == "--set data.lanes=8"


def test_shards_without_samples_are_refused_rather_than_read_for_ever(make_tar: MakeTar) -> None:
    source = ShardSource(str(make_tar("a.tar", [])))
    with pytest.raises(MuseError, match="no samples"):
        list(source.lane(0, 1, seed=0))


def test_interleaved_members_are_joined_to_the_right_samples_and_counted(make_tar: MakeTar) -> None:
    members = [("a.png", picture()), ("b.png", picture()), ("a.txt", b"x"), ("b.txt", b"y")]
    items = list(ShardSource(str(make_tar("a.tar", members))).once())
    assert [(one.key, one.caption) for one in items if isinstance(one, Sample)] == [("a/a", "x"), ("a/b", "y")]
    (skip,) = (one for one in items if isinstance(one, Skip))
    assert (skip.reason, skip.error) == ("members of a sample are not together in its shard (joined)", False)
    assert skip.key == "a.tar (2 samples, first a)"


def test_a_key_that_occurs_again_with_more_members_is_not_guessed_at(make_tar: MakeTar) -> None:
    members = [("a.png", picture()), *good(1), ("a.png", picture()), ("a.txt", b"y")]
    assert reasons(make_tar("a.tar", members)) == {"good": 1, "key occurs again later in its shard": 2}


def test_an_interleaved_tar_that_is_cut_short_gives_no_sample_without_its_caption(make_tar: MakeTar) -> None:
    pictures = [(f"{n}.png", picture()) for n in range(4)]
    path = make_tar("a.tar", [*pictures, *((f"{n}.txt", b"a picture") for n in range(4))])
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"2.txt")])
    usable = [one for one in ShardSource(str(path)).once() if isinstance(one, Sample)]
    assert [(one.key, one.caption) for one in usable] == [("a/0", "a picture")]


def test_a_damaged_header_in_the_middle_is_noticed_though_readers_take_it_for_the_end(make_tar: MakeTar) -> None:
    path = make_tar("a.tar", good(4))
    content = bytearray(path.read_bytes())
    at = content.index(b"00002.jpg")
    content[at + 20] ^= 255
    path.write_bytes(content)
    assert reasons(path) == {"good": 1, "cut off by the end of its shard": 1, f"shard is damaged at byte {at}": 1}


def test_joined_tars_are_noticed_though_readers_stop_at_the_first_end(make_tar: MakeTar) -> None:
    path = make_tar("a.tar", good(2))
    path.write_bytes(path.read_bytes() + make_tar("b.tar", good(2, first=2)).read_bytes())
    assert reasons(path) == {"good": 2, "shard has more behind its end": 1}


def test_an_empty_tar_is_counted(make_tar: MakeTar) -> None:
    make_tar("a.tar", [])
    assert reasons(make_tar("b.tar", good(2)).parent) == {"good": 2, "shard holds no samples": 1}


def test_duplicate_members_and_keys_are_counted(make_tar: MakeTar) -> None:
    same = with_suffixes("a", {"png": picture(), "txt": b"x"})
    assert reasons(make_tar("a.tar", [*same, *same, *good(1)])) == {"key holds the same suffix twice": 1, "good": 1}
    assert reasons(make_tar("b.tar", [*same, *good(1), *same])) == {
        "good": 2,
        "key occurs again later in its shard": 1,
    }


def test_text_named_jpg_is_counted_and_its_neighbours_survive(make_tar: MakeTar) -> None:
    members = [*good(2), ("00002.jpg", b"not a picture"), ("00002.txt", b"x"), *good(2, first=3)]
    assert reasons(make_tar("a.tar", members)) == {"good": 4, "image cannot be decoded": 1}


def test_every_kind_of_damaged_member_costs_its_sample_only(make_tar: MakeTar) -> None:
    members = [*good(1), ("1.png", b""), ("2.png", bomb(30_000, 30_000)), ("3.png", picture()), ("3.txt", b"caf\xe9")]
    assert reasons(make_tar("a.tar", [*members, *good(1, first=4)])) == {
        "good": 2,
        "image cannot be decoded: it is empty": 1,
        "decompression bomb": 1,
        "caption is not UTF-8 (probably Latin-1)": 1,
    }


def test_a_truncated_tar_gives_what_it_holds_and_is_counted_wherever_it_was_cut(make_tar: MakeTar) -> None:
    path = make_tar("a.tar", good(10))
    content = path.read_bytes()
    one = (len(make_tar("b.tar", good(10)).read_bytes().rstrip(b"\0")) + 511) // 512 * 512 // 10
    for length in range(1024, 10 * one, 256):
        path.write_bytes(content[:length])
        items = list(ShardSource(str(path)).once())
        usable = [item for item in items if isinstance(item, Sample)]
        assert len(items) == len(usable) + 1
        assert length // one - 1 <= len(usable) <= length // one
        assert all(sample.caption == "a picture" for sample in usable)


def test_a_tar_cut_between_members_is_noticed_by_its_index(scene_shards: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(scene_shards, tmp_path / "copy")
    path = folder / "000003.tar"
    path.write_bytes(path.read_bytes()[: 512 * 20])
    source = ShardSource(str(folder))
    assert source.count is None
    assert "shard differs from its index" in {one.reason for one in source.once() if isinstance(one, Skip)}


def test_an_empty_file_and_a_file_that_is_no_tar_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"")
    (tmp_path / "b.tar").write_bytes(b"hello" * 500)
    counted = reasons(tmp_path)
    assert counted.pop("shard is empty") == 1
    assert sum(counted.values()) == 1


def test_a_shard_deleted_while_reading_is_counted(scene_shards: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(scene_shards, tmp_path / "copy")
    source = ShardSource(str(folder), shuffle=1)
    stream = source.once()
    next(stream)
    (folder / "000005.tar").unlink()
    rest = Counter(item.reason if isinstance(item, Skip) else "good" for item in stream)
    assert rest["good"] == 41
    assert rest["shard cannot be read to its end (FileNotFoundError)"] == 1


def test_a_shard_replaced_before_it_is_read_is_counted(scene_shards: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(scene_shards, tmp_path / "copy")
    source = ShardSource(str(folder))
    (folder / "000005.tar").write_bytes((folder / "000004.tar").read_bytes() + bytes(10240))
    found = Counter(item.reason if isinstance(item, Skip) else "good" for item in source.once())
    assert found == {"good": 42, "shard was replaced while reading": 1, "sample missing from its shard": 5}


def test_a_shard_replaced_by_one_of_the_same_size_is_counted(scene_shards: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(scene_shards, tmp_path / "copy")
    source = ShardSource(str(folder))
    path = folder / "000005.tar"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    assert reasons_of(source) == {"good": 42, "shard was replaced while reading": 1, "sample missing from its shard": 5}


def reasons_of(source: ShardSource) -> Counter[str]:
    return Counter(item.reason if isinstance(item, Skip) else "good" for item in source.once())


def test_a_shard_overwritten_while_it_is_read_is_counted_and_gives_nothing_wrong(make_tar: MakeTar) -> None:
    path = make_tar("a.tar", good(5))
    stream = ShardSource(str(path), shuffle=1).once()
    next(stream)
    with path.open("r+b") as file:
        file.write(b"?" * path.stat().st_size)
    os.utime(path, ns=(1, 1))
    assert Counter(item.reason for item in stream if isinstance(item, Skip)) == {"shard changed while it was read": 4}


def test_what_was_read_before_is_neither_decoded_nor_read_again(
    scene_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ShardSource(str(scene_shards), shuffle=4)
    decoded: list[str] = []
    read: list[str] = []

    def counting_decode(raw: RawSample, keep: ShapeFilter | None) -> Item:
        decoded.append(raw.key)
        return decode(raw, keep)

    def counting_read(stream: BinaryIO, entry: tars.Entry, key: str) -> RawSample | Skip:
        read.append(key)
        return read_entry(stream, entry, key)

    monkeypatch.setattr(shards, "decode", counting_decode)
    monkeypatch.setattr(tars, "read_entry", counting_read)
    found = first(source, 2, lane=0, lanes=2, seed=3, start=20)
    assert decoded == found
    assert len(read) <= 4


def test_a_shard_with_a_trusted_count_always_has_that_many_positions(make_tar: MakeTar) -> None:
    path = make_tar("a.tar", good(3))
    items = list(read_shard(Shard(str(path), count=5)))
    assert [item.reason for item in items if isinstance(item, Skip)] == ["sample missing from its shard"] * 2


def test_a_broken_index_is_an_error_that_names_it(scene_shards: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(scene_shards, tmp_path / "copy")
    (folder / "index.json").write_text("{")
    with pytest.raises(MuseError, match=r"index\.json is not valid JSON"):
        ShardSource(str(folder))


def test_shards_of_other_tools_are_read(make_tar: MakeTar) -> None:
    record = json.dumps({"caption": "a cat", "original_height": 300, "original_width": 300, "key": "000000000"})
    folder = make_tar("x.tar", with_suffixes("000000000", {"jpg": picture(kind="JPEG"), "json": record.encode()}))
    (sample,) = ShardSource(str(folder)).once()
    assert isinstance(sample, Sample)
    assert sample.caption == "a cat"
    nested = make_tar("y.tar", with_suffixes("train/n01/img_1", {"JPEG": picture(kind="JPEG"), "cls": b"4"}))
    (sample,) = ShardSource(str(nested)).once()
    assert isinstance(sample, Sample)
    assert (sample.key, sample.label) == ("y/train/n01/img_1", 4)
