"""The discriminator and its game, number by number."""

import pytest
import torch

from muse_core.losses.adversarial import LeCam, hinge_discriminator, hinge_generator
from muse_core.model.discriminator import Blur, PatchDiscriminator
from tests.fixtures.regenerate import fill, image, loss_pair, normal, read_json, reference_tensors
from tests.parity.closeness import TOLERANCE, assert_close


@pytest.fixture(scope="module")
def discriminator() -> PatchDiscriminator:
    network = PatchDiscriminator()
    fill(network, prefix="discriminator.")
    return network.eval()


def as_seen(reconstruction: torch.Tensor) -> torch.Tensor:
    """The reference clamps what the discriminator sees."""
    return ((reconstruction + 1) / 2).clamp(0, 1)


def test_keys_shapes_and_size_are_the_released_ones(discriminator: PatchDiscriminator) -> None:
    released = {key: tuple(entry["shape"]) for key, entry in read_json("manifest")["discriminator"].items()}
    assert {f"discriminator.{key}": tuple(value.shape) for key, value in discriminator.state_dict().items()} == released
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == 1_909_889


@torch.no_grad()
def test_logits(discriminator: PatchDiscriminator) -> None:
    _, reconstruction = loss_pair()
    assert_close(discriminator(as_seen(reconstruction)), reference_tensors()["disc.logits_64"])
    assert_close(discriminator(image("disc")), reference_tensors()["disc.logits_224"])


def test_blur() -> None:
    board = torch.arange(49.0).view(1, 1, 7, 7)
    assert_close(Blur()(board), reference_tensors()["blur.7x7"])


def test_hinge() -> None:
    real, fake = (normal(f"input/hinge_{kind}", (2, 1, 16, 16)) for kind in ("real", "fake"))
    losses = read_json("losses")
    assert hinge_discriminator(real, fake).item() == pytest.approx(losses["hinge_d_loss"], rel=TOLERANCE)
    assert hinge_generator(fake).item() == pytest.approx(losses["generator_hinge"], rel=TOLERANCE)


def test_lecam_with_running_means_far_from_the_logits() -> None:
    real, fake = (normal(f"input/hinge_{kind}", (2, 1, 16, 16)) for kind in ("real", "fake"))
    lecam = LeCam(weight=1.0)
    lecam.ema_real.fill_(0.4)
    lecam.ema_fake.fill_(-0.6)
    expected = read_json("losses")["lecam_mean_logits_ema_0.4_-0.6"]
    assert lecam(real, fake).item() == pytest.approx(expected, rel=TOLERANCE)


@torch.no_grad()
def test_three_calls_in_a_row_move_the_running_means(discriminator: PatchDiscriminator) -> None:
    target, reconstruction = loss_pair()
    real, fake = discriminator(target), discriminator(as_seen(reconstruction))
    lecam = LeCam()
    for call in read_json("losses")["discriminator_calls"]:
        penalty = lecam(real, fake)
        assert real.mean().item() == pytest.approx(call["logits_real"], rel=TOLERANCE)
        assert fake.mean().item() == pytest.approx(call["logits_fake"], rel=TOLERANCE)
        assert penalty.item() == pytest.approx(call["lecam_loss"], rel=TOLERANCE)
        total = hinge_discriminator(real, fake) + penalty
        assert total.item() == pytest.approx(call["discriminator_loss"], rel=TOLERANCE)
        assert lecam.ema_real.item() == pytest.approx(call["ema_real"], rel=TOLERANCE)
        assert lecam.ema_fake.item() == pytest.approx(call["ema_fake"], rel=TOLERANCE)
