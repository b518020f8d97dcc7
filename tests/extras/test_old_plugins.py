"""The two plugins exactly as of 0.1.0 work with this muse: what strangers wrote for it goes on working."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.baselines import reference


@pytest.mark.parametrize("package", ["muse_example_probe", "muse_baselines"])
def test_the_old_code_is_what_runs(package: str, old_plugins: dict[str, str]) -> None:
    done = _python(old_plugins, f"import {package} as p, muse_core as m; print(p.__file__, m.__file__)")
    plugin, core = done.split()
    assert Path(plugin).is_relative_to(Path(old_plugins["PYTHON"]).parents[1])
    assert Path(core).is_relative_to(old_plugins["PYTHONPATH"])


def test_the_probe_measures(old_plugins: dict[str, str], tmp_path: Path) -> None:
    scores = _muse(old_plugins, tmp_path, "probe", "dimensions", "tiny", "--val-data", "demo:val:64")
    assert 0 < scores["metrics"]["share"] < 1 < scores["metrics"]["dimensions"] < 64


def test_the_probe_is_found_sound(old_plugins: dict[str, str], tmp_path: Path) -> None:
    assert _muse(old_plugins, tmp_path, "plugins", "check", "dimensions")


def test_a_rival_reconstructs(old_plugins: dict[str, str], tmp_path: Path) -> None:
    torch.save({"state_dict": reference.weights("vqgan")}, tmp_path / "plain.ckpt")
    scores = _muse(old_plugins, tmp_path, "eval", "vqgan:plain.ckpt", "--data", "demo:val:2", "--metric", "psnr")
    assert scores["metrics"]["psnr"] == pytest.approx(8.12, abs=0.01)


def _muse(environment: dict[str, str], folder: Path, *arguments: str) -> dict[str, Any]:
    line = [environment["PYTHON"], "-m", "muse_cli", *arguments, "--json"]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def _python(environment: dict[str, str], code: str) -> str:
    line = [environment["PYTHON"], "-c", code]
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=True).stdout
