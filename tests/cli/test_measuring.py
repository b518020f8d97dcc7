"""`eval` and `probe` from the shell: several processes, reference statistics, errors of whichever process."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from muse_core.errors import ExitCode
from tests.cli.conftest import Muse


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """The run as the newest one of this folder."""
    copy = tmp_path / "runs" / "mine"
    shutil.copytree(trained, copy)
    return copy


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch adds up in another order with another number of threads, and a byte may be rounded the other way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


EVAL = ("eval", "--data", "demo:val:9", "--metric", "psnr", "--metric", "fd-tiny-clip", "--json")
PROBE = ("probe", "knn", "--data", "demo:train:41", "--val-data", "demo:val:21", "--k", "3", "--json")

TOPOLOGY = ("probe", "topology", "--val-data", "demo:val:70", "--json")
ZEROSHOT = ("zeroshot", "--data", "demo:val:21", "--batch-size", "4", "--json")
SEGMENT = ("segment", "--data", "demo:train:300", "--val-data", "demo:val:9", "--epochs", "1", "--json")


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("command", [EVAL, PROBE, TOPOLOGY, ZEROSHOT, SEGMENT])
def test_two_processes_print_what_one_prints(
    muse: Muse, run: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = muse(*command, "--devices", "cpu")
    monkeypatch.setenv("MUSE_CACHE", "another")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    two = muse(*command, "--devices", "cpu:2")
    assert (one.code, two.code) == (0, 0), two.err
    assert two.json["counts"] == one.json["counts"]
    assert two.json["metrics"] == pytest.approx(one.json["metrics"], abs=1e-6, rel=1e-6)
    assert two.json["protocol"] == one.json["protocol"]


@pytest.mark.slow
def test_gradients_are_compared_by_one_process_and_several_are_told_so(muse: Muse, run: Path) -> None:
    ended = muse("probe", "conflict", "--val-data", "demo:val:8", "--devices", "cpu:2", "--json")
    assert (ended.code, ended.json["hint"]) == (ExitCode.USAGE, "--devices cpu, or one GPU")


@pytest.mark.slow
def test_what_one_of_several_processes_says_is_the_commands_error(
    muse: Muse, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("MUSE_WEIGHTS", "TORCH_HOME"):
        monkeypatch.setenv(variable, "nowhere")
    ended = muse(*EVAL, "--metric", "rfid", "--devices", "cpu:2")
    assert ended.code == ExitCode.FILE
    assert "is not on this machine" in ended.json["error"]


def test_statistics_are_written_and_compared_with(muse: Muse, run: Path) -> None:
    size = ("--size-px", "64")
    made = muse("eval", "--data", "demo:val:16", "--save-stats", "own.npz", "--metric", "fd-tiny-clip", *size)
    assert made.code == 0, made.err
    with np.load("own.npz") as file:
        assert {"mu", "sigma"} <= set(file)
    options = ("--data", "demo:val:16", "--metric", "fd-tiny-clip", "--json")
    own = muse("eval", *options).json
    stored = muse("eval", *options, "--reference", "own.npz").json
    assert stored["metrics"] == pytest.approx(own["metrics"], rel=1e-6)
    assert stored["columns"] != own["columns"]
    assert json.loads((run / "results" / "eval.json").read_text()) == own
    assert json.loads((run / "results" / "eval-2.json").read_text()) == stored  # another protocol replaces nothing
    assert own["checkpoint"]["sha256"] == stored["checkpoint"]["sha256"]


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["--save-stats", "a.npz", "--metric", "fd-tiny-clip"], ExitCode.USAGE, "at which size?"),
        (["--save-stats", "a.npz", "--size-px", "64", "--metric", "psnr"], ExitCode.FILE, "no reference statistics"),
        (["--save-stats", "a.npz", "--metric", "psnr", "--metric", "ssim"], ExitCode.USAGE, "one metric's features"),
        (["--reference", "no.npz", "--metric", "fd-tiny-clip"], ExitCode.FILE, "no file of reference statistics"),
    ],
)
def test_it_refuses_with_a_sentence(muse: Muse, run: Path, arguments: list[str], code: int, what: str) -> None:
    ended = muse("eval", "--data", "demo:val:4", *arguments)
    assert (ended.code, what in ended.err) == (code, True), ended.err


def test_images_are_measured_at_the_size_asked_for(muse: Muse, run: Path) -> None:
    ended = muse("eval", "--data", "demo:val:4", "--metric", "psnr", "--size-px", "80", "--json")
    assert ended.json["protocol"]["size"] == 80
    assert ended.json["standard_errors"]["psnr"] > 0
