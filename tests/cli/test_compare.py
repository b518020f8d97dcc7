"""`muse compare`: the shipped tokenizers and every rival, from files in their published layouts, with no network."""

import csv
import json
from pathlib import Path

import pytest

from muse_core.errors import ExitCode
from tests.baselines import published
from tests.cli.conftest import Muse

QUICK = ("probe_epochs=1", "probe_steps=5", "segment_epochs=1")
SHORT = ["--data", "demo:val", "--limit", "6", "--train-limit", "16"]
SHORT += [word for one in QUICK for word in ("--set", one)]
RIVALS = [name for name in published.WRITERS if name != "unilip-448"]


def generator(folder: Path) -> list[str]:
    """Options that give VA-VAE a generator of few and short samples."""
    where = f"va-vae=lightningdit:{published.lightningdit(folder / 'dit')}"
    return ["--generator", where, "--samples", "12", "--set", "sample_points=3"]


@pytest.mark.slow
def test_the_whole_table(muse: Muse, tmp_path: Path) -> None:
    wheres = ["tiny", "tiny-encoder", *(published.write(name, tmp_path / "weights" / name) for name in RIVALS)]
    ended = muse("compare", *wheres, *SHORT, *generator(tmp_path), "--size-px", "64", "--out", "comparison")
    assert ended.code == 0, ended.err
    header, *rows = ended.out.splitlines()[: len(wheres) + 2]
    for title in (
        "rFID",
        "FD tiny-CLIP",
        "PSNR, dB",
        "SSIM",
        "gFID",
        "gFD tiny-CLIP",
        "zero-shot",
        "linear probe",
        "mIoU",
    ):
        assert title in header
    names = ["muse-tiny", "tiny-encoder", "VQGAN", "LlamaGen VQ", "VA-VAE", "SD-VAE", "FLUX-VAE", "DC-AE", "UniLIP 224"]
    names += ["UniLIP padded", "VTP", "InternViT", "DINOv3", "OpenCLIP", "protocol"]
    assert all(row.startswith(name) for row, name in zip(rows, names, strict=True))
    assert "no alignment with text" in ended.out
    assert "published elsewhere" in ended.out
    assert "gFID of VA-VAE: generator LightningDiT, 3 layers of 64, patch 1; samples 12; sampler Euler, 3" in ended.out

    document = json.loads(Path("comparison/comparison.json").read_text())
    columns = [one["table"] for one in document["measured"]]
    for measure in ("eval psnr", "zeroshot top1", "probe linear top1", "segment miou"):
        # One protocol for all: had a tokenizer changed it, its number would stand in a column of its own.
        assert len({table[measure]["column"] for table in columns if measure in table}) == 1
    assert [one["tokenizer"] for one in document["measured"] if "generate gfd-tiny-clip" in one["table"]] == ["VA-VAE"]
    able = {one["tokenizer"]: set(one["table"]) for one in document["measured"]}
    assert {name for name, has in able.items() if "zeroshot top1" in has} == {
        "muse-tiny", "tiny-encoder", "VTP (vtp)", "OpenCLIP",
    }  # fmt: skip
    assert all("probe linear top1" in has and "segment miou" in has for has in able.values())
    kinds = {row["kind"] for row in csv.DictReader(Path("comparison/table.csv").read_text().splitlines())}
    assert kinds == {"measured", "missing", "published"}
    assert "## Published elsewhere" in Path("comparison/table.md").read_text()
    page = Path("comparison/report.html").read_text()
    assert page.count('class="pareto"') == 3
    # What it leaves behind is what `muse report` reads.
    assert muse("report", "comparison/VQGAN", "comparison/muse-tiny", "--out", "two.html").code == 0


def test_one_of_one_name_is_told_by_what_was_typed(muse: Muse, tmp_path: Path) -> None:
    one, two = (published.write("openclip", tmp_path / name) for name in ("one", "two"))
    document = muse("compare", one, two, *SHORT, "--measure", "zeroshot", "--json").json
    assert [row["tokenizer"] for row in document["measured"]] == [f"OpenCLIP ({one})", f"OpenCLIP ({two})"]
    assert document["published"][0]["source"] == "open_clip, results table"


def test_gfid_of_the_one_that_has_a_generator(muse: Muse, tmp_path: Path) -> None:
    va_vae = published.write("va-vae", tmp_path / "va-vae")
    ended = muse(
        "compare", "tiny", va_vae, "tiny-encoder", *generator(tmp_path), *SHORT, "--measure", "generate",
        "--size-px", "64", "--json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    tiny, rival, encoder = ended.json["measured"]
    assert rival["table"]["generate gfd-tiny-clip"]["value"] > 0
    assert "Inception" in rival["scores"][0]["not_measured"]["gfid"]
    assert "latents normalised by the statistics beside the tokenizer" in rival["scores"][0]["notes"]
    assert "--generator TOKENIZER=NAME:PATH" in tiny["missing"]["generate"]
    assert encoder["missing"]["generate"] == "not supported: it has no decoder"


def test_without_a_generator_the_gfid_column_says_so(muse: Muse) -> None:
    ended = muse("compare", "tiny", *SHORT, "--measure", "generate,zeroshot")
    assert "gFID" in ended.out.splitlines()[0]
    assert "gFID: no generator was given for it" in ended.out


def test_a_table_of_nothing_is_an_error_with_the_reasons(muse: Muse) -> None:
    ended = muse("compare", "tiny", "tiny-encoder", *SHORT, "--measure", "generate")
    assert (ended.code, ended.out) == (ExitCode.FILE, "")
    assert "nothing could be measured:" in ended.err
    assert "generate: no generator was given for it" in ended.err
    assert "generate: not supported: it has no decoder" in ended.err


def test_a_generator_that_fits_nothing_is_refused_before_anything_is_measured(muse: Muse, tmp_path: Path) -> None:
    where = f"lightningdit:{published.lightningdit(tmp_path / 'dit')}"
    unknown = muse("compare", "tiny", *SHORT, "--generator", f"vqgan={where}")
    assert (unknown.code, "does not name one of the tokenizers" in unknown.err) == (ExitCode.USAGE, True)
    other = muse("compare", "tiny", *SHORT, "--generator", f"tiny={where}")
    assert (other.code, "makes 8 channels on 4 x 4 cells" in other.err) == (ExitCode.FILE, True)
    absent = muse("compare", "tiny", *SHORT, "--generator", "tiny=lightningdit:none.pt")
    assert (absent.code, "none.pt" in absent.err) == (ExitCode.FILE, True)


def test_what_cannot_be_compared_is_refused_before_anything_is_measured(muse: Muse, tmp_path: Path) -> None:
    twice = muse("compare", "tiny", "tiny", *SHORT)
    assert (twice.code, "named twice" in twice.err) == (ExitCode.USAGE, True)
    absent = muse("compare", "tiny", f"vqgan:{tmp_path}/none.ckpt", *SHORT)
    assert (absent.code, "none.ckpt" in absent.err) == (ExitCode.FILE, True)
    unknown = muse("compare", "tiny", *SHORT, "--measure", "beauty")
    assert unknown.code == ExitCode.SETTINGS
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    full = muse("compare", "tiny", *SHORT, "--out", "full")
    assert (full.code, "not empty" in full.err) == (ExitCode.FILE, True)
