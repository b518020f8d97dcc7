"""What a run costs before it starts: parameters and operations are the published ones, memory adds up."""

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from muse_core.settings.layers import resolve
from muse_core.settings.presets import preset
from muse_core.settings.train import TrainSettings
from muse_core.stages.cost import Cost, PartCost
from muse_core.stages.plan import make_plan
from muse_core.training.counting import count


def settings(size: str, stage: int, recipe: str = "muse", **changes: Any) -> TrainSettings:
    flags = {"run.size": size, "run.stage": stage, "run.recipe": recipe, "run.init": "none", "data.train": "demo"}
    flags |= {key.replace("__", "."): value for key, value in changes.items()}
    return resolve(TrainSettings, command="train", flags=flags, preset=preset(size, stage, recipe), environ={})[0]


@cache
def plan(size: str, stage: int, **changes: Any) -> dict[str, str]:
    """The plan by its first words, of the public code's recipe on eight devices."""
    lines = make_plan(
        settings(size, stage, "released", training__precision="bf16", **changes), world=8, cost=True
    ).lines
    return {line.split()[0]: line for line in lines}


def gflop(line: str) -> dict[str, float]:
    counts = line.split(": ")[1].split(";")[0]
    return {name: float(number) for name, number in (entry.split() for entry in counts.split(", "))}


@pytest.mark.slow
def test_parameters_per_part_are_those_of_the_fact_sheet() -> None:
    line = plan("1b", 3)["network"]
    assert "486,459,556 parameters" in line
    for said in (
        "encoder 304,012,288",
        "adapter 2,101,248",
        "blocks 20,451,072",
        "to_latent 16,416",
        "projector 655,360",
        "logit_scale 1",
        "decoder 159,223,171",
    ):
        assert said in line
    assert "teacher 840,592,640" in plan("1b", 3)["beside"]
    assert "discriminator 1,909,889" in plan("1b", 3)["beside"]


@pytest.mark.slow
def test_operations_per_image_are_those_of_the_fact_sheet() -> None:
    counted = gflop(plan("1b", 3)["compute"])
    expected: dict[str, float] = {"encoder": 162, "decoder": 523, "teacher": 344, "text": 13, "discriminator": 31}
    expected |= {"lpips": 61 / 2, "convnext_s": 35 / 2}  # the sheet counts two images there
    for name, number in expected.items():
        assert counted[name] == pytest.approx(number, abs=0.51), name
    assert counted["connector"] == pytest.approx(2.7 + 0.27, abs=0.05)  # six blocks, and the adapter


@pytest.mark.slow
def test_operations_grow_with_the_image_and_what_is_off_costs_nothing() -> None:
    large = plan("3b", 1, model__resolution=448, losses__perceptual=0, losses__topology=0)
    counted = gflop(large["compute"].replace("e+03", "e3"))
    assert counted["encoder"] == 724
    assert counted["decoder"] == pytest.approx(2092, rel=0.005)
    assert counted.keys() == {"encoder", "connector", "decoder"}
    assert "486,459,556 parameters" in large["network"]


def test_memory_adds_up() -> None:
    decoder = PartCost("decoder", 10, trained=10, flop=7, passes=3, kept=1000, copies=20)
    parts = (PartCost("encoder", 100, flop=5, passes=1, again=30), decoder, PartCost("discriminator", 3, trained=3))
    one, two, parts_of_two = (Cost(parts, 4, 2, processes=n, accumulation=k) for n, k in ((1, 1), (2, 1), (1, 2)))
    expected = {"weights": 452, "copies": 20, "gradients": 0, "optimizer": 104, "average": 40, "activations": 2120}
    assert one.memory() == expected  # gradients come when activations go
    assert two.memory() == parts_of_two.memory() == expected | {"gradients": 52}
    assert one.allocated() == 2736
    assert one.step_flop == 4 * 5 + 2 * 7 * 3


def test_gradients_count_where_they_are_more_than_what_was_kept() -> None:
    part = PartCost("connector", 100, trained=100, kept=10)
    assert Cost((part,), 1, 1, 1).memory()["gradients"] == 390


def test_the_largest_number_of_images_is_the_last_that_fits() -> None:
    cost = Cost((PartCost("encoder", 1000, kept=500), PartCost("decoder", 0, kept=100)), 4, 2, 1)
    for memory in (4000, 5000, 12_345, 10**6):
        most = cost.largest(memory)
        assert replace(cost, images=most + 1).reserved() > memory
        assert most == 0 or replace(cost, images=most).reserved() <= memory
    assert cost.largest(4000) == 0
    assert cost.largest(10**6) > 1000


def test_in_float64_every_number_takes_twice_the_bytes() -> None:
    cost = Cost((PartCost("connector", 10, trained=5, kept=8, again=2),), 3, 3, 1)
    assert cost.doubled().allocated() == 2 * cost.allocated()


# The recipes of the fact sheet's six columns.

TABLE = {
    ("1b", 1): (4e-4, 4e-4, 2_000, 1e-5, 50_000, 2.0, 0.0, 1.1, 0.0, 0.5, 384),
    ("1b", 2): (2e-4, 2e-4, 5_000, 1e-5, 50_000, 5.0, 0.2, 1.1, 0.0, 0.5, 384),
    ("1b", 3): (5e-5, 1e-4, 1_000, 1e-6, 50_000, 0.2, 0.1, 2.0, 0.5, 1.0, 256),
    ("3b", 1): (4e-4, 4e-4, 5_000, 1e-5, 75_000, 2.0, 0.0, 1.1, 0.0, 0.5, 384),
    ("3b", 2): (2e-4, 2e-4, 5_000, 1e-5, 75_000, 5.0, 0.2, 1.1, 0.0, 0.5, 384),
    ("3b", 3): (5e-5, 1e-4, 1_000, 1e-6, 50_000, 0.2, 0.1, 2.0, 0.5, 1.0, 256),
}


@pytest.mark.parametrize(("column", "values"), list(TABLE.items()), ids=str)
def test_the_released_hyper_parameters_are_those_of_the_fact_sheet(
    column: tuple[str, int], values: tuple[float, ...]
) -> None:
    chosen = settings(*column, "released")
    optim, losses, training = chosen.optim, chosen.losses, chosen.training
    assert values == (
        optim.lr,
        optim.discriminator_lr,
        optim.warmup_steps,
        optim.end_lr,
        training.steps,
        losses.topology,
        losses.contrastive,
        losses.perceptual,
        losses.adversarial,
        optim.gradient_scale,
        training.batch_size,
    )
    assert (optim.beta1, optim.beta2, optim.weight_decay) == (0.9, 0.999, 1e-4)
    assert (optim.clip, optim.average_decay) == (1.0, 0.999)
    assert (losses.perceptual_kind, losses.lecam, losses.pixel) == ("lpips-convnext_s-1.0-0.1", 0.001, 1.0)
    assert (optim.encoder_lr_scale, chosen.model.resolution, chosen.data.flip) == (0.5, 224, True)
    assert (chosen.model.layout, training.routing, losses.topology_blocks) == ("released", "released", "last")


@pytest.mark.parametrize("size", ["1b", "3b"])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_papers_recipe_weighs_reconstruction_less_before_stage_3(size: str, stage: int) -> None:
    paper, ours = settings(size, stage, "paper"), settings(size, stage)
    factor = 1.0 if stage == 3 else 0.1
    assert paper.losses.pixel == pytest.approx(factor * ours.losses.pixel)
    assert paper.losses.perceptual == pytest.approx(factor * ours.losses.perceptual)
    assert (paper.optim.gradient_scale, paper.model.layout) == (1.0, "muse")
    assert (paper.training.routing, paper.training.trains) == (
        ("figure-open", "released") if stage == 3 else ("figure", "paper")
    )
    assert (paper.losses.topology_blocks, paper.model.inject, paper.model.semantic_input) == (
        "every", True, "normalized",
    )  # fmt: skip
    assert paper.losses.topology == ours.losses.topology


def test_operations_are_those_that_torch_counts_and_repeated_layers_change_nothing() -> None:
    with torch.device("meta"):
        layers = [torch.nn.Linear(8, 8), torch.nn.LayerNorm(8), torch.nn.GELU()]
        model = torch.nn.Sequential(*(copy.deepcopy(layer) for _ in range(5) for layer in layers))
        inputs = torch.empty(3, 8, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        model(inputs)
    repeated = count(lambda: model(inputs), model)
    assert repeated.flop == counter.get_total_flops() == 5 * 2 * 3 * 8 * 8
    layer = count(lambda: model[:3](inputs), model)
    assert repeated.kept == 5 * layer.kept > 0
