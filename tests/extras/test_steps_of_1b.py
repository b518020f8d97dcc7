"""A training step of every stage of 1b, with random weights in the published shapes, on a GPU without numbers."""

import pytest

from tests.gpu.conftest import Ask, ask as ask, fake as fake
from tests.gpu.test_steps import ALLOWED, ALLOWED_ONCE, check_scalars, check_state, unexpected


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_step_of_1b_computes_everything_on_the_device(fake: Ask, stage: int) -> None:
    found = fake("steps", size="1b", stage=stage, images=2, count=1)
    check_scalars(found, stage)
    check_state(found, stage, steps=1)
    assert unexpected(found["waits"][0], ALLOWED | ALLOWED_ONCE) == []
