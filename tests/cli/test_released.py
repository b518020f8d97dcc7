"""A checkpoint of the public code on the command line: measured, probed, drawn and reconstructed like any other."""

from pathlib import Path

import pytest
from PIL import Image

from muse_core.errors import ExitCode
from tests.cli.conftest import Muse
from tests.parity.released import flat, write_released


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a pytorch_model.bin in it, as the public trainer leaves one."""
    folder = tmp_path_factory.mktemp("released")
    write_released(folder, name="ema_model/pytorch_model.bin")
    return str(folder)


@pytest.fixture(autouse=True)
def no_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MUSE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


def test_it_is_evaluated(muse: Muse, released: str) -> None:
    ended = muse("eval", released, "--data", "demo:val:2", "--metric", "psnr", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["tokenizer"] == "muse-released-stage3"
    assert ended.json["metrics"]["psnr"] > 0


@pytest.mark.slow
def test_it_is_probed(muse: Muse, released: str) -> None:
    ended = muse("probe", "knn", released, "--data", "demo:train:24", "--val-data", "demo:val:4", "--json")
    assert ended.code == 0, ended.err


def test_it_is_drawn_and_reconstructs(muse: Muse, released: str) -> None:
    Image.new("RGB", (70, 60), (200, 40, 60)).save("photo.png")
    assert muse("attn-viz", "photo.png", "--checkpoint", released).code == 0
    ended = muse("infer", "photo.png", "--checkpoint", released, "--json")
    assert ended.json["images"][0]["latents"] == [32, 3, 3]


def test_without_a_text_tower_it_says_that_it_has_no_captions(muse: Muse, released: str) -> None:
    ended = muse("zeroshot", released, "--data", "demo:val:2")
    assert ended.code != 0
    assert "align" in ended.err


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 no archive"])
def test_a_wrong_file_ends_in_one_line(muse: Muse, content: bytes) -> None:
    Path("pytorch_model.bin").write_bytes(content)
    ended = muse("eval", "pytorch_model.bin", "--data", "demo:val:2")
    assert ended.code == ExitCode.FILE
    (_, error, hint) = ended.err.strip().splitlines()  # what is measured is said first
    assert error.startswith("error: pytorch_model.bin (a released MUSE checkpoint) cannot be read")
    assert hint.startswith(" hint: ")


def test_it_is_inspected_as_a_checkpoint(muse: Muse, released: str) -> None:
    for where in (released, f"{released}/ema_model/pytorch_model.bin"):
        ended = muse("inspect", where, "--json")
        assert ended.code == 0, ended.err
        found = ended.json
        assert (found["kind"], found["format"]) == ("checkpoint", "checkpoint of the public code")
        assert found["values"].keys() == {"encoder", "connector", "decoder"}
        assert (found["can"]["infer, eval, attn-viz"], found["can"]["train --resume"]) == (True, False)
        assert "teacher" in found["notes"][0]["what"]


@pytest.mark.parametrize(("content", "why"), [(b"no weights", "cannot be read"), (None, "not finite")])
def test_what_keeps_it_from_use_is_listed(muse: Muse, content: bytes | None, why: str) -> None:
    file = write_released(Path("broken"), {**flat(), "to_latent.weight": flat()["to_latent.weight"] * float("nan")})
    if content is not None:
        file.write_bytes(content)
    ended = muse("inspect", "broken")
    assert ended.code == ExitCode.PROBLEMS
    assert "broken is not healthy" in ended.err
    assert why in ended.err
