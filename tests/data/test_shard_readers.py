"""Shards that `muse shard` writes are read by everything that reads such tars, and hold what went in."""

import hashlib
import json
import subprocess
import tarfile
from pathlib import Path

import datasets
import pytest
import webdataset

from muse_core.data.sample import Sample
from muse_core.data.sharding.options import ShardOptions
from muse_core.data.sharding.shard import shard
from muse_core.data.sharding.tar import header
from muse_core.data.shards import ShardSource
from tests.data.conftest import picture
from tests.data.test_shard_tree import mask, put

COUNT = 7


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """Pictures with everything that can lie beside one."""
    found: dict[str, bytes] = {}
    for number in range(COUNT):
        found[f"{number}.jpg"] = picture(20 + number, kind="JPEG")
        found[f"{number}.txt"] = f"picture {number}".encode()
        found[f"{number}.cls"] = str(number % 3).encode()
        found[f"{number}.json"] = json.dumps({"number": number}).encode()
        found[f"{number}.seg.png"] = mask(20 + number)
    return found


@pytest.fixture(scope="module")
def shards(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tars of them."""
    folder = tmp_path_factory.mktemp("readers")
    shard(str(put(folder / "in", files)), str(folder / "out"), ShardOptions(per_shard=4, verify=True), workers=1)
    return folder / "out"


def test_index_checksums_are_those_of_the_files(shards: Path) -> None:
    index = json.loads((shards / "index.json").read_text())
    assert [entry["count"] for entry in index["shards"]] == [4, 3]
    for entry in index["shards"]:
        content = (shards / entry["name"]).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("name", ["00000.jpg", "00001.seg.png", "a" * 100])
@pytest.mark.parametrize("size", [0, 1, 123_456_789, 8**11 - 1])
def test_headers_are_those_of_the_tarfile_module(name: str, size: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o644, 0
    assert header(name, size) == entry.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(("name", "size"), [("a" * 101, 0), ("a", 8**11)])
def test_what_does_not_fit_into_a_plain_tar_is_refused(name: str, size: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        header(name, size)


def test_plain_tar_unpacks_the_very_bytes(shards: Path, files: dict[str, bytes], tmp_path: Path) -> None:
    for tar in sorted(shards.glob("*.tar")):
        subprocess.run(["tar", "-xf", str(tar), "-C", str(tmp_path)], check=True)
    unpacked = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert unpacked == {f"{name.partition('.')[0]:0>5}.{name.partition('.')[2]}": files[name] for name in files}


def test_plain_tar_finds_nothing_behind_the_end(shards: Path) -> None:
    listed = subprocess.run(["tar", "-tvf", str(shards / "000000.tar")], capture_output=True, text=True, check=True)
    assert (listed.stderr, len(listed.stdout.splitlines())) == ("", 4 * 5)
    assert (shards / "000000.tar").stat().st_size % 10_240 == 0


def test_webdataset_reads_them(shards: Path, files: dict[str, bytes]) -> None:
    data = webdataset.WebDataset(str(shards / "{000000..000001}.tar"), shardshuffle=False).decode("pil")
    samples = list(data)
    assert [one["__key__"] for one in samples] == [f"{number:05d}" for number in range(COUNT)]
    assert [one["txt"] for one in samples] == [f"picture {number}" for number in range(COUNT)]
    assert [(one["cls"], one["json"]["number"]) for one in samples] == [(n % 3, n) for n in range(COUNT)]
    assert [one["jpg"].size for one in samples] == [one["seg.png"].size for one in samples]


def test_muse_reads_them_and_counts_no_damage(shards: Path) -> None:
    samples = list(ShardSource(str(shards)).once())
    assert all(isinstance(sample, Sample) and sample.mask is not None for sample in samples)
    assert [sample.caption for sample in samples if isinstance(sample, Sample)] == [
        f"picture {n}" for n in range(COUNT)
    ]


def test_hugging_face_datasets_reads_them(shards: Path, tmp_path: Path) -> None:
    data = datasets.load_dataset(
        "webdataset", data_files=str(shards / "*.tar"), split="train", streaming=True, cache_dir=str(tmp_path)
    )
    samples = list(data)
    assert [one["__key__"] for one in samples] == [f"{number:05d}" for number in range(COUNT)]
    assert [one["txt"] for one in samples] == [f"picture {number}" for number in range(COUNT)]
    assert [one["jpg"].size[0] for one in samples] == [20 + number for number in range(COUNT)]
