"""The average of trained weights: its decay, its arithmetic, and that nothing else is in it."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from muse_core.training.ema import Average, decay_at

REFERENCE = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "muse_reference" / "misc.json").read_text(encoding="utf-8")
)["ema"]


def test_the_decay_is_the_references() -> None:
    for update, expected in REFERENCE["decay_at_step"].items():
        assert decay_at(int(update), REFERENCE["decay_cap"]) == pytest.approx(expected, abs=1e-15), update


def test_a_short_sequence_averages_as_the_references() -> None:
    toy = REFERENCE["toy"]
    weight = nn.Parameter(torch.tensor(toy["init"]))
    average = Average({"weight": weight}, REFERENCE["decay_cap"])
    for update, expected in enumerate(toy["shadow_after_each_step"], start=1):
        with torch.no_grad():
            weight.add_(torch.tensor([0.1, 0.05 * update]))
        average.update()
        torch.testing.assert_close(average.shadow["weight"], torch.tensor(expected), atol=1e-6, rtol=1e-6)


def moving_average(cap: float = 0.9) -> tuple[nn.Parameter, Average]:
    weight = nn.Parameter(torch.zeros(3))
    return weight, Average({"weight": weight}, cap)


def step(weight: nn.Parameter, average: Average, count: int) -> None:
    for _ in range(count):
        with torch.no_grad():
            weight.add_(1.0)
        average.update()


def test_the_first_update_is_a_copy() -> None:
    weight, average = moving_average()
    step(weight, average, 1)
    assert torch.equal(average.shadow["weight"], weight)


def test_a_restored_average_goes_on_as_if_nothing_had_happened() -> None:
    weight, average = moving_average()
    step(weight, average, 20)
    again = nn.Parameter(weight.detach().clone())
    other = Average({"weight": again}, cap=0.5)
    other.restore({"weight": average.shadow["weight"].clone()}, average.updates, average.cap)
    step(weight, average, 20)
    step(again, other, 20)
    assert (other.cap, other.updates) == (0.9, 40)
    assert torch.equal(other.shadow["weight"], average.shadow["weight"])


def test_swapping_in_puts_the_current_weights_back_whatever_happens() -> None:
    weight, average = moving_average()
    step(weight, average, 5)
    current, shadow = weight.detach().clone(), average.shadow["weight"].clone()

    def measure() -> None:
        with average.swapped_in():
            assert torch.equal(weight, shadow)
            raise RuntimeError("while measuring")

    with pytest.raises(RuntimeError, match="while measuring"):
        measure()
    assert torch.equal(weight, current)
    assert torch.equal(average.shadow["weight"], shadow)


def test_the_average_is_not_the_weights_themselves() -> None:
    weight, average = moving_average()
    step(weight, average, 3)
    assert not torch.equal(average.shadow["weight"], weight)
    assert not average.shadow["weight"].requires_grad
