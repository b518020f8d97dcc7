"""A trained network with the abilities of `abilities.py`; which class it is says what its files support.

Letters: B images, C latent channels, h x w cells, D width, N = h * w.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from muse_core.model.abilities import Attention, FeatureLayer, Features, Latents, TokenizerInfo
from muse_core.model.blocks import feature_layers, refuse_other_blocks, refuse_other_layer
from muse_core.model.images import pad_to_multiple
from muse_core.model.network import MuseNetwork
from muse_core.model.text import TextTower


@dataclass(frozen=True)
class Origin:
    """Where a tokenizer came from, in the words that `info` repeats; `size` says which parts belong to it."""

    name: str
    source: str
    licence: str
    resolution: int
    notes: tuple[str, ...] = ()
    size: str = "tiny"


class MuseTokenizer:
    """Encodes, decodes, gives features and shows attention."""

    def __init__(self, network: MuseNetwork, origin: Origin) -> None:
        self.network = network.eval().requires_grad_(False)
        self.origin = origin

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def info(self) -> TokenizerInfo:
        """Describe the tokenizer."""
        network, connector = self.network, self.network.connector
        cell = network.cell
        width = connector.to_latent.in_features
        layers = {
            **dict.fromkeys(feature_layers(len(connector.blocks)), FeatureLayer(width, cell)),
            "encoder": FeatureLayer(network.encoder.width, network.encoder.patch),
            "latent": FeatureLayer(connector.to_latent.out_features, cell),
        }
        return TokenizerInfo(
            name=self.origin.name,
            source=self.origin.source,
            licence=self.origin.licence,
            resolution=self.origin.resolution,
            multiple=1,
            square_only=False,
            tokens_at=lambda height, width: (-(-height // cell), -(-width // cell)),
            latent_channels=connector.to_latent.out_features,
            feature_layers=layers,
            layer_for=self._layer_for(),
            attention_layers=len(connector.blocks),
            text_context=self._text_context(),
            parameters=self._parameters(),
            notes=self.origin.notes,
        )

    def _layer_for(self) -> Mapping[str, str]:
        return {"classify": "encoder", "segment": "texture"}

    def _text_context(self) -> int | None:
        return None

    def _parameters(self) -> dict[str, int]:
        parts = self.network.named_children()
        return {name: sum(weight.numel() for weight in part.parameters()) for name, part in parts}

    @torch.no_grad()
    def encode(self, images: Tensor, *, sample: bool = False, generator: torch.Generator | None = None) -> Latents:
        """Encode images to continuous latents (B, C, h, w); there is no posterior to sample from."""
        return Latents(self.network.connect(images.to(self.device), mapped=()).latents.float())

    @torch.no_grad()
    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """Decode latents to (B, 3, *size), not clamped."""
        return self.network.decode(z.to(self.device), size).float()

    @torch.no_grad()
    def features(self, images: Tensor, layer: str | None = None) -> Features:
        """Read features at `layer` (default: the one for classifying); pooled is the mean over patches.

        "semantic" and "block-1" are the semantic values of the last block, "block-2" those of the one before it.
        """
        layer = layer or self._layer_for()["classify"]
        images = images.to(self.device)
        if layer == "encoder":
            tokens = self.network.encoder(pad_to_multiple(images, self.network.cell))
            patch = rearrange(tokens, "b h w d -> b d h w")
        else:
            patch = self._connector_features(images, layer)
        return Features(patch.float(), patch.float().mean((-2, -1)))

    def _connector_features(self, images: Tensor, layer: str) -> Tensor:
        out = self.network.connect(images, mapped=())
        if layer == "latent":
            return out.latents
        places = {"semantic": out.anchors[-1], "texture": out.tokens}
        places |= {f"block-{place}": anchor for place, anchor in enumerate(reversed(out.anchors), start=1)}
        refuse_other_layer(self.origin.name, layer, self.info.feature_layers)
        return rearrange(places[layer], "b (h w) d -> b d h w", h=out.grid[0])

    @torch.no_grad()
    def attention(self, images: Tensor, layer: int = -1) -> Attention:
        """Show the attention of one synergistic block, (B, heads, N, N) without prefix tokens."""
        blocks = len(self.network.connector.blocks)
        refuse_other_blocks(layer, blocks)
        out = self.network.connect(images.to(self.device), mapped=(layer % blocks,))
        return Attention(out.attentions[0].float(), prefix=0, grid=out.grid)


class AlignedMuseTokenizer(MuseTokenizer):
    """A tokenizer whose semantic stream was trained and whose text tower is at hand (stages 2 and 3)."""

    def __init__(self, network: MuseNetwork, origin: Origin, text: TextTower) -> None:
        super().__init__(network, origin)
        self.text = text

    def _layer_for(self) -> Mapping[str, str]:
        return {"classify": "semantic", "segment": "texture"}

    def _text_context(self) -> int | None:
        return self.text.context

    @property
    def logit_scale(self) -> float:
        """Exponentiated temperature of the image-text logits."""
        return float(self.network.connector.scale())

    @torch.no_grad()
    def image_embed(self, images: Tensor) -> Tensor:
        """Embed images by the last block's anchor: unit rows (B, E)."""
        out = self.network.connect(images.to(self.device), mapped=())
        return self.network.connector.embed(out.anchors[-1]).float()

    def text_embed(self, texts: list[str]) -> Tensor:
        """Embed sentences: unit rows (N, E)."""
        return self.text(texts)
