"""The learning rate: the reference's after warm-up, and never 0."""

import json
from pathlib import Path

import pytest
import torch

from muse_core.settings.presets import preset
from muse_core.training.optimization import Optimization
from muse_core.training.schedule import Schedule, cosine_multiplier
from muse_core.training.task import ParameterGroup, Partition
from tests.training.mini import begin, lean

REFERENCE = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "muse_reference" / "misc.json").read_text(encoding="utf-8")
)["lr"]


def rate(stage: int, step: int) -> float:
    """Our rate with the released recipe, as the preset of 1b has it."""
    recipe = preset("1b", stage)
    optim, steps = recipe["optim"], recipe["training"]["steps"]
    end = optim["end_lr"] / optim["lr"]
    return float(optim["lr"] * cosine_multiplier(step, steps, optim["warmup_steps"], end))


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_after_warm_up_the_rate_is_the_references(stage: int) -> None:
    warmup = preset("1b", stage)["optim"]["warmup_steps"]
    later = {int(step): value for step, value in REFERENCE[f"1b_stage{stage}"].items() if int(step) >= warmup}
    assert len(later) >= 4
    for step, expected in later.items():
        assert rate(stage, step) == pytest.approx(expected, rel=1e-9), step


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_b7_warm_up_is_one_step_ahead_of_the_references_and_never_zero(stage: int) -> None:
    warmup = preset("1b", stage)["optim"]["warmup_steps"]
    table = {int(step): value for step, value in REFERENCE[f"1b_stage{stage}"].items()}
    assert table[0] == 0.0
    assert rate(stage, 0) == pytest.approx(table[1])
    assert rate(stage, warmup - 1) == pytest.approx(table[warmup])
    assert all(rate(stage, step) > 0 for step in range(warmup))


def test_without_warm_up_the_first_step_is_the_peak() -> None:
    assert cosine_multiplier(0, 10, 0, 0.1) == 1.0
    assert cosine_multiplier(10, 10, 0, 0.1) == pytest.approx(0.1)
    assert cosine_multiplier(99, 10, 0, 0.1) == pytest.approx(0.1)
    assert cosine_multiplier(0, 1, 1, 0.1) == 1.0


def test_groups_keep_their_proportion() -> None:
    module = torch.nn.Linear(1, 1)
    groups = [ParameterGroup(["weight"], 1.0), ParameterGroup(["bias"], 0.5)]
    partition = Partition(groups, dict.fromkeys(("weight", "bias"), "all"))
    optimization, schedule = Optimization(module, partition, betas=(0.9, 0.999), clip=1.0), Schedule(10, 3, 0.1)
    for step in range(10):
        optimization.set_lr(schedule.factor(step))
        first, second = (group["lr"] for group in optimization.optimizer.param_groups)
        assert second == pytest.approx(first / 2)


def test_b7_first_step_learns(tmp_path: Path) -> None:
    run = begin(1, tmp_path / "run", {"training.steps": 20})
    before = run.network.connector.to_latent.weight.detach().clone()
    run.trainer.set_lr(0)
    assert all(group["lr"] > 0 for group in run.optimizer.param_groups)
    batch = run.next_batch()
    run.backward(run.losses(batch))
    run.trainer.update(0)
    assert not torch.equal(run.network.connector.to_latent.weight, before)


def test_a_short_run_spends_at_most_half_of_itself_on_warm_up(tmp_path: Path) -> None:
    assert lean(1, {"optim.warmup_steps": 1000, "training.steps": 6}).optim.warmup_steps == 1000
    assert (
        begin(
            1, tmp_path / "run", {"optim.warmup_steps": 1000, "training.steps": 6}
        ).trainer.settings.schedule.warmup_steps
        == 3
    )
