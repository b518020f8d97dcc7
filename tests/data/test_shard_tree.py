"""What `muse shard` makes of any tree of pictures: what is stored, what is left out, and why."""

import csv
import io
import json
import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from muse_core.data.sample import Sample
from muse_core.data.sharding.items import Item, Planned
from muse_core.data.sharding.options import ShardOptions, read_share, read_size, read_split
from muse_core.data.sharding.plan import room, shards, split_of
from muse_core.data.sharding.report import Sharded
from muse_core.data.sharding.shard import shard
from muse_core.data.shards import ShardSource
from muse_core.errors import MuseError
from tests.data.conftest import picture


def put(folder: Path, files: Mapping[str, object]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else str(content).encode())
    return folder


def made(source: Path, **options: object) -> Sharded:
    report = shard(str(source), str(source.parent / "out"), ShardOptions(**options), workers=1)  # type: ignore[arg-type]
    assert report is not None
    return report


def stored(report: Sharded) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for entry in report.shards:
        with tarfile.open(Path(report.out) / entry.name) as tar:
            found |= {one.name: tar.extractfile(one).read() for one in tar.getmembers()}  # type: ignore[union-attr]
    return found


def skipped(report: Sharded) -> dict[str, str]:
    rows = csv.DictReader(io.StringIO((Path(report.out) / "skipped.csv").read_text()))
    return {row["file"]: row["reason"] for row in rows}


def mask(width: int = 20, height: int = 16, mode: str = "L") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (width, height), 7).save(stream, "PNG")
    return stream.getvalue()


def test_a_folder_of_captioned_pictures_becomes_numbered_members_with_their_bytes_untouched(tmp_path: Path) -> None:
    files = {"b.jpg": picture(kind="JPEG"), "b.txt": "a cat\n", "a.png": picture(), "a.txt": "café"}
    report = made(put(tmp_path / "in", files))
    assert stored(report) == {
        "00000.png": files["a.png"],
        "00000.txt": "café".encode(),
        "00001.jpg": files["b.jpg"],
        "00001.txt": b"a cat",
    }
    assert report.fields == {"jpg": 1, "png": 1, "txt": 2}
    assert not (tmp_path / "out" / "skipped.csv").exists()


def test_the_suffix_is_that_of_the_content_not_of_the_name(tmp_path: Path) -> None:
    report = made(put(tmp_path / "in", {"a.jpg": picture(kind="PNG"), "b.PNG": picture(kind="WEBP")}))
    assert list(stored(report)) == ["00000.png", "00001.webp"]


def test_folders_are_classes_where_they_can_mean_nothing_else(tmp_path: Path) -> None:
    report = made(put(tmp_path / "in", {"dog/1.jpg": picture(), "cat/2.jpg": picture(), "cat/1.jpg": picture()}))
    assert report.classes == ("cat", "dog")
    assert {name: content for name, content in stored(report).items() if name.endswith("cls")} == {
        "00000.cls": b"0",
        "00001.cls": b"0",
        "00002.cls": b"1",
    }


@pytest.mark.parametrize(
    "files",
    [
        {"2024/1.jpg": picture(), "2025/may/2.jpg": picture()},  # folders of folders
        {"a/1.jpg": picture(), "b/1.jpg": picture(), "b/1.txt": "captioned"},
        {"only/1.jpg": picture(), "only/2.jpg": picture()},
        {"a/1.jpg": picture(), "2.jpg": picture()},
    ],
)
def test_other_folders_are_not_taken_for_classes(tmp_path: Path, files: dict[str, bytes | str]) -> None:
    report = made(put(tmp_path / "in", files))
    assert (report.classes, "cls" in report.fields) == ((), False)


def test_folders_are_classes_when_it_is_said(tmp_path: Path) -> None:
    files = {"a/x/1.jpg": picture(), "b/1.jpg": picture(), "b/1.txt": "captioned", "stray.jpg": picture()}
    report = made(put(tmp_path / "in", files), classes="folders")
    assert (report.classes, report.fields["cls"]) == (("a", "b"), 2)
    assert skipped(report) == {"stray.jpg": "lies in no class folder"}


def test_captions_come_from_a_field_of_json_and_the_json_is_kept(tmp_path: Path) -> None:
    record = '{"alt": "a red ball",  "url": "x"}'
    report = made(put(tmp_path / "in", {"a.jpg": picture(), "a.json": record}), captions="json:alt")
    assert stored(report)["00000.txt"] == b"a red ball"
    assert stored(report)["00000.json"] == record.encode()


def test_captions_and_classes_come_from_one_table(tmp_path: Path) -> None:
    table = 'file_name,caption,label\nx/a.jpg,"one, two",zebra\nb,three,ant\ngone.jpg,four,ant\n'
    source = put(tmp_path / "in", {"x/a.jpg": picture(), "x/b.jpg": picture(), "x/c.jpg": picture()})
    put(tmp_path, {"table.csv": table})
    where = f"csv:{tmp_path / 'table.csv'}"
    report = made(source, captions=where, classes=where)
    texts = {name: content for name, content in stored(report).items() if not name.endswith("png")}
    assert texts == {"00000.txt": b"one, two", "00000.cls": b"1", "00001.txt": b"three", "00001.cls": b"0"}
    assert report.classes == ("ant", "zebra")
    assert "gone.jpg" in skipped(report)
    assert report.settings["captions"] == "csv:table.csv"  # not where it lay on this machine


def test_a_table_that_contradicts_itself_or_lacks_a_column_is_refused(tmp_path: Path) -> None:
    source = put(tmp_path / "in", {"a.jpg": picture()})
    twice = "file,caption\na.jpg,x\na.jpg,y\n"
    for table, complaint in ((twice, "both 'x' and 'y'"), ("a,b\n1,2\n", "needs a column")):
        put(tmp_path, {"table.csv": table})
        with pytest.raises(MuseError, match=complaint):
            made(source, captions=f"csv:{tmp_path / 'table.csv'}")


def test_masks_lie_in_a_folder_of_the_same_names_or_beside(tmp_path: Path) -> None:
    source = put(tmp_path / "in", {"x/a.jpg": picture(), "b.jpg": picture(), "b.seg.png": mask()})
    put(tmp_path / "masks", {"x/a.png": mask()})
    report = made(source, masks=str(tmp_path / "masks"))
    assert report.fields == {"png": 2, "seg.png": 2}
    sample = next(iter(ShardSource(report.out).once()))
    assert isinstance(sample, Sample)
    assert sample.mask is not None
    assert int(sample.mask.max()) == 7


def test_everything_that_cannot_be_stored_is_named_with_its_reason(tmp_path: Path) -> None:
    bomb = bytearray(picture(mode="L"))
    bomb[16:24] = (30_000).to_bytes(4) * 2  # the size in a png's header, and its checksum
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4)
    files: dict[str, bytes | str] = {
        "good.jpg": picture(),
        "text.jpg": "not a picture",
        "empty.png": b"",
        "bomb.png": bytes(bomb),
        "moving.gif": picture(kind="GIF"),
        "latin.jpg": picture(),
        "latin.txt": "café".encode("latin-1"),
        "broken.jpg": picture(),
        "broken.json": "{",
        "odd.jpg": picture(),
        "odd.seg.png": mask(5, 5),
        "colour.jpg": picture(),
        "colour.seg.png": mask(mode="RGB"),
        "word.jpg": picture(),
        "word.cls": "7.5",
        "notes.md": "x",
        "orphan.txt": "x",
        "._good.jpg": "resource fork",
        ".hidden.jpg": picture(),
    }
    source = put(tmp_path / "in", files)
    (source / "dangling.jpg").symlink_to(source / "nowhere")
    (source / "loop").symlink_to(source)
    report = made(source)
    assert skipped(report) == {
        "text.jpg": "image cannot be decoded",
        "empty.png": "image is empty",
        "bomb.png": "decompression bomb",
        "moving.gif": "GIF pictures are only stored re-encoded (--format jpg or webp, or --resize)",
        "latin.jpg": "caption is not UTF-8 (probably Latin-1)",
        "broken.jpg": "json cannot be parsed",
        "odd.jpg": "mask and image differ in size",
        "colour.jpg": "mask is not one byte per pixel",
        "word.jpg": "label is neither the index of a class nor a name",
        "notes.md": "not a picture by its name",
        "orphan.txt": "belongs to no picture",
        ".hidden.jpg": "hidden",
        "dangling.jpg": "file cannot be read",
        "loop/": "link to a folder that contains it",
    }
    assert (report.count, report.errors) == (1, 10)
    assert json.loads((tmp_path / "out" / "index.json").read_text())["skipped"] == report.skipped


def test_only_verify_sees_a_picture_that_ends_too_early(tmp_path: Path) -> None:
    source = put(tmp_path / "in", {"a.jpg": picture(200, 200, "JPEG")[:2000], "b.jpg": picture()})
    plain = shard(str(source), str(tmp_path / "plain"), workers=1)
    assert plain is not None
    assert plain.count == 2
    report = made(source, verify=True)
    assert skipped(report) == {"a.jpg": "image cannot be decoded"}


def test_keys_are_contiguous_whatever_was_left_out(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {f"{n}.jpg": picture() if n % 3 else b"" for n in range(9)}
    assert list(stored(made(put(tmp_path / "in", files), per_shard=2))) == [f"{n:05d}.png" for n in range(6)]


def test_too_much_damage_writes_nothing(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {f"{n:02d}.jpg": picture() if n > 11 else b"" for n in range(40)}
    source = put(tmp_path / "in", files)
    with pytest.raises(MuseError, match=r"12 of 40 pictures .* 12 x image is empty \(first: 00.jpg\)") as refused:
        made(source)
    assert refused.value.hint == "--limit-errors 30%"
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert made(source, limit_errors=0.3).count == 28


def test_the_first_damage_stops_when_asked(tmp_path: Path) -> None:
    source = put(tmp_path / "in", {"a.jpg": picture(), "b.jpg": b""})
    with pytest.raises(MuseError, match="b.jpg: image is empty"):
        made(source, on_error="stop")


def test_nothing_to_store_is_an_error_that_says_what_was_seen(tmp_path: Path) -> None:
    with pytest.raises(MuseError, match="no pictures to store") as refused:
        made(put(tmp_path / "in", {"00000.tar": b"x"}))
    assert "--recipe cc12m" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("size", "record", "kept"),
    [
        ((256, 128), "", True),  # exactly twice as long as wide, exactly long enough
        ((257, 128), "", False),
        ((255, 200), "", False),
        ((20, 16), '{"original_width": 400, "original_height": 300}', True),  # stored smaller than it was
        ((300, 300), '{"original_width": 100, "original_height": 100}', False),
        ((300, 300), '{"original_width": null, "original_height": null}', True),
        ((300, 300), '{"width": 10, "height": 10}', True),  # what the header says is believed
    ],
)
def test_filters_by_shape_include_their_bounds(tmp_path: Path, size: tuple[int, int], record: str, kept: bool) -> None:
    files: dict[str, bytes | str] = {"a.jpg": picture(*size), "always.jpg": picture(256, 256)}
    source = put(tmp_path / "in", files | ({"a.json": record} if record else {}))
    report = made(source, min_long_side=256, max_ratio=2.0)
    assert (report.count, report.errors) == (2 if kept else 1, 0)
    assert report.skipped == ({} if kept else {"filtered by shape": 1})


def test_resizing_shrinks_the_shorter_side_with_its_mask_and_leaves_small_pictures_alone(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "big.jpg": picture(80, 60, "JPEG"),
        "big.seg.png": mask(80, 60),
        "small.jpg": picture(20, 16, "JPEG"),
    }
    found = stored(made(put(tmp_path / "in", files), resize=30, verify=True))
    assert Image.open(io.BytesIO(found["00000.jpg"])).size == (40, 30)
    labels = Image.open(io.BytesIO(found["00000.seg.png"]))
    assert (labels.size, labels.getextrema()) == ((40, 30), (7, 7))
    assert found["00001.jpg"] == files["small.jpg"]


def test_a_new_format_turns_pictures_upright_and_takes_what_readers_do_not_know(tmp_path: Path) -> None:
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.new("RGB", (40, 20), (200, 30, 30)).save(stream, "JPEG", exif=exif)
    grey = io.BytesIO()
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(grey, "PNG")
    files: dict[str, bytes | str] = {"a.jpg": stream.getvalue(), "b.gif": picture(kind="GIF"), "c.png": grey.getvalue()}
    found = stored(made(put(tmp_path / "in", files), format="webp"))
    assert list(found) == ["00000.webp", "00001.webp", "00002.webp"]
    upright = Image.open(io.BytesIO(found["00000.webp"]))
    assert (upright.size, upright.getexif().get(0x0112, 1)) == ((20, 40), 1)
    assert abs(np.asarray(Image.open(io.BytesIO(found["00002.webp"]))).mean() - 40_000 / 256) < 2


def test_a_split_is_drawn_by_name_and_stays_when_files_come(tmp_path: Path) -> None:
    shares = {"train": 0.7, "val": 0.3}
    names = [f"{n}.jpg" for n in range(60)]
    report = made(put(tmp_path / "in", {name: picture() for name in names[:40]}), split=shares)
    assert report.splits == {
        split: sum(split_of(name, shares) == split for name in names[:40]) for split in ("train", "val")
    }
    assert 5 <= report.splits["val"] <= 20
    index = json.loads((tmp_path / "out" / "val" / "index.json").read_text())
    assert (index["count"], index["shards"][0]["name"]) == (report.splits["val"], "000000.tar")
    for split, count in report.splits.items():
        assert ShardSource(report.out, split=split).count == count


def test_a_shard_ends_at_its_count_or_its_size(tmp_path: Path) -> None:
    source = put(tmp_path / "in", {f"{n}.jpg": picture() for n in range(7)})
    assert [one.count for one in made(source, per_shard=3).shards] == [3, 3, 1]
    small = shard(str(source), str(tmp_path / "small"), ShardOptions(shard_bytes=4000), workers=1)
    assert small is not None
    assert small.count == 7
    assert len(small.shards) > 3
    one_each = shard(str(source), str(tmp_path / "tiny"), ShardOptions(shard_bytes=1), workers=1)
    assert one_each is not None
    assert [one.count for one in one_each.shards] == [1] * 7


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        *((1, [1]), (7, [7]), (15, [15]), (20, [10, 10]), (25, [9, 8, 8]), (127, [9] * 7 + [8] * 8), (128, [8] * 16)),
        *((1000, [63] * 8 + [62] * 8), (160_000, [10_000] * 16), (165_000, [10_000] * 16 + [5_000])),
    ],
)
def test_where_no_size_is_asked_for_there_are_shards_for_several_lanes(count: int, sizes: list[int]) -> None:
    planned = Planned(Item("a.png", {}), "png")
    filled = shards((("", planned, 10) for _ in range(count)), lambda split, number: room(count, number), 10**12)
    assert [len(one.lines) for one in filled] == sizes


def test_each_split_has_its_own_shards_unless_a_size_is_asked_for(tmp_path: Path) -> None:
    source = put(tmp_path / "in", {f"{n}.jpg": picture() for n in range(80)})
    for number, by_hand in enumerate(({}, {"per_shard": 100}, {"shard_bytes": 10**6})):
        options = ShardOptions(split={"train": 0.7, "val": 0.3}, **by_hand)  # type: ignore[arg-type]
        report = shard(str(source), str(tmp_path / f"{number}"), options, workers=1)
        assert report is not None
        assert min(report.splits.values()) >= 16
        tars = Counter(one.name.partition("/")[0] for one in report.shards)
        assert tars == {split: 1 if by_hand else count // 8 for split, count in report.splits.items()}
        assert report.settings["per_shard"] == (by_hand.get("per_shard", 10_000) if by_hand else None)


def test_shuffling_depends_on_seed_and_names_only(tmp_path: Path) -> None:
    source = put(tmp_path / "in", {f"{n}.jpg": picture(20 + n) for n in range(12)})
    orders = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        report = shard(str(source), str(tmp_path / name), ShardOptions(shuffle=True, seed=seed), workers=1)
        assert report is not None
        orders[name] = list(stored(report).values())
    assert orders["a"] == orders["b"] != orders["c"]
    assert sorted(orders["a"]) == sorted(orders["c"]) != orders["a"]


def test_a_name_that_is_not_text_is_no_obstacle(tmp_path: Path) -> None:
    source = put(tmp_path / "in", {"a.jpg": picture()})
    (source / os.fsdecode(b"caf\xe9.jpg")).write_bytes(picture())
    (source / os.fsdecode(b"n\xe9.png")).write_bytes(b"")
    report = made(source)
    assert (report.count, report.skipped) == (2, {"image is empty": 1})
    assert b"n\xe9.png,image is empty\n" in (tmp_path / "out" / "skipped.csv").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        {"captions": "jsn:x"},
        {"captions": "json:"},
        {"classes": "csv"},
        {"recipe": "laion"},
        {"recipe": "imagenet1k", "split": {"train": 1.0}},
        {"recipe": "cc12m", "captions": "txt"},
        {"split": {"train": 0.5, "val": 0.4}},
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(MuseError) as refused:
        ShardOptions(**options)  # type: ignore[arg-type]
    assert refused.value.exit_code == 3


def test_sizes_shares_and_splits_are_read_as_people_write_them() -> None:
    assert (read_size("512MB"), read_size("1.5 KiB"), read_size(7)) == (512_000_000, 1536, 7)
    assert (read_share("1%"), read_share("0.25")) == (0.01, 0.25)
    assert read_split("train=0.95, val=.05") == {"train": 0.95, "val": 0.05}
    for wrong in (lambda: read_size("big"), lambda: read_share("120%"), lambda: read_split("train")):
        with pytest.raises(MuseError):
            wrong()
