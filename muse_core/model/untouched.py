"""The encoder before any MUSE stage, as a tokenizer of its own: the baseline that every gain is measured from.

Letters: B images, D width, h x w patches, E caption width.
"""

import torch
from einops import rearrange
from torch import Tensor

from muse_core.model.abilities import Attention, FeatureLayer, Features, TokenizerInfo
from muse_core.model.images import imagenet_normalize, pad_to_multiple
from muse_core.model.text import TextTower
from muse_core.model.weights.tiny import RESOLUTION, ImageTower


class UntouchedEncoder:
    """The tiny pack's backbone with its own CLIP head: features, alignment and attention, no pixels."""

    def __init__(self, tower: ImageTower, text: TextTower, device: torch.device | str = "cpu") -> None:
        self.tower = tower
        self.text = text.to(device)
        self.device = torch.device(device)
        # Fused attention returns no weights; this object is small enough to show them always.
        tower.backbone.set_attn_implementation("eager")
        tower.backbone.to(device)
        tower.projection.to(device)

    @property
    def info(self) -> TokenizerInfo:
        """Describe the encoder."""
        config = self.tower.backbone.config
        patch, width = int(config.patch_size[0]), int(config.hidden_size)
        return TokenizerInfo(
            name="tiny-encoder",
            source="shipped with muse",
            licence="Apache-2.0",
            resolution=RESOLUTION,
            multiple=1,
            square_only=False,
            tokens_at=lambda height, image_width: (-(-height // patch), -(-image_width // patch)),
            feature_layers={"encoder": FeatureLayer(width, patch)},
            layer_for={"classify": "encoder", "segment": "encoder"},
            attention_layers=int(config.num_hidden_layers),
            text_context=self.text.context,
            parameters={"encoder": sum(weight.numel() for weight in self.tower.backbone.parameters())},
        )

    def _pixels(self, images: Tensor) -> Tensor:
        patch = int(self.tower.backbone.config.patch_size[0])
        return imagenet_normalize(pad_to_multiple(images.to(self.device), patch))

    @torch.no_grad()
    def features(self, images: Tensor, layer: str | None = None) -> Features:
        """Read the last layer's patch tokens; pooled is their mean."""
        pixels = self._pixels(images)
        tokens = self.tower.backbone(pixels).last_hidden_state[:, 1:]
        height = pixels.shape[-2] // int(self.tower.backbone.config.patch_size[0])
        patch = rearrange(tokens, "b (h w) d -> b d h w", h=height).float()
        return Features(patch, patch.mean((-2, -1)))

    @torch.no_grad()
    def attention(self, images: Tensor, layer: int = -1) -> Attention:
        """Show the self-attention of one layer; the class token comes first."""
        pixels = self._pixels(images)
        patch = int(self.tower.backbone.config.patch_size[0])
        maps = self.tower.backbone(pixels, output_attentions=True).attentions
        return Attention(maps[layer].float(), prefix=1, grid=(pixels.shape[-2] // patch, pixels.shape[-1] // patch))

    @property
    def logit_scale(self) -> float:
        """Exponentiated temperature of its pre-training."""
        return self.tower.scale

    def image_embed(self, images: Tensor) -> Tensor:
        """Embed images: unit rows (B, E)."""
        patch = int(self.tower.backbone.config.patch_size[0])
        return self.tower.embed(pad_to_multiple(images.to(self.device), patch))

    def text_embed(self, texts: list[str]) -> Tensor:
        """Embed sentences: unit rows (N, E)."""
        return self.text(texts)
