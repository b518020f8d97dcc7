"""Pixel, perceptual and contrastive losses on stored inputs; test_network has those that need the whole network."""

from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import convnext_small, vgg16

from muse_core.losses.adversarial import hinge_generator
from muse_core.losses.contrastive import contrastive_loss
from muse_core.losses.perceptual import LPIPS, CombinedPerceptual, ConvNextLogits, parse_perceptual
from muse_core.losses.pixel import pixel_loss
from muse_core.model.discriminator import PatchDiscriminator
from tests.fixtures.regenerate import (
    fill,
    loss_pair,
    read_json,
    reference_tensors,
    text_embeddings,
    weight,
)
from tests.parity.closeness import TOLERANCE

_SLICES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
_CHANNELS = (64, 128, 256, 512, 512)


@cache
def lpips() -> LPIPS:
    heads = [
        weight(f"perceptual.lpips.lin{tap}.model.1.weight", (1, channels, 1, 1))
        for tap, channels in enumerate(_CHANNELS)
    ]
    with torch.device("meta"):
        network = vgg16(weights=None).features
    network.to_empty(device="cpu")
    names = {
        f"{index}.{part}": f"net.slice{tap}.{index}.{part}"
        for tap, indices in enumerate(_SLICES, start=1)
        for index in indices
        for part in ("weight", "bias")
    }
    fill(network, "perceptual.lpips.", names)
    return LPIPS(network, heads)


@cache
def convnext() -> ConvNextLogits:
    network: nn.Module = convnext_small(weights=None)
    fill(network, "perceptual.convnext.")
    return ConvNextLogits(network)


def as_judged() -> tuple[Tensor, Tensor]:
    """The pair (prediction, target) in [0, 1], clamped as the reference does."""
    target, reconstruction = loss_pair()
    return ((reconstruction + 1) / 2).clamp(0, 1), target


def perceptual() -> CombinedPerceptual:
    built = {"lpips": lpips(), "convnext_s": convnext()}
    mix = parse_perceptual(read_json("config")["stage3_loss_config"]["perceptual"])
    return CombinedPerceptual([(weight, built[part]) for part, weight in mix.items()])


@torch.no_grad()
def test_lpips_of_each_image() -> None:
    distances = lpips().distances(*as_judged())
    assert distances.tolist() == pytest.approx(read_json("losses")["lpips_per_sample"], rel=TOLERANCE)


@torch.no_grad()
def test_convnext_logits() -> None:
    expected = read_json("losses")["convnext_logit_mse"]
    assert convnext()(*as_judged()).item() == pytest.approx(expected, rel=TOLERANCE)


@torch.no_grad()
def test_weighted_mean_of_both() -> None:
    expected = read_json("losses")["perceptual_combined_mean"]
    assert perceptual()(*as_judged()).item() == pytest.approx(expected, rel=TOLERANCE)


def test_the_total_of_stage_3_and_its_gradient() -> None:
    losses, settings = read_json("losses"), read_json("config")["stage3_loss_config"]
    discriminator = PatchDiscriminator()
    fill(discriminator, "discriminator.")
    target, reconstruction = loss_pair()
    reconstruction.requires_grad_()
    prediction = ((reconstruction + 1) / 2).clamp(0, 1)

    pixels = pixel_loss(prediction, target)
    seen = settings["perceptual_weight"] * perceptual()(prediction, target)
    fooled = settings["discriminator_weight"] * hinge_generator(discriminator(prediction))
    total = pixels + seen + fooled + settings["weight_topology"] * 0.3 + settings["weight_itc"] * 0.7
    expected = losses["generator_stage3"]
    assert pixels.item() == pytest.approx(expected["rec_loss"], rel=TOLERANCE)
    assert seen.item() == pytest.approx(expected["perceptual_loss"], rel=TOLERANCE)
    assert fooled.item() == pytest.approx(expected["weighted_gan_loss"], rel=TOLERANCE)
    assert total.item() == pytest.approx(expected["total_loss"], rel=TOLERANCE)

    (gradient,) = torch.autograd.grad(total, reconstruction)
    assert gradient.norm().item() == pytest.approx(losses["generator_grad_wrt_reconstruction_norm"], rel=TOLERANCE)
    outside = reconstruction.detach().abs() > 1
    assert outside.float().mean().item() == pytest.approx(losses["recon_outside_range_fraction"], rel=TOLERANCE)
    # The clamp above is the reference's; what it costs is the defect that pixel_loss leaves out.
    assert gradient[outside].abs().max().item() == 0


def test_contrastive() -> None:
    expected = read_json("losses")["muse_losses"]
    image_rows, text_rows = reference_tensors()["main.image_embeds"], text_embeddings()
    log_scale = weight("logit_scale", ())
    assert log_scale.exp().item() == pytest.approx(expected["logit_scale_exp"], rel=TOLERANCE)
    logits = torch.tensor(expected["loss_itc_logits"])
    torch.testing.assert_close(log_scale.exp() * image_rows @ text_rows.mT, logits, rtol=0, atol=1e-4 * 0.2)
    result = contrastive_loss(image_rows, text_rows, log_scale)
    assert result.loss.item() == pytest.approx(expected["loss_itc"], rel=TOLERANCE)
    assert result.negatives == 1
