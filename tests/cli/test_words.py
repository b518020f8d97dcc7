"""What commands say is so: which option is missing, what was compared with, and which name was meant."""

from pathlib import Path

import pytest

from muse_cli.main import usage_words
from muse_core.errors import ExitCode
from tests.cli.conftest import Muse

SMALL = ("--limit", "8", "--train-limit", "8")


def test_the_option_that_is_missing_is_named(muse: Muse) -> None:
    said = muse("probe", "knn", "tiny", *SMALL).err
    assert "no --data: learning from the built-in scenes (demo:train)" in said
    assert "no --val-data: measuring on the built-in held-out scenes (demo:val)" in said
    said = muse("probe", "knn", "tiny", *SMALL, "--data", "demo:train", "--val-data", "demo:val").err
    assert "no --" not in said


def test_a_probe_that_learns_nothing_names_no_training_data(muse: Muse) -> None:
    said = muse("probe", "topology", "tiny", "--limit", "4").err
    assert "no --val-data" in said
    assert "learning from" not in said


def test_each_number_says_what_it_was_compared_with(muse: Muse, tmp_path: Path) -> None:
    stats = ("--size-px", "64", "--metric", "fd-tiny-clip", "--save-stats", "ref.npz")
    assert muse("eval", "--data", "demo:val:8", *stats).code == 0
    measured = ("eval", "tiny", "--data", "demo:val:8", "--metric", "psnr")
    both = muse(*measured, "--metric", "fd-tiny-clip", "--reference", "ref.npz")
    assert "reference: the originals, cropped alike; of fd-tiny-clip: ref.npz" in both.out
    neither = muse(*measured, "--reference", "ref.npz")
    assert "the reference ref.npz was not used: no Frechet distance was measured" in neither.out
    assert "not used" not in muse(*measured).out


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        ("eval tinny --data demo:val:2", ExitCode.FILE, "did you mean tiny?"),
        ("infer photo.png --checkpoint latst", ExitCode.FILE, "did you mean latest?"),
        ("eval tiny --data demo:val:2 --metric pnsr", ExitCode.USAGE, "did you mean psnr?"),
        ("train --stage 1 --size tinny", ExitCode.SETTINGS, "did you mean tiny?"),
        ("doctor --size tiney", ExitCode.SETTINGS, "did you mean tiny?"),
        ("eval tiny --data demo:val:2 --devices cudda", ExitCode.SETTINGS, "did you mean cuda?"),
        ("train --stage 1 --size tiny --precision bf61", ExitCode.SETTINGS, "did you mean bf16?"),
        ("compare tiny --measure evl", ExitCode.SETTINGS, "did you mean eval?"),
        ("segment tiny --view slidin", ExitCode.SETTINGS, "did you mean sliding?"),
        ("eval tiny --data demo:vla:2", ExitCode.FILE, "did you mean val?"),
        ("ls runz", ExitCode.USAGE, "did you mean runs?"),
        ("export tiny --to hubb", ExitCode.USAGE, "did you mean hub?"),
        ("config keys trian", ExitCode.USAGE, "did you mean train?"),
        ("plugins check liner", ExitCode.SETTINGS, "did you mean linear?"),
        ("probe linar", ExitCode.USAGE, "Did you mean 'linear'?"),
        ("zeroshot tiny --top 0", ExitCode.SETTINGS, "top: must be greater than 0, got '0'"),
        ("compare tiny --measure evl", ExitCode.SETTINGS, "eval, generate, zeroshot, linear or segment, got 'evl'"),
        ("eval tiny --data nowhere", ExitCode.FILE, "error: nowhere does not exist"),
    ],
)  # fmt: skip
def test_what_was_meant_is_suggested(muse: Muse, tmp_path: Path, line: str, code: int, told: str) -> None:
    from PIL import Image

    Image.new("RGB", (16, 16)).save(tmp_path / "photo.png")
    ended = muse(*line.split())
    assert ended.code == code
    assert told in ended.err
    assert not [word for word in ("Tuple", "Value error", "Input should", "1 of 1") if word in ended.err]


def test_a_message_of_the_command_line_loses_the_librarys_words() -> None:
    told = usage_words("Invalid value for 'kind': Value error, 'runz' is not one of 'runs', 'sizes'.")
    assert told == "Invalid value for 'kind': 'runz' is not one of 'runs', 'sizes'. did you mean runs?"
    assert usage_words("No such option: --x") == "No such option: --x"


@pytest.mark.parametrize("line", ["train --help", "config keys train", "config schema train"])
def test_what_is_always_refused_is_not_offered(muse: Muse, line: str) -> None:
    said = muse(*line.split()).out
    assert "bf16" in said
    assert "fp16" not in said.replace("bf16", "")
