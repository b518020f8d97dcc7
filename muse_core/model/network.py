"""The whole tokenizer network: vision encoder, connector, pixel decoder.

Letters: B images, H x W pixels, C latent channels, h x w cells.
"""

from collections.abc import Collection

from torch import Tensor, nn

from muse_core.model.architecture import Architecture
from muse_core.model.connector import Connector, ConnectorOutput
from muse_core.model.decoder import PixelDecoder
from muse_core.model.encoder import VisionEncoder
from muse_core.model.images import pad_to_multiple
from muse_core.model.routing import ROUTINGS, Routing


class MuseNetwork(nn.Module):
    """Encoder, connector and decoder, handed in ready-made: nothing is loaded or downloaded here.

    architecture: the sizes of encoder and decoder, which a checkpoint has to repeat; None for those of the tiny pack.
    """

    architecture: Architecture | None = None

    def __init__(self, encoder: VisionEncoder, connector: Connector, decoder: PixelDecoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.connector = connector
        self.decoder = decoder

    @property
    def cell(self) -> int:
        """Side in pixels of the square that one latent cell covers."""
        return self.encoder.patch * self.connector.fold_side

    def connect(
        self, images: Tensor, routing: Routing = ROUTINGS["strict"], mapped: Collection[int] | None = None
    ) -> ConnectorOutput:
        """Encode images (B, 3, H, W) in [0, 1]; sides that are no multiples of the cell are padded.

        mapped: the blocks whose attention is wanted, None for all.
        """
        tokens = self.encoder(pad_to_multiple(images, self.cell))
        out: ConnectorOutput = self.connector(tokens, routing, mapped=mapped)
        return out

    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """Decode latents (B, C, h, w) to images (B, 3, *size); what was padded before encoding is cut off again."""
        padded = (z.shape[-2] * self.cell, z.shape[-1] * self.cell)
        image: Tensor = self.decoder(z, padded)
        return image[..., : size[0], : size[1]]

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct images (B, 3, H, W)."""
        size = (images.shape[-2], images.shape[-1])
        return self.decode(self.connect(images, mapped=()).latents, size)
