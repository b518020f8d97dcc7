"""VTP: a vision transformer with a bottleneck, a pixel decoder and a CLIP text tower; sizes from its config.

Two transformers of timm and one of open_clip, with float32 rotary positions throughout: the reference rotates in
bfloat16, which makes its own outputs wobble by 0.01 for no gain.

Letters: B images, D trunk width, C bottleneck channels, h x w patches, E width of the shared image-text space.
"""

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

import open_clip
import torch
from einops import rearrange
from open_clip.transformer import LayerNorm as TextNorm, QuickGELU, TextTransformer
from timm.layers import RmsNorm
from timm.models.eva import Eva
from torch import Tensor, nn
from torch.nn import functional

from muse_baselines.describing import counts_of, device_of, grid_of, no_layer
from muse_baselines.files import Published, open_weights
from muse_core.errors import MuseError
from muse_core.model.abilities import Attention, FeatureLayer, Features, Latents, TokenizerInfo
from muse_core.model.architecture import refuse_empty, without_weights
from muse_core.model.images import IMAGENET_MEAN, IMAGENET_STD, imagenet_normalize, pad_to_multiple
from muse_core.model.tokenizer import Origin
from muse_core.model.weights.filling import fill
from muse_core.model.weights.keymaps import renamed
from muse_core.model.weights.reading import take

RMS_EPS = 1e-5
LAYER_EPS = 1e-6
LAST_BLOCKS = 4
"""How many of the last blocks can be read, each after the final norm."""

_BLOCK = {
    "mlp.w1": "mlp.fc1_g",
    "mlp.w2": "mlp.fc1_x",
    "mlp.w3": "mlp.fc2",
    "ls1.gamma": "gamma_1",
    "ls2.gamma": "gamma_2",
}
_TEXT = {"text_transformer": "transformer"}
_TEXT_PARTS = ("text_transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection")


def library_names(key: str) -> list[str]:
    """Our names for one of VTP's; none for the mask token of training and for rotary tables, which are computed."""
    if key.endswith(("mask_token", "rope_embed.periods", "bias_mask")):
        return []
    if key.startswith(_TEXT_PARTS):
        return [f"text.{renamed(key, _TEXT)}"]
    side, _, rest = key.partition(".")
    if side not in ("trunk", "pixel_decoder"):
        return [key]
    if rest.startswith("feature_bottleneck."):
        return [rest.replace("feature_bottleneck", "bottleneck")]
    if rest.startswith("proj_out."):
        return [f"to_pixels.{rest.removeprefix('proj_out.')}"]
    ours = "trunk" if side == "trunk" else "decoder"
    if rest.startswith("blocks."):
        _, index, name = rest.split(".", 2)
        return [f"{ours}.blocks.{index}.{renamed(name, _BLOCK)}"]
    return [f"{ours}.{renamed(rest, {'proj_in': 'patch_embed.proj'})}"]


def build_transformer(config: Mapping[str, Any], side: str, **own: Any) -> Eva:
    """Build the trunk (`side` "vision") or the pixel decoder ("decoder") as VTP's config tells, untrained."""
    width, heads, kind = config[f"{side}_embed_dim"], config[f"{side}_num_heads"], config[f"{side}_ffn_layer"]
    ratio, gated = float(config.get(f"{side}_mlp_ratio", 4.0)), kind.startswith("swiglu")
    rms = config[f"{side}_norm_layer"].startswith("rms")
    normed = bool(config[f"{side}_use_qk_norm"])
    network = Eva(
        num_classes=0,
        global_pool="",
        embed_dim=width,
        depth=config[f"{side}_depth"],
        num_heads=heads,
        qk_norm=normed,
        mlp_ratio=ratio * 2 / 3 if gated else ratio,
        swiglu_mlp=gated,
        swiglu_align_to=(64 if kind == "swiglu64" else 8) if gated else 0,
        attn_type="rope",
        norm_layer=partial(RmsNorm, eps=RMS_EPS) if rms else partial(nn.LayerNorm, eps=LAYER_EPS),
        init_values=config[f"{side}_init_values"],
        no_embed_class=True,
        use_abs_pos_emb=False,
        use_rot_pos_emb=True,
        rope_type="dinov3",
        rope_temperature=100.0,
        rope_rotate_half=True,
        use_fc_norm=False,
        use_post_transformer_norm=True,
        dynamic_img_size=True,
        **own,
    )
    if normed and not rms:  # queries and keys are normed by their root mean square whatever the blocks use
        for block in network.blocks:
            block.attn.q_norm, block.attn.k_norm = (RmsNorm(width // heads, eps=RMS_EPS) for _ in range(2))
    return network


def build_text(config: Mapping[str, Any]) -> TextTransformer:
    """Build the text tower as VTP's config tells, untrained."""
    return TextTransformer(
        context_length=config["text_context_length"],
        vocab_size=config["text_vocab_size"],
        width=config["text_embed_dim"],
        heads=config["text_num_heads"],
        layers=config["text_depth"],
        mlp_ratio=config["text_mlp_ratio"],
        ls_init_value=config["text_ls_init_value"],
        output_dim=config["text_embed_dim"],
        embed_cls=config["text_embed_cls"],
        no_causal_mask=config["text_no_causal_mask"],
        pad_id=config["text_pad_id"],
        pool_type=config["text_pool_type"],
        proj_type=config["text_proj_type"],
        proj_bias=config["text_proj_bias"],
        act_layer=QuickGELU if config["text_quick_gelu"] else nn.GELU,
        norm_layer=TextNorm,
    )


class VtpNetwork(nn.Module):
    """The parts of a VTP and how they are joined."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, channels = config["vision_embed_dim"], config["vision_feature_bottleneck"]
        self.patch = int(config["vision_patch_size"])
        size = int(config["image_size"])
        self.trunk = build_transformer(config, "vision", img_size=size, patch_size=self.patch)
        self.bottleneck = nn.Linear(width, channels, bias=False)
        self.decoder = build_transformer(
            config, "decoder", img_size=size // self.patch, patch_size=1, in_chans=channels, class_token=False
        )
        self.to_pixels = nn.Conv2d(config["decoder_embed_dim"], 3 * self.patch**2, 1)
        self.text = build_text(config)
        self.before_bottleneck = bool(config["vision_bottleneck_ae_only"])
        self.pooled = config["vision_clip_feat"] == "pooled"
        seen = width if self.before_bottleneck else channels
        self.visual_proj = nn.Linear(seen, config["text_embed_dim"], bias=False)
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def latents(self, pixels: Tensor) -> Tensor:
        """Squeeze the patches of normalised pixels to (B, C, h, w)."""
        patches = self.trunk.forward_features(pixels)[:, 1:]
        z: Tensor = rearrange(self.bottleneck(patches), "b (h w) c -> b c h w", h=pixels.shape[-2] // self.patch)
        return z

    def pixels(self, z: Tensor) -> Tensor:
        """Decode latents to pixels in normalised space, (B, 3, H, W)."""
        tokens = rearrange(self.decoder.forward_features(z), "b (h w) d -> b d h w", h=z.shape[-2])
        return functional.pixel_shuffle(self.to_pixels(tokens), self.patch)

    def image(self, pixels: Tensor) -> Tensor:
        """Embed normalised pixels by their class token, or the mean of their patches: (B, E), of any length."""
        tokens = self.trunk.forward_features(pixels)
        token = tokens[:, 1:].mean(1) if self.pooled else tokens[:, 0]
        out: Tensor = self.visual_proj(token if self.before_bottleneck else self.bottleneck(token))
        return out


class VtpTokenizer:
    """Encodes, decodes, gives features, aligns images with text and shows attention."""

    def __init__(self, network: VtpNetwork, origin: Origin) -> None:
        self.network = network
        self.origin = origin
        self.patch = network.patch

    @cached_property
    def _tokenize(self) -> Callable[[list[str]], Tensor]:
        """Made when the first sentence comes: reading the vocabulary takes half a second."""
        tokenize: Callable[[list[str]], Tensor] = open_clip.SimpleTokenizer(
            context_length=self.network.text.context_length
        )
        return tokenize

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return device_of(self.network)

    @property
    def info(self) -> TokenizerInfo:
        """Describe the tokenizer."""
        patch, width, channels = self.patch, self.network.trunk.embed_dim, self.network.bottleneck.out_features
        depth = len(self.network.trunk.blocks)
        blocks = {f"block-{place}": FeatureLayer(width, patch) for place in range(1, min(LAST_BLOCKS, depth) + 1)}
        return TokenizerInfo(
            name=self.origin.name,
            source=self.origin.source,
            licence=self.origin.licence,
            resolution=self.origin.resolution,
            multiple=1,
            square_only=False,
            tokens_at=grid_of(patch),
            latent_channels=channels,
            feature_layers={**blocks, "latent": FeatureLayer(channels, patch)},
            layer_for={"classify": "block-1", "segment": "block-1"},
            attention_layers=depth,
            text_context=self.network.text.context_length,
            parameters=counts_of(self.network.named_children()),
            notes=(*self.origin.notes, "rotary positions in float32, the reference's are bfloat16"),
        )

    def pixels(self, images: Tensor) -> Tensor:
        """Return normalised images with sides of whole patches."""
        return imagenet_normalize(pad_to_multiple(images.to(self.device), self.patch))

    @torch.no_grad()
    def encode(self, images: Tensor, *, sample: bool = False, generator: torch.Generator | None = None) -> Latents:
        """Encode images to the bottleneck's (B, C, h, w); there is no posterior to sample from."""
        return Latents(self.network.latents(self.pixels(images)).float())

    @torch.no_grad()
    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """Decode latents and cut what the padding added: (B, 3, *size), not clamped."""
        decoded = self.network.pixels(z.to(self.device))
        mean, std = (torch.tensor(v, device=decoded.device).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        return (decoded * std + mean)[..., : size[0], : size[1]].float()

    @torch.no_grad()
    def features(self, images: Tensor, layer: str | None = None) -> Features:
        """Read one of the last blocks after the final norm, its class token as the pooled feature, or the latents."""
        layer = layer or "block-1"
        if layer not in self.info.feature_layers:
            raise no_layer(self.origin.name, layer, self.info.feature_layers)
        if layer == "latent":
            patch = self.encode(images).z
            return Features(patch, patch.mean((-2, -1)))
        place = len(self.network.trunk.blocks) - int(layer.removeprefix("block-"))
        found = self.network.trunk.forward_intermediates(
            self.pixels(images), [place], return_prefix_tokens=True, norm=True, intermediates_only=True
        )
        patch, prefix = found[0]
        return Features(patch.float(), prefix[:, 0].float())

    @property
    def logit_scale(self) -> float:
        """Exponentiated temperature of the image-text logits."""
        return float(self.network.logit_scale.exp())

    @torch.no_grad()
    def image_embed(self, images: Tensor) -> Tensor:
        """Embed images: unit rows (B, E)."""
        return functional.normalize(self.network.image(self.pixels(images)).float(), dim=-1)

    @torch.no_grad()
    def embed_ids(self, ids: Tensor) -> Tensor:
        """Embed token ids (N, L): unit rows (N, E)."""
        return functional.normalize(self.network.text(ids.to(self.device)).float(), dim=-1)

    def text_embed(self, texts: list[str]) -> Tensor:
        """Embed sentences: unit rows (N, E)."""
        return self.embed_ids(self._tokenize(texts))

    @torch.no_grad()
    def attention(self, images: Tensor, layer: int = -1) -> Attention:
        """Show one layer of the trunk; the class token comes first."""
        blocks, pixels = self.network.trunk.blocks, self.pixels(images)
        if not -len(blocks) <= layer < len(blocks):
            raise MuseError(f"there is no layer {layer}", hint=f"choose from 0 to {len(blocks) - 1}")
        attention, kept = blocks[layer].attn, list[Tensor]()
        handle = attention.attn_drop.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
        fused, attention.fused_attn = attention.fused_attn, False  # the fused kernel never makes the weights
        try:
            self.network.trunk.forward_features(pixels)
        finally:
            attention.fused_attn = fused
            handle.remove()
        return Attention(kept[0].float(), 1, (pixels.shape[-2] // self.patch, pixels.shape[-1] // self.patch))


def load(path: str | None, device: str, published: Published, origin: Origin) -> VtpTokenizer:
    """Load VTP from its folder: config.json and safetensors.

    Raises:
        MuseError: the file is missing, unsafe, or of another network; or there is no config beside it.
    """
    found = open_weights(path, published)
    if not found.config:
        raise found.tensors.refuse("needs the config.json that was published beside it: it tells the sizes")
    try:
        with without_weights():
            network = VtpNetwork(found.config)
    except KeyError as error:
        raise found.tensors.refuse(f"has a config.json that does not tell {error}") from None
    weights = take(found.tensors, library_names)
    fill(network, weights, source=found.tensors.source, assign=True, remedy=found.tensors.remedy)
    refuse_empty(network, found.tensors.source)
    return VtpTokenizer(network.eval().requires_grad_(False).to(device), origin)
