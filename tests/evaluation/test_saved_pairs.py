"""Pictures for the tools of others: byte for byte what was measured, and nobody else's pictures are thrown away."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image

from muse_core.errors import MuseError
from muse_core.evaluation.builtin import FD_TINY_CLIP, PSNR
from muse_core.evaluation.pixels import to_bytes
from muse_core.evaluation.reconstruction import evaluate
from muse_core.evaluation.tiny_clip import TinyClip, register_with_torch_fidelity
from tests.evaluation.fakes import Passes, data, sample


def pictures(folder: Path, side: str) -> list[Path]:
    return sorted((folder / side).iterdir())


def test_what_another_tool_says_of_the_pictures_is_what_was_measured(tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    found = evaluate(Passes(0.13), data([sample(k) for k in range(30)]), {"fd-tiny-clip": FD_TINY_CLIP}, images=folder)
    theirs = torch_fidelity.calculate_metrics(
        input1=str(folder / "reconstruction"), input2=str(folder / "original"), fid=True,
        feature_extractor=register_with_torch_fidelity(), feature_layer_fid=TinyClip.TAP,
        cuda=False, cache=False, verbose=False, save_cpu_ram=True,
    )  # fmt: skip
    assert found.metrics["fd-tiny-clip"] == pytest.approx(theirs["frechet_inception_distance"], abs=1e-6, rel=1e-6)


def test_they_are_the_bytes_that_were_measured_in_the_order_of_the_data(tmp_path: Path) -> None:
    items = [sample(k) for k in (5, 3, 9)]
    evaluate(Passes(0.02), data(items), {"psnr": PSNR}, images=tmp_path / "pairs")
    for side, off_by in (("original", 0.0), ("reconstruction", 0.02)):
        files = pictures(tmp_path / "pairs", side)
        assert [file.name for file in files] == [f"0000000{k}-{one.key}.png" for k, one in enumerate(items)]
        for file, one in zip(files, items, strict=True):
            expected = to_bytes(torch.from_numpy(one.image).permute(2, 0, 1)[None] / 255 + off_by)[0]
            with Image.open(file) as image:
                assert np.array_equal(np.asarray(image), expected.permute(1, 2, 0).numpy())


def test_the_same_evaluation_goes_on_and_another_needs_leave(tmp_path: Path) -> None:
    folder, items = tmp_path / "pairs", [sample(k) for k in range(4)]
    evaluate(Passes(0.02), data(items), {"psnr": PSNR}, images=folder)
    pictures(folder, "original")[2].unlink()  # as if it had been interrupted
    evaluate(Passes(0.02), data(items), {"psnr": PSNR}, images=folder)
    assert len(pictures(folder, "original")) == 4
    for other in ((Passes(0.3), data(items)), (Passes(0.02), data(items[:2]))):
        with pytest.raises(MuseError, match="holds saved pictures already") as caught:
            evaluate(*other, {"psnr": PSNR}, images=folder)
        assert "--overwrite" in str(caught.value.hint)
    evaluate(Passes(0.02), data(items[:2]), {"psnr": PSNR}, images=folder, overwrite=True)
    assert len(pictures(folder, "original")) == len(pictures(folder, "reconstruction")) == 2


def test_a_folder_with_anything_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(MuseError, match="no saved pictures"):
        evaluate(Passes(), data([sample(1)]), {"psnr": PSNR}, images=tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
