"""The pixel decoder: the decoder half of a DC-AE, and the resize to the size that was encoded.

Letters: B images, C latent channels, h x w cells.
"""

from torch import Tensor, nn
from torch.nn import functional


class PixelDecoder(nn.Module):
    """Latents to images, nominally in [0, 1] and not clamped: a clamp would hide wrong pixels from the losses."""

    def __init__(self, decoder: nn.Module, latent_channels: int, decoder_channels: int) -> None:
        super().__init__()
        same = latent_channels == decoder_channels
        self.adapter = nn.Identity() if same else nn.Conv2d(latent_channels, decoder_channels, 1)
        self.decoder = decoder

    def forward(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """Decode z (B, C, h, w) to (B, 3, *size); the decoder speaks [-1, 1]."""
        raw = self.decoder(self.adapter(z))
        if raw.shape[-2:] != size:
            raw = functional.interpolate(raw, size=size, mode="bilinear", align_corners=False)
        image: Tensor = (raw + 1) / 2
        return image
