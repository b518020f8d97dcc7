"""A plain folder of images is the data that its shards would be, read file by file."""

import itertools
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muse_core.data import census, identity
from muse_core.data.census import caption_census
from muse_core.data.classes import joined
from muse_core.data.folders import FolderSource
from muse_core.data.identity import identity_of
from muse_core.data.loader import Batches, eval_batches
from muse_core.data.sample import Sample, Skip
from muse_core.data.sharding.options import ShardOptions
from muse_core.data.sharding.shard import shard
from muse_core.data.shards import ShardSource
from muse_core.data.source import Source, open_source, remarks_of
from muse_core.data.transforms import train_transform
from muse_core.data.vocabulary import vocabulary_of
from muse_core.errors import MuseError
from tests.data.conftest import picture
from tests.data.test_decode import bomb
from tests.data.test_shard_tree import put


def pictures(count: int, first: int = 20) -> dict[str, bytes]:
    return {f"{n:03d}.png": picture(first + n) for n in range(count)}


def labelled(counts: Mapping[str, int]) -> dict[str, bytes]:
    return {f"{name}/{file}": content for name, count in counts.items() for file, content in pictures(count).items()}


def opened(folder: Path, files: Mapping[str, object]) -> FolderSource:
    source = open_source(str(put(folder, files)))
    assert isinstance(source, FolderSource)
    return source


def keys(source: Source, count: int, *, lane: int = 0, lanes: int = 1, seed: int = 0, start: int = 0) -> list[str]:
    return [item.key for item in itertools.islice(source.lane(lane, lanes, seed=seed, start=start), count)]


CLUTTER = {"._000.png": b"x", ".hidden.png": b"x", ".DS_Store": b"x", "Thumbs.db": b"x", ".cache/a.png": b"x"}
BESIDE = {"000.txt": "a cat", "001.TXT": "\ufeffa dog", "002.json": '{"caption": "a bee", "label": 3}', "003.cls": "2"}
DAMAGED = {"bad.jpg": b"text", "empty.png": b"", "b.png": bomb(30_000, 30_000)}


@pytest.mark.parametrize(
    "files",
    [
        {**pictures(5), **BESIDE, **CLUTTER, "notes.md": "read me", "__MACOSX/000.png": b"x"},
        {**labelled({"10": 2, "2": 3, "1": 2}), **{f"2/{name}": content for name, content in CLUTTER.items()}},
        {**pictures(3), "sub/deep/A.JPG": picture(kind="JPEG"), "sub/.png": b"x", "sub/x.mpo": picture(kind="JPEG")},
        {
            **pictures(2),
            "000.seg.png": picture(20, mode="L"),
            "bad.jpg": b"text",
            "empty.png": b"",
            "b.png": bomb(30_000, 30_000),
        },
    ],
    ids=["beside", "classes", "deep", "damage"],
)
def test_it_reads_what_its_shards_hold(tmp_path: Path, files: dict[str, object]) -> None:
    folder = opened(tmp_path / "in", files)
    shard(str(tmp_path / "in"), str(tmp_path / "out"), ShardOptions(), workers=1)
    shards = open_source(str(tmp_path / "out"))
    assert isinstance(shards, ShardSource)
    mine = [item for item in folder.once() if isinstance(item, Sample)]
    theirs = [item for item in shards.once() if isinstance(item, Sample)]
    for one, other in zip(mine, theirs, strict=True):
        assert np.array_equal(one.image, other.image)
        assert (one.caption, one.label) == (other.caption, other.label)
        assert (one.mask is None) == (other.mask is None)
        assert one.mask is None or other.mask is None or np.array_equal(one.mask, other.mask)
    assert vocabulary_of(folder) == vocabulary_of(shards)
    assert folder.fields == shards.fields


def test_links_are_followed_except_in_a_circle(tmp_path: Path) -> None:
    put(tmp_path / "else", pictures(2))
    put(tmp_path / "in", {"a/x.png": picture()})
    os.symlink(tmp_path / "else", tmp_path / "in" / "b")
    os.symlink(tmp_path / "in", tmp_path / "in" / "a" / "again")
    source = open_source(str(tmp_path / "in"))
    assert [item.key for item in source.once()] == ["a/x.png", "b/000.png", "b/001.png"]


def test_lanes_share_the_files_and_each_pass_has_all_of_them_in_a_new_order(tmp_path: Path) -> None:
    source = opened(tmp_path, pictures(10))
    names = [f"{n:03d}.png" for n in range(10)]
    assert (source.count, source.max_lanes) == (10, 10)
    parts = [keys(source, 9, lane=lane, lanes=4) for lane in range(4)]
    lengths = (3, 3, 2, 2)
    assert sorted(key for part, length in zip(parts, lengths, strict=True) for key in part[:length]) == names
    whole = keys(source, 30)
    passes = [whole[first : first + 10] for first in (0, 10, 20)]
    assert all(sorted(one) == names for one in passes)
    assert passes[0] != passes[1] != passes[2]
    assert keys(source, 10, seed=1) != passes[0]


@pytest.mark.parametrize("start", [0, 1, 7, 10, 23])
def test_a_lane_continues_at_the_exact_next_file_and_reads_none_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: int
) -> None:
    source = opened(tmp_path, pictures(10))
    whole = keys(source, 30, seed=3)
    read: list[int] = []
    raw = FolderSource.raw

    def counted(self: FolderSource, number: int, **more: Any) -> Any:
        read.append(number)
        return raw(self, number, **more)

    monkeypatch.setattr(FolderSource, "raw", counted)
    assert keys(source, 2, seed=3, start=start) == whole[start : start + 2]
    assert len(read) == 2


@pytest.mark.parametrize(("workers", "world"), [(2, 1), (0, 2), (1, 2)])
def test_batches_are_the_same_for_any_number_of_readers_and_go_on_from_a_cursor(
    tmp_path: Path, workers: int, world: int
) -> None:
    source = opened(tmp_path, pictures(11))

    def batches(steps: int, cursor: dict[int, int] | None = None, **who: int) -> tuple[list[str], dict[int, int]]:
        stream = iter(Batches(source, batch_size=8, lanes=4, cursor=cursor, transform=train_transform(8), **who))
        taken = list(itertools.islice(stream, steps))
        stream.close()
        return [key for batch in taken for key in batch.keys], taken[-1].cursor

    expected, _ = batches(6)
    parts = [batches(2, rank=rank, world=world, workers=workers) for rank in range(world)]
    cursor = {lane: position for _, part in parts for lane, position in part.items()}
    if world == 1:
        assert parts[0][0] == expected[:16]
    assert batches(4, cursor)[0] == expected[16:]


def test_damage_is_passed_over_by_name_and_counted_until_it_is_too_much(tmp_path: Path) -> None:
    source = opened(tmp_path, {**pictures(3), "bad.jpg": b"text", "gone.png": picture(), "grown.png": picture()})
    (tmp_path / "gone.png").unlink()
    (tmp_path / "grown.png").write_bytes(picture(40))
    skips = {item.key: item.reason for item in source.once() if isinstance(item, Skip)}
    assert skips == {
        "bad.jpg": "image cannot be decoded",
        "gone.png": "file cannot be read",
        "grown.png": "file changed after it was listed",
    }
    batches = Batches(source, batch_size=4, lanes=2, limit_errors=0.2, transform=train_transform(8))
    with pytest.raises(MuseError, match=r"could not be used, more than the allowed 20\.0%"):
        for _ in batches:
            pass
    only = opened(tmp_path / "only", {"a.png": b"x", "b.png": b""})
    with pytest.raises(MuseError, match="no usable image among 2"):
        list(only.lane(0, 1, seed=0))
    with pytest.raises(MuseError, match="no usable sample"):
        list(eval_batches(only, batch_size=2, size=8))


def test_folders_called_by_numbers_sort_as_numbers_and_one_number_twice_is_refused(tmp_path: Path) -> None:
    source = opened(tmp_path / "a", labelled({"10": 1, "9": 1, "2": 1}))
    assert source.classes == ("2", "9", "10")
    assert [item.label for item in source.once() if isinstance(item, Sample)] == [2, 0, 1]
    with pytest.raises(MuseError, match="01 and 1 are one number and two classes"):
        open_source(str(put(tmp_path / "b", labelled({"1": 1, "01": 1}))))


def test_classes_are_joined_by_name_with_those_of_shards_and_in_a_mix(tmp_path: Path) -> None:
    put(tmp_path / "birds", labelled({"bee": 2, "cat": 2, "dog": 2}))
    shard(str(put(tmp_path / "in", labelled({"cat": 2, "dog": 2}))), str(tmp_path / "out"), workers=1)
    first, second = joined(open_source(str(tmp_path / "out")), open_source(str(tmp_path / "birds")))
    assert Counter(item.label for item in second.once() if isinstance(item, Sample)) == {2: 2, 0: 2, 1: 2}
    mix = open_source(f"0.5 {tmp_path / 'out'} + 0.5 {tmp_path / 'birds'}")
    assert vocabulary_of(mix) == vocabulary_of(second)
    assert mix.max_lanes == 1
    labels = [item.label for item in mix.once() if isinstance(item, Sample)]
    assert labels == [0, 0, 1, 1, 2, 2, 0, 0, 1, 1]
    whole = keys(mix, 40)
    assert keys(mix, 15, start=25) == whole[25:]
    assert {key.partition("/")[0] for key in whole} == {"000000", "bee", "cat", "dog"}


def test_where_tars_and_images_lie_together_the_tars_are_read_and_that_is_said(tmp_path: Path) -> None:
    shard(str(put(tmp_path / "in", pictures(9))), str(tmp_path / "both"), workers=1)
    assert remarks_of(open_source(str(tmp_path / "both"))) == ()
    put(tmp_path / "both", pictures(3))
    source = open_source(str(tmp_path / "both"))
    assert isinstance(source, ShardSource)
    said = f"{tmp_path / 'both'} holds tars and 3 image files: the tars are read"
    assert remarks_of(source) == remarks_of(open_source(f"demo + {tmp_path / 'both'}")) == (said,)


@pytest.mark.parametrize("files", [{}, {"notes.txt": "nothing"}, {".hidden.png": picture()}])
def test_a_folder_without_images_is_refused_as_one_without_shards(tmp_path: Path, files: dict[str, object]) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MuseError, match=r"no shards \(\.tar\) and no images found"):
        open_source(str(put(tmp_path / "empty", files)))


def test_of_folders_of_splits_the_one_that_is_asked_for_is_read(tmp_path: Path) -> None:
    files = {f"train/{name}": content for name, content in labelled({"cat": 2, "dog": 1}).items()}
    files |= {f"Validation/{name}": content for name, content in labelled({"cat": 1, "dog": 1}).items()}
    where = str(put(tmp_path / "in", files))
    train, val = open_source(where), open_source(where, split="val")
    assert (train.count, val.count) == (3, 2)
    assert vocabulary_of(train) == vocabulary_of(val)
    assert remarks_of(val) == (f"{where} holds the splits Validation, train: Validation is read",)
    with pytest.raises(MuseError, match="holds the splits Validation, train, and no test"):
        open_source(where, split="test")
    put(tmp_path / "in", {"other/x.png": picture()})  # now they are classes
    assert open_source(where).count == 6


def test_its_identity_is_names_sizes_and_contents_of_every_file_wherever_it_lies(tmp_path: Path) -> None:
    source = opened(tmp_path / "in", {**pictures(3), "000.txt": "a cat"})
    before = identity_of(source)
    assert [file.name for file in before.files] == ["000.png", "000.txt", "001.png", "002.png"]
    (tmp_path / "in").rename(tmp_path / "moved")
    where = str(tmp_path / "moved")
    assert identity_of(open_source(where), before).compare(before).changed == ()
    content = bytearray((tmp_path / "moved" / "001.png").read_bytes())
    content[-20] ^= 1
    (tmp_path / "moved" / "001.png").write_bytes(content)
    assert before.compare(identity_of(open_source(where), before)).changed == (
        "001.png holds other bytes of the same size",
    )
    put(tmp_path / "moved", {"003.png": picture()})
    assert "003.png is new" in before.compare(identity_of(open_source(where), before)).in_words()


def test_a_file_that_is_as_it_was_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened(tmp_path, pictures(4))
    before = identity_of(source)
    monkeypatch.setattr("muse_core.identity._digest", lambda *of: pytest.fail("read again"))
    assert identity_of(source, before) == before
    assert identity.identity_of(source, before).files == before.files


def test_captions_are_counted_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muse_core.data.folders.decode", lambda raw: pytest.fail("decoded"))
    none = opened(tmp_path / "none", pictures(3))
    assert [str(one) for one in caption_census(none)] == [f"0 of 3 images in {none.name}"]
    some = opened(
        tmp_path / "some", {**pictures(4), "000.txt": "a cat", "002.json": '{"text": "a dog"}', "003.txt": " "}
    )
    assert [str(one) for one in caption_census(some)] == [f"2 of 4 images in {some.name}"]
    monkeypatch.setattr(census, "SHORT_LOOK", (1, 2))
    monkeypatch.setattr(census, "LONG_LOOK", (1, 3))
    (found,) = caption_census(some)
    assert (found.captioned, found.seen, found.whole) == (2, 2, False)
