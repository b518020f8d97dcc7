"""What release 0.1.0 wrote is read by this one: runs, checkpoints, scores, shards, latents, exports."""

import json
from pathlib import Path

import pytest
import torch

import muse_core
from muse_core.data.sample import Sample
from muse_core.data.source import open_source
from muse_core.latents.members import read_latents
from muse_core.runs import RunFolder
from muse_core.settings.train import TrainSettings
from tests.cli.conftest import Muse, clean as clean, muse as muse
from tests.old.archive import ARCHIVE, FIXTURES, unpack
from tests.old.filling import back_to, lay_out
from tests.old.lines import MIDDLE, RUNS, STEPS

STAGES = {"runs/stage1": 1, "runs/stage2": 2, "runs/stage3": 3, "runs/shards1": 1}


def test_the_fixtures_are_small_and_say_which_commit_they_are_of() -> None:
    assert len((FIXTURES / "COMMIT").read_text().strip()) == 40
    assert ARCHIVE.stat().st_size < 1_000_000
    assert sum(path.stat().st_size for path in FIXTURES.rglob("*") if path.is_file()) < 2_000_000


def test_the_sources_of_0_1_0_unpack_with_weights_and_artwork_of_this_tree(tmp_path: Path) -> None:
    tree = unpack(tmp_path)
    assert '__version__ = "0.1.0"' in (tree / "muse_core" / "__init__.py").read_text()
    assert (tree / "muse_core/model/weights/tiny_checkpoint/model.safetensors").stat().st_size > 1_000_000
    assert "attn-viz = muse_cli" in (tree / "muse_tokenizer-0.1.0.dist-info" / "entry_points.txt").read_text()


@pytest.mark.parametrize("run", RUNS)
def test_a_runs_words_are_read(run: str) -> None:
    folder = RunFolder.open(FIXTURES / run)
    settings = TrainSettings.model_validate(folder.settings())
    assert (settings.run.stage, settings.run.size, settings.training.steps) == (STAGES[run], "tiny", STEPS)
    assert (folder.status.state, folder.status.step) == ("finished", STEPS)
    assert [record["step"] for record in folder.metrics() if "loss/pixel" in record] == list(range(1, STEPS + 1))


@pytest.mark.parametrize("run", RUNS)
def test_a_runs_checkpoint_is_a_tokenizer(run: str, tmp_path: Path) -> None:
    tokenizer = muse_core.load_tokenizer(str(lay_out(run, tmp_path)))
    latents = tokenizer.encode(torch.rand(1, 3, 32, 32))
    assert latents.z.shape[:2] == (1, 16)
    assert latents.z.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_a_run_goes_on_from_its_middle(run: str, muse: Muse, tmp_path: Path) -> None:
    folder = lay_out(run, tmp_path)
    lay_out("shards", tmp_path)
    back_to(MIDDLE, folder)
    ended = muse("train", "--resume", run)
    assert ended.code == 0, ended.err
    steps = [record["step"] for record in RunFolder(folder).metrics() if "loss/pixel" in record]
    assert steps == list(range(1, STEPS + 1))
    assert RunFolder(folder).status.state == "finished"


def test_a_report_shows_the_scores_of_a_run(muse: Muse, tmp_path: Path) -> None:
    run = lay_out("runs/stage3", tmp_path)
    ended = muse("report", str(run))
    assert ended.code == 0, ended.err
    page = (run / "report.html").read_text()
    assert all(f"{value:.2f}" in page for value in _scores(run, "eval", "psnr"))


def test_shards_are_read() -> None:
    samples = [item for item in open_source(str(FIXTURES / "shards")).once() if isinstance(item, Sample)]
    assert [sample.image.shape for sample in samples] == [(64, 64, 3)] * 16
    assert all(sample.caption and sample.label >= 0 for sample in samples)


def test_latents_are_read() -> None:
    latents = list(read_latents(FIXTURES / "latents"))
    stats = json.loads((FIXTURES / "latents" / "latents_stats.json").read_text())
    assert len(latents) == 16
    assert all(tuple(sample.z.shape) == tuple(stats["shape"]) for sample in latents)
    mean = torch.stack([sample.z.float() for sample in latents]).mean(dim=(0, 2, 3))
    assert torch.allclose(mean, torch.tensor(stats["mean"]), atol=2e-3)


def test_an_export_is_a_tokenizer(tmp_path: Path) -> None:
    tokenizer = muse_core.load_tokenizer(str(lay_out("export", tmp_path)))
    assert tokenizer.encode(torch.rand(1, 3, 32, 32)).z.isfinite().all()


@pytest.mark.parametrize("name", ["runs/stage1", "shards", "latents"])
def test_inspect_finds_nothing_wrong(name: str, muse: Muse, tmp_path: Path) -> None:
    folder = lay_out(name, tmp_path)
    ended = muse("inspect", str(folder), "--json")
    assert ended.code == 0, ended.out


def _scores(run: Path, command: str, metric: str) -> list[float]:
    return [json.loads((run / "results" / f"{command}.json").read_text())["metrics"][metric]]
