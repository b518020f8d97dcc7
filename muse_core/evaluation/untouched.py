"""The untouched encoder: the tiny pack's vision backbone before any stage of training, as a baseline with abilities.

Letters: B images, D width, E width of the image-text space, h x w patches.
"""

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from muse_core.model.abilities import Attention, FeatureLayer, Features, TokenizerInfo
from muse_core.model.images import imagenet_normalize, pad_to_multiple
from muse_core.model.text import TextTower
from muse_core.model.weights.tiny import RESOLUTION, ImageTower


class UntouchedEncoder:
    """Features, alignment and attention of a frozen backbone with the image-text head it was pre-trained with.

    Args:
        tower: backbone and projection; the backbone is switched to the attention that returns its weights.
        text: the text tower of the same pre-training.
        cell: images are padded to multiples of this many pixels, as the tokenizer built on the encoder does.
    """

    def __init__(self, tower: ImageTower, text: TextTower, cell: int = 8) -> None:
        self._backbone = tower.backbone
        self._backbone.set_attn_implementation("eager")
        self._tower, self._text, self._cell = tower, text, cell
        self._patch = int(tower.backbone.config.patch_size[0])

    @property
    def info(self) -> TokenizerInfo:
        """Describe the encoder."""
        width = int(self._backbone.config.hidden_size)
        return TokenizerInfo(
            name="untouched encoder",
            source="muse/tiny-pack",
            licence="Apache-2.0",
            resolution=RESOLUTION,
            multiple=1,
            square_only=False,
            tokens_at=lambda height, width: (-(-height // self._patch), -(-width // self._patch)),
            feature_layers={"encoder": FeatureLayer(width, self._patch)},
            layer_for={"classify": "encoder", "segment": "encoder"},
            attention_layers=int(self._backbone.config.num_hidden_layers),
            text_context=self._text.context,
        )

    @property
    def logit_scale(self) -> float:
        """Temperature of the image-text logits of pre-training."""
        return self._tower.scale

    @torch.no_grad()
    def features(self, images: Tensor, layer: str | None = None) -> Features:
        """Read the last tokens of the patches; pooled is their mean. There is one layer, whatever `layer` says."""
        pixels = pad_to_multiple(images, self._cell)
        tokens = self._backbone(imagenet_normalize(pixels)).last_hidden_state[:, 1:].float()
        patch = rearrange(tokens, "b (h w) d -> b d h w", h=pixels.shape[-2] // self._patch)
        return Features(patch, patch.mean((-2, -1)))

    @torch.no_grad()
    def image_embed(self, images: Tensor) -> Tensor:
        """Embed images: unit rows (B, E)."""
        return F.normalize(self._tower(pad_to_multiple(images, self._cell)), dim=-1)

    def text_embed(self, texts: list[str]) -> Tensor:
        """Embed sentences: unit rows (N, E)."""
        return self._text(texts)

    @torch.no_grad()
    def attention(self, images: Tensor, layer: int = -1) -> Attention:
        """Show the attention of one layer of the backbone, behind its class token."""
        pixels = pad_to_multiple(images, self._cell)
        found = self._backbone(imagenet_normalize(pixels), output_attentions=True).attentions
        grid = (pixels.shape[-2] // self._patch, pixels.shape[-1] // self._patch)
        return Attention(found[layer].float(), prefix=1, grid=grid)


def load_untouched_encoder(device: str = "cpu") -> UntouchedEncoder:
    """Load the tiny pack's backbone as it was before training, on a device."""
    from muse_core.model.weights.tiny import load_image_tower, load_text

    tower, text = load_image_tower(), load_text()
    tower.backbone.to(device)
    tower.projection.to(device)
    return UntouchedEncoder(tower, text.to(device))
