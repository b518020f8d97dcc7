"""The loop resumes bit for bit, keeps to one recipe, and stops before it learns nonsense."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from muse_core.errors import ExitCode, MuseError
from muse_core.training.foundation.loop import PROGRESS, Recipe, fit, reached
from muse_core.training.foundation.stream import SceneBatch

RECIPE = Recipe(steps=6, batch_size=4, lr=1e-2, warmup_steps=2, save_every=3, log_every=100)


class Small(nn.Module):
    """A layer whose loss draws random numbers, as token dropping and crops do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.follower = nn.Parameter(torch.zeros(2), requires_grad=False)

    def forward(self, batch: SceneBatch, progress: float) -> dict[str, Tensor]:
        colours = batch.images.mean((2, 3)) + 0.1 * torch.randn(len(batch.images), 3)
        return {"square": self.layer(colours).square().mean(), "rest": 0.1 * self.layer.weight.abs().sum()}

    @torch.no_grad()
    def follow(self, progress: float) -> None:
        self.follower.lerp_(self.layer.bias, 0.5 - progress / 4)


class PowerCutError(Exception):
    pass


def trained(folder: Path, recipe: Recipe = RECIPE, *, until: int | None = None) -> Small:
    torch.manual_seed(7)
    model = Small()

    def objective(batch: SceneBatch, progress: float) -> dict[str, Tensor]:
        if until is not None and progress >= until / recipe.steps:
            raise PowerCutError
        return model(batch, progress)  # type: ignore[no-any-return]

    fit(model, objective, recipe, folder, after_step=model.follow)
    return model


def test_an_interrupted_training_ends_bit_for_bit_like_an_undisturbed_one(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole")
    with pytest.raises(PowerCutError):
        trained(tmp_path / "cut", until=5)  # two steps after the last save are lost and made again
    torch.rand(13)  # whatever else the machine drew in between
    resumed = trained(tmp_path / "cut")
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    saved, again = (load_file(tmp_path / name / PROGRESS) for name in ("whole", "cut"))
    assert saved.keys() == again.keys()
    assert all(torch.equal(saved[name], again[name]) for name in saved)


def test_a_finished_training_is_loaded_and_not_continued(tmp_path: Path) -> None:
    first = trained(tmp_path)
    again = trained(tmp_path, until=0)  # would be cut at its first step
    assert torch.equal(first.layer.weight, again.layer.weight)


def test_progress_says_how_far_and_how_dear(tmp_path: Path) -> None:
    assert reached(tmp_path).step == 0
    trained(tmp_path)
    assert reached(tmp_path).step == RECIPE.steps
    assert reached(tmp_path).cpu_seconds > 0


def test_progress_of_another_recipe_is_refused(tmp_path: Path) -> None:
    trained(tmp_path)
    with pytest.raises(MuseError, match="another recipe") as refused:
        trained(tmp_path, replace(RECIPE, steps=12))
    assert refused.value.exit_code == ExitCode.SETTINGS


def test_a_loss_that_is_not_finite_stops_before_the_step(tmp_path: Path) -> None:
    model = Small()
    before = model.layer.weight.clone()
    with pytest.raises(MuseError, match="not finite at step 0"):
        fit(model, lambda batch, _: {"bad": model.layer.weight.sum() * torch.nan}, RECIPE, tmp_path)
    assert torch.equal(model.layer.weight, before)
    assert not (tmp_path / PROGRESS).exists()
