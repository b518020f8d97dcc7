"""What a source holds is known without reading it through, and without fetching anything."""

import json
from pathlib import Path

import fsspec
import pytest

from muse_core.data import identity, places
from muse_core.data.identity import has_affected, identity_of, is_affected
from muse_core.data.source import absolute, open_source
from muse_core.data.writer import write_scene_shards
from tests.field.inputs import coded, flat, tar, turned


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene_shards("val", 6, tmp_path_factory.mktemp("s") / "shards", per_shard=3, size=16).folder


def test_checksums_come_from_the_index_as_long_as_it_describes_the_file(shards: Path, tmp_path: Path) -> None:
    index = json.loads((shards / "index.json").read_text())
    found = identity_of(open_source(str(shards))).files
    assert [(one.name, one.size, one.digest) for one in found] == [
        (one["name"], one["bytes"], f"sha256:{one['sha256']}") for one in index["shards"]
    ]
    for name in ("000000.tar", "000001.tar", "index.json"):
        (tmp_path / name).write_bytes((shards / name).read_bytes())
    with (tmp_path / "000001.tar").open("ab") as stream:
        stream.write(bytes(512))
    kinds = [one.digest.partition(":")[0] for one in identity_of(open_source(str(tmp_path))).files]
    assert kinds == ["sha256", "ends"]


def test_what_was_known_by_its_ends_is_looked_at_so_again_when_an_index_comes(shards: Path, tmp_path: Path) -> None:
    for name in ("000000.tar", "000001.tar"):
        (tmp_path / name).write_bytes((shards / name).read_bytes())
    before = identity_of(open_source(str(tmp_path)))
    (tmp_path / "index.json").write_bytes((shards / "index.json").read_bytes())
    assert before.compare(identity_of(open_source(str(tmp_path)), before)) == before.compare(before)


def test_a_shard_that_cannot_be_read_is_left_to_whoever_reads(tmp_path: Path) -> None:
    tar(tmp_path / "0.tar", [("0.jpg", coded(flat((1, 2, 3))))])
    source = open_source(str(tmp_path))
    (tmp_path / "0.tar").unlink()
    assert [file.digest for file in identity_of(source).files] == [""]


def test_of_addresses_nothing_is_fetched(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(f"{shards}/", "/identity-test/", recursive=True)
    try:
        with_index = identity_of(open_source("memory://identity-test"))
        memory.rm("/identity-test/index.json")
        source = open_source("memory://identity-test")
        monkeypatch.setattr(places, "_fetch", lambda *_: pytest.fail("fetched"))
        without = identity_of(source)
        assert has_affected(source)
    finally:
        memory.rm("/identity-test", recursive=True)
    assert with_index == identity_of(open_source(str(shards)))
    assert [(one.name, one.size, one.digest) for one in without.files] == [
        ("000000.tar", None, ""),
        ("000001.tar", None, ""),
    ]


def test_mixes_have_ratios_and_scenes_have_their_artwork(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = identity_of(open_source(f"3 {shards} + 1 demo", size=16))
    assert [part.facts.get("ratio") for part in mixed.parts] == [0.75, 0.25]
    assert len(mixed.files) == 2
    assert mixed.parts[1].facts["artwork"] == identity.artwork()
    other = identity_of(open_source(f"1 {shards} + 1 demo", size=16))
    assert mixed.compare(other).changed == ("ratio 0.75 there, 0.5 now", "ratio 0.25 there, 0.5 now")
    monkeypatch.setattr(identity, "artwork", lambda: "other")
    assert "artwork" in mixed.compare(identity_of(open_source(f"3 {shards} + 1 demo", size=16))).in_words()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("d", "/here/d"),
        ("./d/{000..127}.tar", "/here/d/{000..127}.tar"),
        ("d/*.tar", "/here/d/*.tar"),
        ("/abs/d", "/abs/d"),
        ("0.7 a/ + 0.3 /b", "0.7 /here/a + 0.3 /b"),
        ("a + demo:val", "/here/a + demo:val"),
        ("a::b", "/here/a::/here/b"),
        ("demo", "demo"),
        ("demo:val:3", "demo:val:3"),
        ("s3://bucket/d", "s3://bucket/d"),
        ("0.5 s3://bucket/d + 0.5 d", "0.5 s3://bucket/d + 0.5 /here/d"),
        ("pipe:cat x", "pipe:cat x"),
    ],
)
def test_a_source_is_named_as_from_any_folder(typed: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getcwd", lambda: "/here")
    assert absolute(typed) == expected


@pytest.mark.parametrize("folder", ["/a + b", "/set{1,2}", "/x*"])
def test_behind_a_folder_whose_name_would_be_read_otherwise_a_source_stays(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getcwd", lambda: folder)
    assert absolute("d") == "d"


def test_only_what_is_read_otherwise_is_affected(tmp_path: Path) -> None:
    plain = coded(flat((1, 2, 3)))
    assert not is_affected(plain)
    assert not is_affected(b"no image")
    assert is_affected(coded(flat((1, 2, 3)), exif=turned(6)))
    tar(tmp_path / "0.tar", [("0.jpg", plain), ("1.jpg", plain)])
    assert not has_affected(open_source(str(tmp_path)))
    tar(tmp_path / "1.tar", [("0.jpg", coded(flat((1, 2, 3)), exif=turned(3)))])
    assert has_affected(open_source(f"{tmp_path} + demo"))
    assert not has_affected(open_source("demo"))
