"""UniLIP's tokenizer: InternViT, a small connector, and the decoder of a DC-AE.

Letters: B images, D vision width, E width of the language model, C latent channels, h x w latent cells of 28 pixels.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from diffusers import AutoencoderDC
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional
from transformers import InternVLVisionConfig, InternVLVisionModel

from muse_baselines.decoder_sizes import decoder_of_shapes
from muse_baselines.describing import counts_of, device_of, grid_of, no_layer
from muse_baselines.files import Published, open_weights
from muse_baselines.vision import vision_attention
from muse_core.model.abilities import Attention, FeatureLayer, Features, Latents, TokenizerInfo
from muse_core.model.architecture import refuse_empty, vision_arguments, vision_of_shapes, without_weights
from muse_core.model.images import imagenet_normalize, pad_to_multiple
from muse_core.model.tokenizer import Origin
from muse_core.model.weights.filling import fill
from muse_core.model.weights.keymaps import vision_names
from muse_core.model.weights.reading import LazyTensors, take

Rule = Literal["plain", "padded"]

FOLD = 2
"""Patches along a side that become one cell."""

CONNECTOR_EPS = 1e-5
BLOCK_EPS = 1e-6

_FULL_MODEL = {"vision_tower.": "encoder.", "multi_modal_projector.": "mlp1.", "vae_decoder.": "decoder."}
"""How the complete UniLIP models name what the tokenizer's own file names otherwise."""


def perceptron(width: int, out: int, eps: float) -> nn.Sequential:
    """LayerNorm, Linear, GELU, Linear; the indices are those of the published names."""
    return nn.Sequential(nn.LayerNorm(width, eps=eps), nn.Linear(width, out), nn.GELU(), nn.Linear(out, out))


class ResidualPerceptron(nn.Module):
    """x + mlp(x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = perceptron(width, width, BLOCK_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to the same shape."""
        out: Tensor = x + self.mlp(x)
        return out


class UniLipNetwork(nn.Module):
    """The parts of the published file under their published names."""

    def __init__(self, vision: InternVLVisionModel, width: int, channels: int, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = vision
        self.width, self.channels = width, channels
        self.mlp1 = perceptron(int(vision.config.hidden_size) * FOLD**2, width, CONNECTOR_EPS)
        self.down_blocks = nn.ModuleList(ResidualPerceptron(width) for _ in range(3))
        self.down_mlp = perceptron(width, channels, CONNECTOR_EPS)
        self.decoder = decoder

    def tokens(self, pixels: Tensor) -> Tensor:
        """Return all tokens of the vision tower, (B, 1 + N, D), the class token first."""
        found: Tensor = self.encoder(pixels).last_hidden_state
        return found

    def language(self, pixels: Tensor, height: int) -> Tensor:
        """Return what a language model would read: (B, h * w, E), from `height` rows of patches."""
        grid = rearrange(self.tokens(pixels)[:, 1:], "b (h w) d -> b h w d", h=height)
        # Row offset, column offset, channel: torch's own pixel_unshuffle would put the channel first.
        folded = rearrange(grid, "b (h i) (w j) d -> b (h w) (i j d)", i=FOLD, j=FOLD)
        out: Tensor = self.mlp1(folded)
        return out

    def latents(self, pixels: Tensor, height: int) -> Tensor:
        """Return raw latents (B, C, h, w), from `height` rows of patches."""
        tokens = self.language(pixels, height)
        for block in self.down_blocks:
            tokens = block(tokens)
        z: Tensor = rearrange(self.down_mlp(tokens), "b (h w) c -> b c h w", h=height // FOLD)
        return z


class UniLipTokenizer:
    """Encodes, decodes, gives features and shows attention; it was trained without a text tower of its own.

    rule: "plain" resizes what was decoded to the size that was encoded (224 and 448 pixels); "padded" reflects the
    image at its borders up to whole cells and cuts that off again (how its 256-pixel numbers were made).
    """

    def __init__(self, network: UniLipNetwork, origin: Origin, rule: Rule = "plain") -> None:
        self.network = network
        self.origin = origin
        self.rule = rule
        self.patch = int(network.encoder.config.patch_size[0])
        self.cell = FOLD * self.patch

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return device_of(self.network)

    @property
    def info(self) -> TokenizerInfo:
        """Describe the tokenizer."""
        cell, config = self.cell, self.network.encoder.config
        width, channels = self.network.width, self.network.channels
        return TokenizerInfo(
            name=self.origin.name,
            source=self.origin.source,
            licence=self.origin.licence,
            resolution=self.origin.resolution,
            multiple=1,
            square_only=False,
            tokens_at=grid_of(cell),
            latent_channels=channels,
            feature_layers={
                "encoder": FeatureLayer(int(config.hidden_size), self.patch),
                "llm": FeatureLayer(width, cell),
                "latent": FeatureLayer(channels, cell),
            },
            layer_for={"classify": "encoder", "segment": "encoder"},
            attention_layers=int(config.num_hidden_layers),
            parameters=counts_of(self.network.named_children()),
            notes=(*self.origin.notes, f"resize rule: {self.rule}"),
        )

    def pixels(self, images: Tensor) -> Tensor:
        """Return normalised images with sides of whole cells."""
        images = images.to(self.device)
        if self.rule == "plain":
            return imagenet_normalize(pad_to_multiple(images, self.cell))
        high, wide = (-side % self.cell for side in images.shape[-2:])
        around = (wide // 2, wide - wide // 2, high // 2, high - high // 2)
        return imagenet_normalize(functional.pad(images, around, mode="reflect"))

    @torch.no_grad()
    def encode(self, images: Tensor, *, sample: bool = False, generator: torch.Generator | None = None) -> Latents:
        """Encode images to raw latents (B, C, h, w); there is no posterior to sample from."""
        pixels = self.pixels(images)
        return Latents(self.network.latents(pixels, pixels.shape[-2] // self.patch).float())

    @torch.no_grad()
    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """Decode raw latents to (B, 3, *size) by the resize rule, not clamped."""
        raw = self.network.decoder(z.to(self.device))
        whole = (z.shape[-2] * self.cell, z.shape[-1] * self.cell)
        padded = self.rule == "padded"
        image = functional.interpolate(raw, size=whole, mode="bilinear", align_corners=padded)
        top, left = ((w - s) // 2 if padded else 0 for w, s in zip(whole, size, strict=True))
        return ((image + 1) / 2)[..., top : top + size[0], left : left + size[1]].float()

    @torch.no_grad()
    def features(self, images: Tensor, layer: str | None = None) -> Features:
        """Read the tower's patches, the language model's tokens or the latents; pooled is the mean."""
        patch = self._at(self.pixels(images), layer or "encoder").float()
        return Features(patch, patch.mean((-2, -1)))

    def _at(self, pixels: Tensor, layer: str) -> Tensor:
        height = pixels.shape[-2] // self.patch
        if layer == "encoder":
            return rearrange(self.network.tokens(pixels)[:, 1:], "b (h w) d -> b d h w", h=height)
        if layer == "llm":
            return rearrange(self.network.language(pixels, height), "b (h w) d -> b d h w", h=height // FOLD)
        if layer == "latent":
            return self.network.latents(pixels, height)
        raise no_layer(
            self.origin.name,
            layer,
            (
                "encoder",
                "llm",
                "latent",
            ),
        )

    @torch.no_grad()
    def attention(self, images: Tensor, layer: int = -1) -> Attention:
        """Show one layer of the vision tower; the class token comes first. The grid begins at the image's corner."""
        pixels = imagenet_normalize(pad_to_multiple(images.to(self.device), self.cell))
        return vision_attention(self.network.encoder, pixels, layer)


def unilip_name(key: str) -> str:
    """Translate a name of a complete model into the tokenizer's own; nothing for what the tokenizer does not use."""
    key = key.removeprefix("model.")
    for theirs, ours in _FULL_MODEL.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    if "regressor" in key:
        return ""
    used = ("encoder.", "mlp1.", "down_blocks.", "down_mlp.", "decoder.")
    return key if key.startswith(used) or not _is_language(key) else ""


def _is_language(key: str) -> bool:
    return key.startswith(("language_model.", "lm_head.", "dit.", "llm_connector.", "projector.", "latent_queries"))


def published_names(key: str) -> list[str]:
    """Our names for one of the tokenizer's: only the vision tower is spelled otherwise, its qkv become three."""
    if not key.startswith("encoder."):
        return [key]
    inner = key.removeprefix("encoder.")
    return [f"encoder.{name}" for name in vision_names(inner)] or [key]


def build(shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]) -> UniLipNetwork:
    """Build the network that the tensors' shapes tell of; a config beside them may tell the vision tower's heads."""
    inner = {name.removeprefix("encoder."): shape for name, shape in shapes.items() if name.startswith("encoder.")}
    told = config.get("vision_config") or config.get("vision")
    vision = vision_arguments(told) if told else vision_of_shapes(inner)
    channels, width = shapes["down_mlp.1.weight"]
    with without_weights():
        tower = InternVLVisionModel(InternVLVisionConfig(**vision))
        decoder = AutoencoderDC(**decoder_of_shapes(shapes)).decoder
        return UniLipNetwork(tower, width, channels, decoder)


def load(path: str | None, device: str, published: Published, origin: Origin, rule: Rule) -> UniLipTokenizer:
    """Load the tokenizer from its own file, or from a complete UniLIP model.

    Raises:
        MuseError: the file is missing, unsafe, or of another network.
    """
    found = open_weights(path, published)
    tensors = found.tensors.renamed(unilip_name)
    network = _built(tensors, found.config)
    fill(network, take(tensors, published_names), source=tensors.source, assign=True, remedy=tensors.remedy)
    refuse_empty(network, tensors.source)
    network.encoder.set_attn_implementation("eager")  # the only one that returns its weights
    return UniLipTokenizer(network.eval().requires_grad_(False).to(device), origin, rule)


def _built(tensors: LazyTensors, config: Mapping[str, Any]) -> UniLipNetwork:
    try:
        return build(tensors.shapes, config)
    except (KeyError, ValueError) as error:
        raise tensors.refuse(f"is no UniLIP tokenizer: {error} is missing") from None
