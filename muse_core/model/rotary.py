"""Rotary position embedding, over a raster index (released layout) or over rows and columns (ours).

Letters: B images, H heads, N = h * w tokens, C channels of a head.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rotary:
    """Rotates queries and keys (B, H, N, C) by position; cos and sin are (N, C)."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Turn each pair of channels by the angle of its position."""
        first, second = x.chunk(2, dim=-1)
        turned = torch.cat((-second, first), dim=-1)
        return (x * self.cos + turned * self.sin).to(x.dtype)


def _from_angles(angles: Tensor) -> Rotary:
    doubled = torch.cat((angles, angles), dim=-1)
    return Rotary(doubled.cos(), doubled.sin())


def _frequencies(count: int, base: float, device: torch.device) -> Tensor:
    return base ** (-torch.arange(count, device=device, dtype=torch.float32) / count)


def raster_rotary(tokens: int, channels: int, device: torch.device, base: float = 10_000.0) -> Rotary:
    """Positions count along the flattened raster, so one row down is a step of w (the public code's choice)."""
    positions = torch.arange(tokens, device=device, dtype=torch.float32)
    return _from_angles(positions[:, None] * _frequencies(channels // 2, base, device))


def axial_rotary(grid: tuple[int, int], channels: int, device: torch.device, base: float = 100.0) -> Rotary:
    """Half of the frequencies turn with the row, half with the column; a position means the same at any image size."""
    height, width = grid
    frequencies = _frequencies(channels // 4, base, device)
    rows = torch.arange(height, device=device, dtype=torch.float32)[:, None] * frequencies  # h C/4
    columns = torch.arange(width, device=device, dtype=torch.float32)[:, None] * frequencies  # w C/4
    angles = torch.cat(
        (rows[:, None].expand(height, width, -1), columns[None].expand(height, width, -1)), dim=-1
    )  # h w C/2
    return _from_angles(angles.flatten(0, 1))
