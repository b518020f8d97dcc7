"""Whole commands on a GPU that computes on the CPU: each ends with 0 there, and prints the CPU's numbers."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.gpu.conftest import Ask

CLOSE = 1e-4
"""How far a number may be from the CPU's, relative to itself: norms are taken apart in another order."""

CLOSE_IN_BF16 = 0.03
CLOSE_AFTER_A_STEP = 2e-3
"""The first updates of Adam are +-lr whatever the gradient, where rounding decides their sign."""

CLOCK = {"seconds", "images_per_s", "steps_images_per_s", "data_images_per_s", "waited"}
LEAN = (
    *("--batch-size", "4", "--steps", "2"),
    *("--set", "training.reconstruct=2", "--set", "training.log_every=1", "--set", "training.track=none"),
    *("--set", "model.width=32", "--set", "model.heads=4", "--set", "model.blocks=2", "--set", "model.resolution=32"),
    *("--set", "data.val_images=2", "--set", "data.workers=0", "--set", "losses.adversarial_start=0"),
)
MEASURED = {
    "eval": ("eval", "tiny", "--data", "demo:val:4", "--metric", "psnr", "--metric", "fd-tiny-clip"),
    "zeroshot": ("zeroshot", "tiny", "--data", "demo:val:8"),
    "probe linear": (
        *("probe", "linear", "tiny", "--data", "demo:train:16", "--val-data", "demo:val:4"),
        *("--epochs", "2", "--least-steps", "2"),
    ),
    "probe topology": ("probe", "topology", "tiny", "--val-data", "demo:val:2"),
    "infer": ("infer", "photo.png", "--checkpoint", "tiny", "--compare", "--out", "inferred"),
    "attn-viz --teacher": ("attn-viz", "photo.png", "--checkpoint", "tiny", "--teacher", "--out", "attention.png"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each device, with the same picture in it."""
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    found = {device: tmp_path_factory.mktemp(device) for device in ("slow", "cpu")}
    for folder in found.values():
        Image.fromarray(pixels).save(folder / "photo.png")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURED)
def test_a_command_prints_the_numbers_of_the_cpu(slow: Ask, folders: dict[str, Path], name: str) -> None:
    on_gpu, on_cpu = (run(slow, device, folders, *MEASURED[name]) for device in ("slow", "cpu"))
    assert on_gpu["waits"], "nothing was moved to the device"
    assert not on_cpu["waits"]
    far = differing(on_gpu["document"], on_cpu["document"], CLOSE)
    assert far == []


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "precision"), [(1, "fp32"), (2, "fp32"), (3, "bf16")])
def test_stages_train_to_the_losses_of_the_cpu(slow: Ask, folders: dict[str, Path], stage: int, precision: str) -> None:
    """Each stage goes on from the one before on its own device; the third in the precision that a GPU gets unasked."""
    for device in ("slow", "cpu"):
        for earlier in range(1, stage + 1):
            chosen = {"slow": precision if earlier == stage else "fp32", "cpu": "fp32"}[device]
            run(slow, device, folders, *training(earlier, chosen))
    (gpu_first, gpu_second, *_), (cpu_first, cpu_second, *_) = (
        metrics(folders[device] / f"s{stage}") for device in ("slow", "cpu")
    )
    close = CLOSE if stage == 1 else CLOSE_AFTER_A_STEP
    assert differing(gpu_first, cpu_first, CLOSE_IN_BF16 if precision == "bf16" else close) == []
    assert differing(gpu_second, cpu_second, CLOSE_IN_BF16 if precision == "bf16" else CLOSE_AFTER_A_STEP) == []


def training(stage: int, precision: str) -> tuple[str, ...]:
    """A short training of a stage from the one before."""
    before = f"s{stage - 1}" if stage > 1 else "none"
    line = ("train", "--stage", str(stage), "--size", "tiny", "--data", "demo", "--init", before, "--out", f"s{stage}")
    return (*line, "--precision", precision, *LEAN)


def run(ask: Ask, device: str, folders: dict[str, Path], *line: str) -> dict[str, Any]:
    """Run a command, which has to end with 0."""
    ended = ask("command", device=device, line=line, folder=str(folders[device]))
    assert ended["code"] == 0, ended["said"]
    return ended


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def differing(one: Any, other: Any, close: float) -> list[str]:
    """Name the numbers that are not close, and what is only in one of two documents."""
    mine, theirs = dict(numbers(one)), dict(numbers(other))
    assert mine, "there is no number to compare"
    unequal = [
        f"{name}: {mine[name]} for {theirs[name]}"
        for name in mine.keys() & theirs.keys()
        if not math.isclose(mine[name], theirs[name], rel_tol=close, abs_tol=close)
    ]
    return sorted([*unequal, *(f"{name}: in one of them alone" for name in mine.keys() ^ theirs.keys())])


def numbers(document: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a document, by their path in it; times do not count."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key not in CLOCK:
                yield from numbers(value, f"{name}/{key}")
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from numbers(value, f"{name}/{index}")
    elif isinstance(document, int | float):
        yield name, float(document)
