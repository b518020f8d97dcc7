"""The discriminator that judges reconstructions patch by patch (module names of the released checkpoints)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SLOPE = 0.1


class Blur(nn.Module):
    """Halve an image after a binomial low-pass, each channel alone, so that no detail aliases.

    Padded by TensorFlow's SAME rule for the stride: ceil(H / 2) out, and an odd pixel of padding goes right and bottom.

    Args:
        taps: the one-dimensional kernel; normalised here.
    """

    kernel: Tensor

    def __init__(self, taps: Sequence[float] = (1, 3, 3, 1)) -> None:
        super().__init__()
        line = torch.tensor(taps, dtype=torch.float32)
        plane = torch.outer(line, line)
        self.register_buffer("kernel", (plane / plane.sum())[None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, ceil(H / 2), ceil(W / 2)) of x (B, C, H, W)."""
        channels, size = x.shape[1], self.kernel.shape[-1]
        (left, right), (top, bottom) = (_same_padding(side, size, stride=2) for side in (x.shape[-1], x.shape[-2]))
        padded = F.pad(x, (left, right, top, bottom))
        return F.conv2d(padded, self.kernel.to(x.dtype).expand(channels, -1, -1, -1), stride=2, groups=channels)


def _same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


class PatchDiscriminator(nn.Module):
    """Logits (B, 1, grid, grid) for images (B, 3, H, W) in [0, 1]: the higher, the more real a region looks.

    Three halvings for the released sizes; no spectral norm, no augmentation. Weights start from PyTorch's defaults.

    Args:
        width: channels of the first convolution.
        multipliers: channels of each halving block, in units of `width`.
        groups: of the group norms; must divide the channels.
        grid: side of the map of logits, whatever the size of the image.
    """

    def __init__(
        self, width: int = 128, multipliers: Sequence[int] = (1, 2, 4), groups: int = 32, grid: int = 16
    ) -> None:
        super().__init__()
        widths = [width, *(width * multiplier for multiplier in multipliers)]
        self.block_in = nn.Sequential(nn.Conv2d(3, width, 5, padding="same"), nn.LeakyReLU(_SLOPE))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, padding="same"),
                Blur(),
                nn.GroupNorm(groups, after),
                nn.LeakyReLU(_SLOPE),
            )
            for before, after in zip(widths[:-1], widths[1:], strict=True)
        )
        self.pool = nn.AdaptiveMaxPool2d(grid)
        self.to_logits = nn.Sequential(
            nn.Conv2d(widths[-1], widths[-1], 1),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(widths[-1], 1, 5, padding="same"),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Judge images (B, 3, H, W) in [0, 1]; returns (B, 1, grid, grid)."""
        x = self.block_in(images)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.to_logits(self.pool(x))
        return logits
