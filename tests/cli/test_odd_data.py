"""Corrupt, unlabelled, one-class, empty and mask-less shards: a clear error or a counted skip, never a wrong number."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from muse_core.errors import ExitCode
from tests.cli.conftest import Muse

Shard = Callable[..., str]
SIDE = 64


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    """Write `count` noise pictures to a tar, with what is asked for beside each; `spoilt` of them are no pictures."""

    def make(name: str, count: int = 8, *, labels: int = 0, classes: int = 0, spoilt: int = 0, seed: int = 0) -> str:
        draws = np.random.default_rng(seed)
        path = tmp_path / name
        with tarfile.open(path, "w") as tar:
            for number in range(count):
                picture = png(draws.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
                members = {"png": b"no picture" if number < spoilt else picture}
                if labels:
                    members["cls"] = str(number % labels).encode()
                if classes:
                    members["seg.png"] = png(draws.integers(0, classes, (SIDE, SIDE), dtype=np.uint8))
                for suffix, content in members.items():
                    entry = tarfile.TarInfo(f"{number:04d}.{suffix}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
        return str(path)

    return make


CLASSES = ("--classes", "names.txt")


@pytest.fixture(autouse=True)
def names(tmp_path: Path) -> None:
    Path("names.txt").write_text("cat\ndog\nowl\n")


def test_corrupt_pictures_are_counted(muse: Muse, shard: Shard) -> None:
    ended = muse("eval", "tiny", "--data", shard("a.tar", 8, spoilt=3), "--metric", "psnr", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["counts"]["seen"] == 5
    assert sum(ended.json["counts"]["skipped"].values()) == 3
    assert ended.json["protocol"]["images"] == 5


def test_unlabelled_pictures_are_counted_where_labels_are_needed(muse: Muse, shard: Shard) -> None:
    shard("a.tar", 6, labels=3)
    shard("b.tar", 2, seed=1)
    ended = muse("zeroshot", "tiny", "--data", "{a,b}.tar", *CLASSES, "--json")
    assert ended.code == 0, ended.err
    assert ended.json["counts"] == {"seen": 8, "skipped": {"unlabelled": 2}}


def linear(train: str, validation: str) -> tuple[str, ...]:
    return ("probe", "linear", "tiny", "--data", train, "--val-data", validation, "--epochs", "1", "--least-steps", "2")


def segment(train: str, validation: str) -> tuple[str, ...]:
    return ("segment", "tiny", "--data", train, "--val-data", validation, "--epochs", "1")


def test_what_says_nothing_is_an_error_with_a_sentence(muse: Muse, shard: Shard, tmp_path: Path) -> None:
    plain, spoilt = shard("plain.tar"), shard("spoilt.tar", 4, spoilt=4)
    one, two = shard("one.tar", labels=1), shard("two.tar", labels=2, seed=1)
    masks, flat = shard("masks.tar", classes=3, seed=2), shard("flat.tar", classes=1, seed=3)
    empty = shard("empty.tar", 0)
    cases = [
        (("eval", "tiny", "--data", empty), "empty.tar: 1 x shard holds no samples\n"),
        (("eval", "tiny", "--data", spoilt), "spoilt.tar: 4 x image cannot be decoded\n"),
        (("eval", "tiny", "--data", "missing.tar"), "missing.tar"),
        (("zeroshot", "tiny", "--data", plain, *CLASSES), "has a label"),
        (("zeroshot", "tiny", "--data", two), "does not say what its labels mean"),
        (linear(plain, two), "has a label"),
        (linear(two, plain), "has a label"),
        (linear(one, two), "at least two classes"),
        (("probe", "knn", "tiny", "--data", one, "--val-data", two, "--k", "1"), "at least two classes"),
        (linear(two, two), "begin with the same sample"),
        (segment(plain, masks), "has a mask"),
        (segment(masks, plain), "has a mask"),
        (segment(flat, masks), "hold 1 class,"),
        (("probe", "conflict", "tiny", "--val-data", plain), "no captions"),
    ]
    found = [(muse(*arguments), what) for arguments, what in cases]
    wrong = [(ended.err, what) for ended, what in found if what not in ended.err or ended.code != ExitCode.FILE]
    assert wrong == []
    assert all(not ended.out for ended, _ in found)
    assert all("{" not in ended.err and "['" not in ended.err for ended, _ in found)
