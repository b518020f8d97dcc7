"""A stranger's package, made from exactly the code blocks of README and docs/plugins.md, installs and works."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Add a probe")[2].partition("\n## ")[0]
PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
FILE = re.compile(
    r"^`(?P<name>[\w./-]+\.(?:py|toml))`[^`]*?(?:`[^`]*`[^`]*?)*?:\n\n```\w+\n(?P<text>.*?)```", re.M | re.S
)


def files(text: str) -> dict[str, str]:
    """The files that a page shows: a paragraph that begins with a file's name, then a block."""
    return {found["name"]: found["text"] for found in FILE.finditer(text)}


def commands(text: str) -> list[str]:
    lines = [line for block in re.findall(r"```console\n(.*?)```", text, re.S) for line in block.splitlines()]
    return [line for line in lines if line.startswith("muse ")]


def install(shown: dict[str, str], folder: Path) -> Path:
    """Write the files that are shown, and nothing else, and install them as `pip install .` does, into a folder."""
    source, site = folder / "source", folder / "site"
    for name, text in shown.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), "."], cwd=source, check=True, capture_output=True)
    return site


def run(line: str, site: Path, folder: Path) -> dict[str, Any]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MUSE_")}
    paths = os.pathsep.join([str(site), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "muse_cli", *shlex.split(line)[1:], "--json"],
        cwd=folder,
        env={**inherited, "PYTHONPATH": paths, "MUSE_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{line}: {done.stderr}"
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.mark.slow
def test_the_readmes_tutorial_alone_makes_a_probe_that_works(tmp_path: Path) -> None:
    shown = files(README)
    assert set(shown) == {"pyproject.toml", "muse_example_probe/__init__.py", "muse_example_probe/work.py"}
    site = install(shown, tmp_path)
    measured, checked = [run(line, site, tmp_path) for line in commands(README)]
    assert 0 < measured["metrics"]["share"] < 1 < measured["metrics"]["dimensions"] < 64
    assert measured["counts"] == {"seen": 64, "skipped": {}}
    assert measured["protocol"]["features"] == "pooled"
    assert (measured["protocol"]["data"], measured["protocol"]["images"]) == ("demo:val", 64)
    assert checked["plugins"][0]["problem"] is None


@pytest.mark.slow
def test_one_of_each_kind_works_as_the_page_shows_it(tmp_path: Path) -> None:
    shown = files(PAGE)
    assert len(shown) == 7
    site = install(shown, tmp_path)
    Image.fromarray(np.full((20, 20, 3), 128, np.uint8)).save(tmp_path / "photo.jpg")
    said = {line: run(line, site, tmp_path) for line in commands(PAGE)}
    answers = list(said.values())
    assert answers[1]["brightness"] == pytest.approx(0.5, abs=0.01)
    assert answers[2]["metrics"]["spread"] > 0
    assert answers[2]["protocol"]["power"] == 1
    assert 0 < answers[3]["metrics"]["mae"] < 0.2
    assert answers[4]["metrics"]["psnr"] > 10
    assert "noise" in [next(iter(row.values())) for row in answers[5]["generators"]]
    for kind, name in (
        ("metric", "mae"),
        ("tokenizer", "thumbnail"),
        ("generator", "noise"),
        ("command", "brightness"),
    ):
        checked = run(f"muse plugins check {name}", site, tmp_path)["plugins"]
        assert [(one["kind"], one["problem"]) for one in checked] == [(kind, None)]


def test_what_the_readme_shows_is_the_example_that_ships() -> None:
    shown = files(README)
    for name, text in shown.items():
        assert (ROOT / "plugins" / "muse-example-probe" / name).read_text(encoding="utf-8") == text


def public() -> dict[str, list[str]]:
    rows = re.findall(r"^\| `(muse_c[\w.]+)` \| (.*) \|$", PAGE, re.M)
    return {module: re.findall(r"`(\w+)`", names) for module, names in rows}


@pytest.mark.parametrize("module", public())
def test_every_import_path_of_the_page_exists(module: str) -> None:
    found = import_module(module)
    assert [name for name in public()[module] if not hasattr(found, name)] == []


def test_the_shipped_plugins_and_the_page_import_nothing_else() -> None:
    allowed, private = public(), []
    shipped = {str(path): path.read_text(encoding="utf-8") for path in (ROOT / "plugins").rglob("*.py")}
    shown = {name: text for page in (README, PAGE) for name, text in files(page).items() if name.endswith(".py")}
    for place, text in {**shipped, **shown}.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                private += [f"{place}: {one.name}" for one in node.names if one.name.startswith("muse_c")]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in (
                "muse_core",
                "muse_cli",
            ):
                names = [one.name for one in node.names if one.name not in allowed.get(str(node.module), [])]
                private += [f"{place}: {node.module}.{name}" for name in names]
    assert private == []
