"""`infer`, `attn-viz`, `eval`, `zeroshot`, `probe` and `report` on an untrained tiny tokenizer with real files."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from muse_core.errors import ExitCode
from tests.cli.conftest import Muse, shell_environment

HEIGHT, WIDTH = 50, 70


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """The run as the newest one of this folder."""
    copy = tmp_path / "runs" / "mine"
    shutil.copytree(trained, copy)
    return copy


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture that is not square, and whose sides fit no cell."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    pixels = np.stack([rows * 5, columns * 3, rows + columns], -1).astype(np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


def test_infer_writes_a_reconstruction_of_the_pictures_own_size(muse: Muse, run: Path, photo: Path) -> None:
    ended = muse("infer", str(photo), "--json")
    assert ended.code == 0
    entry = ended.json["images"][0]
    assert (entry["height"], entry["width"], entry["latents"]) == (HEIGHT, WIDTH, [16, 7, 9])
    with Image.open(entry["out"]) as made:
        assert made.size == (WIDTH, HEIGHT)
    assert "using runs/mine, the newest finished run" in ended.err


def test_infer_scales_large_pictures_to_twice_the_training_size_unless_told(
    muse: Muse, run: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (300, 200)).save("large.png")
    sizes = {}
    for option in ([], ["--size-px", "native"], ["--size-px", "64"]):
        entry = muse("infer", "large.png", *option, "--json").json["images"][0]
        sizes[" ".join(option)] = (entry["height"], entry["width"])
    assert sizes == {"": (128, 192), "--size-px native": (200, 300), "--size-px 64": (64, 96)}


def test_infer_compares_and_writes_features(muse: Muse, run: Path, photo: Path, tmp_path: Path) -> None:
    ended = muse("infer", str(photo), "--compare", "--features", "f.npz", "--out", "made")
    assert ended.code == 0
    assert re.fullmatch(r"made/photo-compare.png  PSNR -?\d+\.\d\d dB\nf.npz\n", ended.out)
    with np.load("f.npz") as found:
        assert list(found["names"]) == [str(photo)]
        assert found["pooled"].shape == (1, 128)


def test_infer_names_and_counts_what_cannot_be_read(muse: Muse, run: Path, photo: Path, tmp_path: Path) -> None:
    Path("bad.jpg").write_text("this is text")
    ended = muse("infer", str(tmp_path / "*.*g"), "--out", "made", "--json")
    assert ended.code == 0
    assert [Path(name).name for name in ended.json["unread"]] == ["bad.jpg"]
    assert "1 of 2 could not be read" in ended.err
    none = muse("infer", "bad.jpg")
    assert none.code == ExitCode.FILE
    assert "none of the pictures could be read" in none.err
    assert muse("infer", "nothing/*.png").code == ExitCode.FILE


def test_attn_viz_draws_with_nothing_but_a_picture(muse: Muse, run: Path, photo: Path) -> None:
    ended = muse("attn-viz", str(photo))
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0] == "photo-attention.png"
    assert re.match(r"photo.png, query \d+,\d+ of \d+ x \d+; the most decided patch", lines[1])
    assert re.match(r".*block 1, mean of 4 heads.*: entropy \d\.\d\d nats \(\d+% of uniform\), mean reach", lines[2])
    assert Path("photo-attention.png").stat().st_size > 1000


def test_attn_viz_answers_for_points_heads_layers_and_the_teacher(muse: Muse, run: Path, photo: Path) -> None:
    arguments = [
        "--layer",
        "all",
        "--head",
        "2",
        "--query",
        "10,20",
        "--query",
        "60,40",
        "--teacher",
        "--style",
        "grid",
    ]
    ended = muse("attn-viz", str(photo), *arguments, "--out", "a.svg", "--json")
    assert ended.code == 0
    *maps, teacher = ended.json["maps"]
    assert [entry["note"] for entry in maps] == ["block 0, head 2", "block 1, head 2"]
    assert [(point["x"], point["y"]) for point in maps[0]["queries"]] == [(10, 20), (60, 40)]
    assert 0 < maps[0]["agreement_one_minus_tv"] < 1
    assert teacher["name"] == "teacher"
    assert Path("a.svg").read_text().lstrip().startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["--query", "10"], ExitCode.USAGE, "--query 10: expected X,Y in pixels"),
        (["--query", "900,3"], ExitCode.SETTINGS, "the query 900,3 lies outside photo.png"),
        (["--style", "foo"], ExitCode.SETTINGS, "style: must be overlay or grid, got 'foo'"),
        (["--head", "4"], ExitCode.SETTINGS, "has no head 4"),
        (["--out", "a.gif"], ExitCode.SETTINGS, "a.gif does not end in .png, .svg, .pdf or .html"),
        (["--checkpoint", "nowhere"], ExitCode.FILE, "nowhere does not exist"),
    ],
)
def test_attn_viz_refuses_with_a_sentence(
    muse: Muse, run: Path, photo: Path, arguments: list[str], code: int, what: str
) -> None:
    ended = muse("attn-viz", str(photo), *arguments)
    assert (ended.code, what in ended.err) == (code, True), ended.err


def test_a_tokenizer_without_the_ability_is_refused_by_name(muse: Muse, photo: Path) -> None:
    ended = muse("infer", str(photo), "--checkpoint", "tiny-encoder")
    assert ended.code == ExitCode.FILE
    assert re.search("tiny-encoder does not support this: it has .*featurizes.*, not encodes", ended.err)


def test_eval_prints_scores_with_their_protocol_and_keeps_them_with_the_run(muse: Muse, run: Path) -> None:
    ended = muse("eval", "--data", "demo:val", "--limit", "8", "--metric", "psnr", "--metric", "ssim")
    assert ended.code == 0
    for text in ("psnr", "ssim", "data: demo:val", "fingerprint: ", "partial: True", "8 images"):
        assert text in ended.out
    kept = json.loads((run / "results" / "eval.json").read_text())
    assert set(kept["metrics"]) == {"psnr", "ssim"}
    assert kept["protocol"]["fingerprint"] in ended.out


def test_eval_of_a_metric_that_does_not_exist_names_those_that_do(muse: Muse, run: Path) -> None:
    ended = muse("eval", "--metric", "pnsr")
    assert ended.code == ExitCode.USAGE
    assert "psnr" in ended.err


def test_zeroshot_reads_classes_and_templates_from_files(muse: Muse, run: Path) -> None:
    Path("templates.txt").write_text("{}\n\na {}\n")
    ended = muse("zeroshot", "--limit", "16", "--templates", "templates.txt", "--out", "z.json", "--json")
    assert ended.code == 0
    assert 0 <= ended.json["metrics"]["top1"] <= 1
    assert json.loads(Path("z.json").read_text()) == ended.json
    assert muse("zeroshot", "--templates", "missing.txt").code == ExitCode.FILE


def test_probe_options_come_from_its_settings_and_are_checked_by_them(muse: Muse, run: Path) -> None:
    ended = muse(
        *(
            "probe",
            "linear",
            "--data",
            "demo:train",
            "--val-data",
            "demo:val",
            "--limit",
            "48",
            "--train-limit",
            "64",
            "--json",
        ),
        *("--epochs", "2", "--least-steps", "5", "--rates", "0.1,0.3", "--decays", "0", "--features", "patch"),
    )
    assert ended.code == 0, ended.err
    recipe = ended.json["protocol"]["recipe"]
    assert (recipe["epochs"], recipe["rates"], recipe["features"]) == (2, [0.1, 0.3], "patch")
    assert (run / "results" / "probe-linear.json").exists()
    wrong = muse("probe", "linear", "--epochs", "0", "--features", "foo")
    assert wrong.code == ExitCode.SETTINGS
    assert "epochs: must be greater than or equal to 1, got 0 (from command line)" in wrong.err
    assert "features: must be pooled or patch, got 'foo' (from command line)" in wrong.err


def test_probe_without_a_name_lists_probes_and_whose_they_are(muse: Muse) -> None:
    ended = muse("probe")
    assert ended.code == 0
    assert re.search(r"linear +muse-tokenizer \S+ +How well a linear classifier reads", ended.out)


def test_report_is_one_file_that_names_the_run(muse: Muse, run: Path) -> None:
    muse("eval", "--limit", "8", "--metric", "psnr")
    ended = muse("report", "latest", "--out", "page.html")
    assert (ended.code, ended.out) == (0, "page.html\n")
    page = Path("page.html").read_text()
    assert "psnr" in page.lower()
    assert muse("report", "nowhere").code == ExitCode.FILE


EXAMPLE = Path(__file__).parents[2] / "plugins" / "muse-example-probe"


@pytest.fixture
def example(tmp_path: Path, distribution: Callable[..., Path]) -> Path:
    """The example plugin, installed from its folder."""
    site = distribution("muse-example-probe", "", "[muse.probes]\ndimensions = muse_example_probe:PROBE\n")
    shutil.copytree(EXAMPLE / "muse_example_probe", site / "muse_example_probe")
    return site


def test_the_example_plugin_measures(muse: Muse, example: Path, put_on_path: Callable[[Path], None]) -> None:
    put_on_path(example)
    ended = muse("probe", "dimensions", "tiny-encoder", "--val-data", "demo:val:24", "--features", "patch", "--json")
    assert ended.code == 0, ended.err
    assert 1 <= ended.json["metrics"]["dimensions"] <= 24
    assert ended.json["protocol"]["features"] == "patch"


def test_the_example_plugin_broken_on_purpose_ends_only_its_own_command(shell: Muse, example: Path) -> None:
    (example / "muse_example_probe" / "work.py").write_text("import a_package_that_does_not_exist")
    ended = shell("probe", "dimensions", "tiny-encoder", plugins=example)
    assert ended.code == ExitCode.PLUGIN
    assert "ModuleNotFoundError: No module named 'a_package_that_does_not_exist'" in ended.err
    assert shell("probe", "--help", plugins=example).code == 0
    assert shell_environment(example)["PYTHONPATH"].endswith(str(example))
