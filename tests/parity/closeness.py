"""One measure for all parity tests: the largest difference, relative to the reference's largest value."""

import torch
from torch import Tensor

TOLERANCE = 1e-4


def assert_close(ours: Tensor, reference: Tensor, tolerance: float = TOLERANCE) -> None:
    """Fail when any element differs by more than `tolerance` times the reference tensor's maximum."""
    assert ours.shape == reference.shape, f"{tuple(ours.shape)} instead of {tuple(reference.shape)}"
    worst = (ours.detach().double() - reference.double()).abs().max()
    scale = reference.double().abs().max()
    assert torch.isfinite(worst), "not finite"
    assert worst <= tolerance * scale, f"off by {worst:.3g} where the largest value is {scale:.3g}"
