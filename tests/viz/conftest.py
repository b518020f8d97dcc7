import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from muse_core.viz.maps import AttentionMap
from tests.viz.browser import Page, browser, find_browser

Floats = NDArray[np.float32]


def picture(height: int, width: int, seed: int = 0) -> Floats:
    """An image (3, H, W) with a different colour in every corner."""
    noise = np.random.default_rng(seed).uniform(0, 0.1, (3, height, width))
    rows, columns = np.mgrid[:height, :width]
    plain = np.stack([rows / height, columns / width, 1 - rows / height])
    return (0.9 * plain + noise).astype(np.float32)


def weights(grid: tuple[int, int], heads: int = 2, seed: int = 0) -> Floats:
    """Attention (heads, N, N) whose rows sum to 1."""
    patches = grid[0] * grid[1]
    return np.random.default_rng(seed).dirichlet(np.ones(patches), (heads, patches)).astype(np.float32)


def pointing(grid: tuple[int, int], to: int) -> AttentionMap:
    """A map in which every patch looks at one."""
    matrix = np.zeros((grid[0] * grid[1],) * 2, np.float32)
    matrix[:, to] = 1.0
    return AttentionMap("pointing", matrix, grid)


def scores(
    metrics: Mapping[str, float],
    fingerprint: str,
    *,
    command: str = "eval",
    baselines: Mapping[str, Mapping[str, float]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A results file as `Scores.to_json` writes it."""
    return {
        "command": command,
        "muse": "0.1.0",
        "tokenizer": "tiny",
        "checkpoint": None,
        "protocol": {"data": "demo:val", "images": 2000, "size": 64, "fingerprint": fingerprint},
        "columns": dict.fromkeys(metrics, fingerprint),
        "metrics": dict(metrics),
        "baselines": dict(baselines or {}),
        "counts": {"seen": 2000, "skipped": {"undecodable": 3}},
        "tables": {"per class": [{"class": "owl", "top1": 0.5}]},
        "notes": ["In-vocabulary, same sprites."],
        "not_measured": {"rfid": "the Inception weights are not on disk"},
        "seconds": 12.0,
        **more,
    }


def write_run(
    folder: Path,
    *,
    stage: int = 1,
    results: Mapping[str, Mapping[str, Any]] | None = None,
    samples: tuple[int, ...] = (100, 200),
    state: Mapping[str, Any] | None = None,
) -> Path:
    """Write a run folder as training leaves it behind."""
    for part in ("samples", "results"):
        (folder / part).mkdir(parents=True)
    run = {"stage": stage, "size": "tiny", "seed": 0}
    settings = {"run": run, "data": {"train": "demo"}, "optim": {"lr": 2e-3}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    origins = {"run.stage": "command line", "run.size": "preset", "run.seed": "default", "optim.lr": "preset"}
    environment = {"versions": {"torch": "2.6.0"}, "cores": 2, "command": f"muse train --stage {stage}"}
    status = {"state": "finished", "stage": stage, "size": "tiny", "step": 300, "steps": 300, **(state or {})}
    for name, content in (("origins", origins), ("environment", environment), ("status", status)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    rows = [{"step": step, "loss/topology": 1 / step, "images_per_s": 150.0} for step in range(1, 301)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step in samples:
        Image.new("RGB", (400, 200), (step % 255, 80, 120)).save(folder / "samples" / f"step-{step:07d}.png")
    for key, result in (results or {}).items():
        (folder / "results" / f"{key}.json").write_text(json.dumps(result))
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run folder of some name."""

    def make(name: str = "tiny-stage1", **content: Any) -> Path:
        return write_run(tmp_path / name, **content)

    return make


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """One browser for the tests of a module."""
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium on this machine; install one (Debian: apt-get install chromium) to run this test")
    with browser(program) as opened:
        yield opened
