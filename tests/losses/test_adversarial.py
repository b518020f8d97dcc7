"""The adversarial game, and the discriminator's arithmetic."""

import pytest
import torch

from muse_core.losses.adversarial import LeCam, hinge_discriminator, hinge_generator
from muse_core.model.discriminator import Blur, PatchDiscriminator


def test_a_discriminator_that_is_sure_and_right_has_nothing_to_learn() -> None:
    assert hinge_discriminator(torch.full((2, 1, 4, 4), 1.5), torch.full((2, 1, 4, 4), -1.5)).item() == 0


def test_an_undecided_discriminator_pays_one() -> None:
    assert hinge_discriminator(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)).item() == 1


def test_the_generator_wants_high_logits() -> None:
    logits = torch.zeros(2, 1, 4, 4, requires_grad=True)
    hinge_generator(logits).backward()
    assert logits.grad is not None
    assert logits.grad.max() < 0


def test_lecam_uses_the_running_means_before_it_moves_them() -> None:
    lecam = LeCam(weight=1.0, decay=0.9)
    ones = torch.ones(2, 1, 2, 2)
    assert lecam(ones, -ones).item() == pytest.approx(1 + 1)
    assert lecam.ema_real.item() == pytest.approx(0.1)
    assert lecam.ema_fake.item() == pytest.approx(-0.1)


def test_lecam_gradients_survive_the_move_of_the_running_means() -> None:
    logits = torch.ones(2, 1, 2, 2, requires_grad=True)
    LeCam(weight=1.0)(logits, -logits).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.full_like(logits, 4 / 8))


def test_lecam_does_not_move_in_eval_mode_and_its_means_are_saved() -> None:
    lecam = LeCam().eval()
    lecam(torch.ones(1), torch.ones(1))
    assert {key: value.item() for key, value in lecam.state_dict().items()} == {"ema_real": 0, "ema_fake": 0}


@pytest.mark.parametrize("side", [32, 64, 65, 100])
def test_the_map_of_logits_has_the_same_size_for_every_image(side: int) -> None:
    tiny = PatchDiscriminator(width=16, multipliers=(1, 2), groups=8, grid=8)
    assert tiny(torch.rand(2, 3, side, side)).shape == (2, 1, 8, 8)


def test_discriminator_and_generator_can_train_through_it() -> None:
    torch.manual_seed(0)
    tiny = PatchDiscriminator(width=8, multipliers=(1, 2), groups=4, grid=4)
    fake = torch.rand(1, 3, 32, 32, requires_grad=True)
    hinge_generator(tiny(fake)).backward()
    assert fake.grad is not None
    assert fake.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in tiny.parameters())


def test_blur_keeps_a_flat_image_flat_away_from_the_border() -> None:
    blurred = Blur()(torch.ones(1, 2, 16, 16))
    torch.testing.assert_close(blurred[..., 1:-1, 1:-1], torch.ones(1, 2, 6, 6))


@pytest.mark.parametrize("taps", [(1, 1), (1, 2, 1), (1, 3, 3, 1), (1, 4, 6, 4, 1)])
@pytest.mark.parametrize("side", [7, 8, 9])
def test_b14_blur_pads_for_its_own_kernel(taps: tuple[int, ...], side: int) -> None:
    """Every length of kernel gives half the side, rounded up, and stays centred."""
    assert Blur(taps)(torch.rand(1, 1, side, side)).shape[-1] == (side + 1) // 2
