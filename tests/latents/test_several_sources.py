"""Latents of several sources lie one after the other, as if each had been written alone."""

from pathlib import Path

import torch

from muse_core.data.writer import write_scene_shards
from muse_core.latents.members import read_latents
from muse_core.latents.team import write_latents
from muse_core.latents.write import LatentJob
from tests.cli.conftest import Muse, muse as muse

SIZE = 32


def test_each_is_written_whole_whatever_its_ratio(tmp_path: Path) -> None:
    shards = write_scene_shards("val", 7, tmp_path / "shards", per_shard=5, size=SIZE).folder
    sources = (str(shards), "demo:train:3")
    report = write_latents(LatentJob(f"0.7 {sources[0]} + 0.3 {sources[1]}", "tiny", SIZE), tmp_path / "all")
    alone = [write_latents(LatentJob(one, "tiny", SIZE), tmp_path / f"{n}") for n, one in enumerate(sources)]
    assert (report.samples, report.shards) == (7 + 3, 2 + 1)
    expected = [one for part in alone for one in read_latents(part.folder)]
    for one, same in zip(read_latents(report.folder), expected, strict=True):
        assert (one.key, one.caption) == (same.key, same.caption)
        assert torch.equal(one.z, same.z)
    assert report.stats.count == sum(part.stats.count for part in alone)


def test_they_are_inspected_as_latents(muse: Muse, tmp_path: Path) -> None:
    folder = write_latents(LatentJob("demo:val:3", "tiny", SIZE), tmp_path / "l").folder
    ended = muse("inspect", str(folder), "--json")
    assert ended.code == 0, ended.err
    assert (ended.json["kind"], ended.json["samples"], ended.json["shards"]) == ("latents", 3, 1)
    tar = folder / "000000.tar"
    content = bytearray(tar.read_bytes())
    content[2000] ^= 1
    tar.write_bytes(bytes(content))
    ended = muse("inspect", str(folder))
    assert ended.code == 8
    assert "checksum differs from the index" in ended.err


def test_several_words_are_refused_with_the_one_that_means_them(muse: Muse, tmp_path: Path) -> None:
    ended = muse("infer", "a", "demo:val:3", "--checkpoint", "tiny", "--latents", str(tmp_path / "l"))
    assert ended.code == 2
    assert '"a + demo:val:3"' in ended.err
    assert not (tmp_path / "l").exists()
