"""Latents on disk are what the tokenizer gives, their statistics are numpy's, and nothing depends on who wrote them."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import webdataset

from muse_core.data.loader import eval_batches
from muse_core.data.shards import find_shards, read_index
from muse_core.data.source import open_source
from muse_core.data.writer import write_scene_shards
from muse_core.errors import MuseError
from muse_core.latents import write as writing
from muse_core.latents.members import read_latents
from muse_core.latents.team import write_latents
from muse_core.latents.write import LatentJob
from muse_core.model.latent_stats import LatentStats, Moments
from muse_core.model.load import load_tokenizer
from tests.cli.conftest import Muse, muse as muse

SIZE = 32


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene_shards("val", 14, tmp_path_factory.mktemp("s") / "shards", per_shard=5, size=SIZE).folder


@pytest.fixture(scope="module")
def job(shards: Path) -> LatentJob:
    return LatentJob(str(shards), "tiny", SIZE, flips=True, batch_size=4)


@pytest.fixture(scope="module")
def written(job: LatentJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_latents(job, tmp_path_factory.mktemp("l") / "latents").folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_decoding_what_was_stored_is_the_reconstruction(shards: Path, written: Path) -> None:
    tokenizer = load_tokenizer("tiny")
    stored = list(read_latents(written))
    batches = [
        batch
        for n in range(3)
        for batch in eval_batches(open_source(str(shards / f"{n:06d}.tar")), batch_size=4, size=SIZE)
    ]
    assert [one.key for one in stored] == [key for batch in batches for key in batch.keys]
    assert [one.caption for one in stored] == [caption for batch in batches for caption in batch.captions]
    assert [one.label for one in stored] == torch.cat([batch.labels for batch in batches]).tolist()
    for batch in batches:
        mine = [one for one in stored if one.key in batch.keys]
        z = torch.stack([one.z for one in mine])
        assert torch.equal(z, tokenizer.encode(batch.images).z)
        reconstruction = tokenizer.decode(tokenizer.encode(batch.images).z, (SIZE, SIZE))
        # How tensors lie in memory picks the kernels of a convolution, hence last digits.
        torch.testing.assert_close(tokenizer.decode(z, mine[0].size), reconstruction, rtol=0, atol=1e-5)
        flipped = torch.stack([one.flipped for one in mine if one.flipped is not None])
        assert torch.equal(flipped, tokenizer.encode(batch.images.flip(-1)).z)


def test_the_statistics_are_those_of_numpy_over_everything_stored(written: Path) -> None:
    every = [z.numpy() for one in read_latents(written) for z in (one.z, one.flipped) if z is not None]
    values = np.stack(every).astype(np.float64)
    stats = LatentStats.read(written)
    assert stats.count == values.size / values.shape[1]
    np.testing.assert_allclose(stats.mean, values.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(stats.std, values.std(axis=(0, 2, 3)), rtol=1e-12)
    z = torch.from_numpy(values)
    np.testing.assert_allclose(stats.normalize(z).std(dim=(0, 2, 3), correction=0), 1.0, rtol=1e-9)
    torch.testing.assert_close(stats.denormalize(stats.normalize(z)), z)


def test_one_pass_is_exact_where_sums_of_squares_are_not() -> None:
    z = torch.randn(64, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 1e-3 + 1e6
    moments = Moments.of(z[:1])
    for part in z[1:].split(5):
        moments = moments.merged(Moments.of(part))
    stats = LatentStats.of(moments)
    np.testing.assert_allclose(stats.std, z.numpy().std(axis=(0, 2, 3)), rtol=1e-6)
    naive = (z.float() ** 2).mean(dim=(0, 2, 3)) - z.float().mean(dim=(0, 2, 3)) ** 2
    assert not np.allclose(naive.clamp(min=0).sqrt(), stats.std, rtol=0.5)


def test_a_job_that_was_stopped_goes_on_and_ends_with_the_same_bytes(
    job: LatentJob, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = itertools.count()

    def dies(*args: Any) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt
        encode(*args)

    encode = writing._write_unit
    with monkeypatch.context() as patch:
        patch.setattr(writing, "_write_unit", dies)
        with pytest.raises(KeyboardInterrupt):
            write_latents(job, tmp_path / "l")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "l").glob("*.tar")}
    assert sorted(before) == ["000000.tar", "000001.tar"]
    with pytest.raises(MuseError) as refused:
        write_latents(job, tmp_path / "l")
    assert "--resume" in str(refused.value.hint)
    write_latents(job, tmp_path / "l", resume=True)
    assert {name: (tmp_path / "l" / name).stat().st_mtime_ns for name in before} == before
    assert contents(tmp_path / "l") == contents(written)


def test_another_job_does_not_go_on_in_the_same_folder(job: LatentJob, written: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(written, tmp_path / "l")
    with pytest.raises(MuseError, match="flips True there, False here"):
        write_latents(LatentJob(job.data, "tiny", SIZE, batch_size=4), folder, resume=True)
    (folder / "job.json").unlink()
    with pytest.raises(MuseError, match="holds no latents"):
        write_latents(job, folder, overwrite=True)
    assert (folder / "000000.tar").exists()


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one(
    job: LatentJob, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    write_latents(job, tmp_path / "l", devices=("cpu", "cpu"))
    assert contents(tmp_path / "l") == contents(written)


@pytest.mark.slow
def test_an_error_of_one_process_is_the_error_of_all(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(MuseError, match="no-such-run"):
        write_latents(LatentJob(str(shards), "no-such-run", SIZE), tmp_path / "l", devices=("cpu", "cpu"))


def test_npy_members_in_half_precision_are_read_by_webdataset(muse: Muse, shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "latents"
    arguments = ["--dtype", "float16", "--latent-format", "npy", "--size-px", str(SIZE), "--devices", "cpu"]
    ended = muse("infer", str(shards), "--checkpoint", "tiny", "--latents", str(folder), *arguments, "--json")
    assert ended.code == 0, ended.err
    assert (ended.json["samples"], ended.json["shards"]) == (14, 3)
    samples = list(webdataset.WebDataset(str(folder / "000000.tar"), shardshuffle=False).decode())
    ours = list(read_latents(folder))
    assert len(samples) == 5
    for theirs, one in zip(samples, ours, strict=False):
        assert theirs["latents.npy"].dtype == np.float16
        np.testing.assert_array_equal(theirs["latents.npy"], one.z.numpy())
        assert theirs["txt"] == one.caption
    assert list(one.flipped for one in ours) == [None] * 14


def test_damaged_images_are_counted_and_an_index_says_what_is_there(shards: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(shards, tmp_path / "shards")
    (folder / "index.json").unlink()
    (folder / "000001.tar").write_bytes((folder / "000001.tar").read_bytes()[:9000])
    report = write_latents(LatentJob(str(folder), "tiny", SIZE), tmp_path / "l")
    assert report.skipped == {"cut off by the end of its shard": 1}
    index = read_index(tmp_path / "l")
    assert index is not None
    assert index["count"] == report.samples == sum(1 for _ in read_latents(tmp_path / "l"))
    assert [shard.count for shard in find_shards(str(tmp_path / "l"), "train")] == [e["count"] for e in index["shards"]]


def test_scenes_need_no_shards(tmp_path: Path) -> None:
    report = write_latents(LatentJob("demo:val:3", "tiny", SIZE), tmp_path / "l")
    assert (report.samples, report.shards) == (3, 1)
    assert json.loads((tmp_path / "l" / "latents_stats.json").read_text())["data"] == "demo:val:3"


def test_words_that_make_no_sense_are_refused(muse: Muse, shards: Path, tmp_path: Path) -> None:
    for wrong in (["--dtype", "int8"], ["--latent-format", "zip"], ["--size-px", "native"], ["demo:val"]):
        ended = muse("infer", str(shards), *wrong, "--checkpoint", "tiny", "--latents", str(tmp_path / "l"))
        assert ended.code == 2, wrong
    assert not (tmp_path / "l").exists()
