"""What the README shows is true: its commands run, its snippet runs, its tutorial is the example that ships."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import pictures, tiny
from muse_core.data.source import open_source
from muse_core.data.vocabulary import vocabulary_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
QUICK = {"MUSE_TRAIN__TRAINING__STEPS": "2", "OMP_NUM_THREADS": "1"}
ENDINGS = {"muse doctor": (0, 8), "muse train --stage 2 --size 1b --dry-run": (8,)}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    lines = [line for block in blocks("console") for line in block.splitlines()]
    return [line for line in lines if line.startswith("muse ") and line != "muse demo"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with a photograph in it."""
    folder = tmp_path_factory.mktemp("user")
    y, x = np.mgrid[0:90, 0:120]
    picture = np.stack([x * 2, y * 2, 255 - x], axis=-1).astype(np.uint8)
    Image.fromarray(picture).save(folder / "photo.jpg")
    return folder


@pytest.fixture(scope="module")
def environment(place: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MUSE_")}
    return {**inherited, **QUICK, "MUSE_RUNS": str(place / "runs"), "MUSE_CACHE": str(place / "cache")}


@pytest.mark.slow
@pytest.mark.parametrize("command", commands())
def test_every_muse_command_of_the_readme_runs(command: str, place: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command.replace("muse ", "muse_cli ", 1))],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode in ENDINGS.get(command, (0,)), done.stderr


def test_the_python_snippet_runs() -> None:
    (snippet,) = [block for block in blocks("python") if "load_tokenizer" in block]
    assert len([line for line in snippet.splitlines() if line and not line.startswith("import")]) <= 6
    scope: dict[str, object] = {}
    exec(compile(snippet, "README.md", "exec"), scope)
    assert scope["reconstruction"].shape == scope["images"].shape  # type: ignore[attr-defined]


def test_the_tutorial_is_the_example_that_ships() -> None:
    example = ROOT / "plugins" / "muse-example-probe"
    (declaration,) = [block for block in blocks("python") if "ProbeSpec(" in block]
    assert declaration.strip() in (example / "muse_example_probe" / "__init__.py").read_text(encoding="utf-8")
    (entry,) = blocks("toml")
    assert entry.strip() in (example / "pyproject.toml").read_text(encoding="utf-8")


def test_the_images_are_there_and_the_command_that_draws_them_stands_beside_them() -> None:
    shown = re.findall(r"!\[[^\]]+\]\((docs/images/[^)]+)\)", README)
    beside = (ROOT / "docs" / "images" / "README.md").read_text(encoding="utf-8")
    assert {ROOT / name for name in shown} == set((ROOT / "docs" / "images").glob("*.png"))
    assert all(f"`{Path(name).name}`" in beside for name in shown)
    assert "`python -m benchmarks.pictures`" in beside


@pytest.mark.slow
def test_that_command_draws_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))
    for draw, name in ((pictures.attention, "attention.png"), (pictures.samples, "samples.png")):
        draw(tmp_path / name)
        with Image.open(tmp_path / name) as drawn, Image.open(ROOT / "docs" / "images" / name) as kept:
            assert drawn.size == kept.size
            difference = np.abs(np.asarray(drawn.convert("RGB"), int) - np.asarray(kept.convert("RGB"), int))
        assert difference.mean() < 3, "what is drawn today is what the README shows"


def test_make_knows_the_two_commands() -> None:
    for target in ("demo", "test"):
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert {"demo": "muse demo", "test": "pytest"}[target] in done.stdout


def test_linked_files_exist() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link


def test_numbers_with_a_spread_are_those_of_the_ablation() -> None:
    found = re.findall(r"([+-][\d.]+) ± ([\d.]+) (dB PSNR|points of mIoU)", README)
    assert [what for *_, what in found] == ["dB PSNR", "points of mIoU"]
    ablation = (ROOT / "docs" / "ablation.md").read_text(encoding="utf-8")
    ours = ablation.partition("## Does it hold at tiny's own length?")[2].partition("| claim | compared |")[2]
    ours = ours.partition("`default` over `joint`")[2].partition("`default` over")[0]
    for value, spread, what in found:
        name = {"dB PSNR": "PSNR, dB", "points of mIoU": "mIoU"}[what]
        row = re.search(rf"\| {name} \| \**([+-][\d.]+) ± ([\d.]+)", ours)
        assert row is not None, name
        digits = len(value.partition(".")[2])
        assert (value, spread) == (f"{float(row[1]):+.{digits}f}", f"{float(row[2]):.{digits}f}"), name


def test_shares_and_counts_are_those_of_what_they_count() -> None:
    speed = (ROOT / "docs" / "training-speed.md").read_text(encoding="utf-8")
    assert re.findall(r"a share of (\d+) % for torch's allocator", README) == re.findall(
        r"(\d+) % for the allocator", speed
    )
    baselines = (ROOT / "plugins" / "muse-baselines" / "pyproject.toml").read_text(encoding="utf-8")
    rivals = tomllib.loads(baselines)["project"]["entry-points"]["muse.tokenizers"]
    assert {"thirteen": 13}[re.findall(r"adds (\w+) rivals' tokenizers", README)[0]] == len(rivals)
    classes = vocabulary_of(open_source("demo:val:1", split="val", size=32)).classes or ()
    assert int(re.findall(r"of (\d+) kinds of things", README)[0]) == len(classes)
    results = (ROOT / "docs" / "tiny-results.md").read_text(encoding="utf-8")
    assert f"the {len(classes)} classes" in results


def test_the_table_of_what_ships_names_the_commands_that_print_it() -> None:
    text = (ROOT / "docs" / "tiny-results.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([\d.]+)% \|[^|]*\| `(muse [^`]+)` \|$", text, flags=re.MULTILINE)
    assert [(title, command) for title, _, command in rows] == [(title, command) for title, command, *_ in tiny.SHIPPED]
