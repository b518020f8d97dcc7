"""A pack of untrained parts: everything that a trained one has, except quality."""

from pathlib import Path

import pytest
import torch

from muse_core.training.foundation import backbone, pixels, teacher


@pytest.fixture(scope="session")
def captioned() -> backbone.CaptionModel:
    torch.manual_seed(0)
    return backbone.CaptionModel().eval()


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory, captioned: backbone.CaptionModel) -> Path:
    folder = tmp_path_factory.mktemp("foundation") / "pack"
    nowhere = folder / "progress"
    backbone.export(captioned, nowhere, folder)
    model = pixels.PixelModel().eval()
    pixels.export(model, nowhere, folder, measured_on=20)
    teacher.export(teacher.MaskTeacher(), nowhere, folder)
    return folder
