"""The vision encoder: an InternViT whose patch tokens come out as a grid.

Letters: B images, H x W pixels, C width.
"""

from einops import rearrange
from torch import Tensor, nn
from transformers import InternVLVisionModel

from muse_core.model.images import imagenet_normalize


class VisionEncoder(nn.Module):
    """InternViT, read at its last layer without a final norm; the class token is dropped."""

    def __init__(self, vision: InternVLVisionModel) -> None:
        super().__init__()
        self.vision = vision
        self.patch = int(vision.config.patch_size[0])
        self.width = int(vision.config.hidden_size)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in [0, 1] to tokens (B, H // patch, W // patch, C); a rest of the sides is unused."""
        height = images.shape[-2] // self.patch
        width = images.shape[-1] // self.patch
        used = images[..., : height * self.patch, : width * self.patch]
        tokens = self.vision(imagenet_normalize(used)).last_hidden_state[:, 1:]
        grid: Tensor = rearrange(tokens, "b (h w) c -> b h w c", h=height)
        return grid
