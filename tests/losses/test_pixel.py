"""Pixels are compared as they come out of the decoder."""

import pytest
import torch

from muse_core.losses.pixel import pixel_loss


def test_a7_unclamped_pixels_keep_their_gradient() -> None:
    prediction = torch.tensor([1.5, -0.5, 0.5]).view(1, 3, 1, 1).requires_grad_()
    pixel_loss(prediction, torch.tensor([0.0, 1.0, 0.5]).view(1, 3, 1, 1)).backward()
    assert prediction.grad is not None
    torch.testing.assert_close(prediction.grad.flatten(), torch.tensor([1.0, -1.0, 0.0]))


def test_mean_squared_and_mean_absolute_distance() -> None:
    prediction, target = torch.full((2, 3, 4, 4), 0.75), torch.full((2, 3, 4, 4), 0.25)
    assert pixel_loss(prediction, target).item() == pytest.approx(0.25)
    assert pixel_loss(prediction, target, "l1").item() == pytest.approx(0.5)


def test_half_precision_output_is_compared_in_float32() -> None:
    assert pixel_loss(torch.zeros(1, 3, 2, 2).bfloat16(), torch.ones(1, 3, 2, 2)).dtype == torch.float32
