"""Small shards made of built-in scenes, and tars written by hand to be broken."""

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from muse_core.data.writer import write_scene_shards

MakeTar = Callable[[str, list[tuple[str, bytes]]], Path]


@pytest.fixture(scope="session")
def scene_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight shards of six scenes."""
    return write_scene_shards("train", 48, tmp_path_factory.mktemp("shards") / "s", per_shard=6, size=32).folder


@pytest.fixture
def make_tar(tmp_path: Path) -> MakeTar:
    """Write members, in the order given, to a tar of a name."""

    def make(name: str, members: list[tuple[str, bytes]]) -> Path:
        path = tmp_path / name
        with tarfile.open(path, "w") as tar:
            for member, content in members:
                entry = tarfile.TarInfo(member)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        return path

    return make


def picture(width: int = 20, height: int = 16, kind: str = "PNG", mode: str = "RGB") -> bytes:
    """The bytes of some picture."""
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind)
    return stream.getvalue()


def good(count: int, first: int = 0) -> list[tuple[str, bytes]]:
    """Members of `count` usable samples."""
    return [
        member
        for number in range(first, first + count)
        for member in ((f"{number:05d}.jpg", picture(kind="JPEG")), (f"{number:05d}.txt", b"a picture"))
    ]


def with_suffixes(key: str, members: Mapping[str, bytes]) -> list[tuple[str, bytes]]:
    """Members of one sample."""
    return [(f"{key}.{suffix}", content) for suffix, content in members.items()]
