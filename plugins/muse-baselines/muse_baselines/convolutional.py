"""Convolutional autoencoders on diffusers' classes: VQGAN, LlamaGen's VQ, VA-VAE, SD-VAE and FLUX-VAE.

Letters: B images, C latent channels, H x W pixels, h x w cells.
"""

from abc import ABC, abstractmethod

import torch
from diffusers import AutoencoderKL, VQModel
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from muse_baselines.convolutional_keys import (
    Sizes,
    from_llamagen,
    is_published_layout,
    library_names,
    llamagen_levels,
    modern_name,
    sizes_of,
)
from muse_baselines.describing import counts_of, device_of, grid_of, no_layer
from muse_baselines.files import Published, Weights, open_weights
from muse_core.errors import MuseError
from muse_core.model.abilities import Attention, FeatureLayer, Features, Latents, TokenizerInfo
from muse_core.model.architecture import refuse_empty, without_weights
from muse_core.model.images import pad_to_multiple
from muse_core.model.tokenizer import Origin
from muse_core.model.weights.filling import fill
from muse_core.model.weights.reading import LazyTensors, take


class ConvolutionalTokenizer(ABC):
    """What the family shares: pixels in [-1, 1], a feature map, one head of attention in the middle of the encoder."""

    def __init__(self, model: AutoencoderKL | VQModel, origin: Origin) -> None:
        self.model = model
        self.origin = origin
        self.stride = int(2 ** (len(model.config.block_out_channels) - 1))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return device_of(self.model)

    @property
    def channels(self) -> int:
        """Width of the latents."""
        return int(self.model.config.latent_channels)

    @property
    def codes(self) -> int | None:
        """Entries of the codebook, where there is one."""
        return None

    @property
    def info(self) -> TokenizerInfo:
        """Describe the tokenizer."""
        width, stride = int(self.model.config.block_out_channels[-1]), self.stride
        parts = {"encoder": self.model.encoder, "decoder": self.model.decoder}
        return TokenizerInfo(
            name=self.origin.name,
            source=self.origin.source,
            licence=self.origin.licence,
            resolution=self.origin.resolution,
            multiple=1,
            square_only=False,
            tokens_at=grid_of(stride),
            latent_channels=self.channels,
            codebook_size=self.codes,
            feature_layers={"encoder": FeatureLayer(width, stride), "latent": FeatureLayer(self.channels, stride)},
            layer_for={"classify": "encoder", "segment": "encoder"},
            attention_layers=1,
            parameters=counts_of(parts.items()),
            notes=self.origin.notes,
        )

    def _pixels(self, images: Tensor) -> Tensor:
        return 2 * pad_to_multiple(images.to(self.device), self.stride) - 1

    @abstractmethod
    def encode(self, images: Tensor, *, sample: bool = False, generator: torch.Generator | None = None) -> Latents:
        """Encode images (B, 3, H, W); sides are padded to whole cells."""

    def _decoded(self, z: Tensor) -> Tensor:
        decoded: Tensor = self.model.decode(z.to(self.device)).sample
        return decoded

    @torch.no_grad()
    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """Decode latents (B, C, h, w) and cut what the padding added: (B, 3, *size), not clamped."""
        return ((self._decoded(z) + 1) / 2)[..., : size[0], : size[1]].float()

    @torch.no_grad()
    def features(self, images: Tensor, layer: str | None = None) -> Features:
        """Read the map before the encoder's last norm, or the latents; pooled is the mean over cells."""
        patch = self._at(images, layer or "encoder")
        return Features(patch, patch.mean((-2, -1)))

    def _at(self, images: Tensor, layer: str) -> Tensor:
        if layer == "latent":
            return self.encode(images).z
        if layer != "encoder":
            raise no_layer(
                self.origin.name,
                layer,
                (
                    "encoder",
                    "latent",
                ),
            )
        return self._input_of(self.model.encoder.conv_norm_out, images).float()

    def _input_of(self, module: nn.Module, images: Tensor) -> Tensor:
        """Run the encoder and return what one of its modules was given."""
        kept: list[Tensor] = []
        handle = module.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
        try:
            self.model.encoder(self._pixels(images))
        finally:
            handle.remove()
        return kept[0]

    @torch.no_grad()
    def attention(self, images: Tensor, layer: int = -1) -> Attention:
        """Show the attention in the middle of the encoder: one head, no prefix."""
        if layer not in (0, -1):
            raise MuseError(f"{self.origin.name} has one layer of attention, not {layer}", hint="--layer last")
        block = self.model.encoder.mid_block.attentions[0]
        seen = self._input_of(block, images)
        tokens = block.group_norm(seen.flatten(2)).mT
        weights = block.get_attention_scores(block.to_q(tokens), block.to_k(tokens))
        return Attention(weights[:, None].float(), prefix=0, grid=(seen.shape[-2], seen.shape[-1]))


class KlTokenizer(ConvolutionalTokenizer):
    """A normal posterior per cell; its mean is the latent unless a sample is asked for. No scale is applied."""

    @torch.no_grad()
    def encode(self, images: Tensor, *, sample: bool = False, generator: torch.Generator | None = None) -> Latents:
        """Encode images to the posterior's mean (B, C, h, w), or a sample of it."""
        posterior = self.model.encode(self._pixels(images)).latent_dist
        return Latents((posterior.sample(generator) if sample else posterior.mean).float())


class VqTokenizer(ConvolutionalTokenizer):
    """A codebook: latents are code vectors, and decoding takes the nearest code again.

    unit: codes and latents are compared as unit vectors (LlamaGen).
    """

    def __init__(self, model: VQModel, origin: Origin, *, unit: bool = False) -> None:
        super().__init__(model, origin)
        self.unit = unit

    @property
    def channels(self) -> int:
        """Width of a code."""
        return int(self.model.quantize.embedding.weight.shape[1])

    @property
    def codes(self) -> int:
        """Entries of the codebook."""
        return int(self.model.quantize.embedding.weight.shape[0])

    def quantise(self, z: Tensor) -> Latents:
        """Replace each cell of (B, C, h, w) by its nearest code."""
        z = functional.normalize(z, dim=1) if self.unit else z
        codes = self.model.quantize.embedding.weight
        flat = rearrange(z, "b c h w -> (b h w) c")
        indices = torch.cdist(flat, codes).argmin(-1)
        indices = rearrange(indices, "(b h w) -> b h w", b=z.shape[0], h=z.shape[2])
        return Latents(rearrange(codes[indices], "b h w c -> b c h w").float(), indices)

    @torch.no_grad()
    def encode(self, images: Tensor, *, sample: bool = False, generator: torch.Generator | None = None) -> Latents:
        """Encode images to code vectors (B, C, h, w) and their indices; there is no posterior to sample from."""
        return self.quantise(self.model.encode(self._pixels(images)).latents)

    def _decoded(self, z: Tensor) -> Tensor:
        quantised = self.quantise(z.to(self.device)).z
        decoded: Tensor = self.model.decode(quantised, force_not_quantize=True).sample
        return decoded


def _blocks(sizes: Sizes) -> dict[str, object]:
    down = ("DownEncoderBlock2D", "AttnDownEncoderBlock2D")
    up = ("UpDecoderBlock2D", "AttnUpDecoderBlock2D")
    return {
        "down_block_types": tuple(down[attends] for attends in sizes.down),
        "up_block_types": tuple(up[attends] for attends in reversed(sizes.up)),
        "block_out_channels": sizes.widths,
        "layers_per_block": sizes.layers,
        "norm_num_groups": 32,
    }


def build_kl(sizes: Sizes) -> AutoencoderKL:
    """Build an untrained autoencoder with a normal posterior."""
    convs = {"use_quant_conv": sizes.quant_convs, "use_post_quant_conv": sizes.quant_convs}
    return AutoencoderKL(latent_channels=sizes.latent, **convs, **_blocks(sizes))


def build_vq(sizes: Sizes) -> VQModel:
    """Build an untrained autoencoder with a codebook."""
    return VQModel(latent_channels=sizes.z, num_vq_embeddings=sizes.codes, vq_embed_dim=sizes.latent, **_blocks(sizes))


def load(path: str | None, device: str, published: Published, origin: Origin) -> KlTokenizer | VqTokenizer:
    """Load any of the family from the authors' layout or from a diffusers folder; which one it is, the file says.

    Raises:
        MuseError: the file is missing, unsafe, or of another network.
    """
    found = open_weights(path, published)
    tensors = found.tensors.under("first_stage_model.") or found.tensors
    levels = llamagen_levels(tensors.shapes)
    if levels:
        tensors = tensors.renamed(lambda key: from_llamagen(key, levels))
    model = _from_authors(tensors) if is_published_layout(tensors.shapes) else _from_library(tensors, found)
    refuse_empty(model, tensors.source)
    model.eval().requires_grad_(False).to(device)
    if isinstance(model, AutoencoderKL):
        return KlTokenizer(model, origin)
    if levels:
        codes = model.quantize.embedding.weight
        codes.copy_(functional.normalize(codes, dim=-1))
    return VqTokenizer(model, origin, unit=levels > 0)


def _from_authors(tensors: LazyTensors) -> AutoencoderKL | VQModel:
    try:
        sizes = sizes_of(tensors.shapes)
    except (KeyError, ValueError) as error:
        raise tensors.refuse(f"is no autoencoder of this family: {error} is missing") from None
    with without_weights():
        model = build_vq(sizes) if sizes.codes else build_kl(sizes)
    weights = take(tensors, library_names(len(sizes.widths)))
    # The authors write the projections of an attention as 1x1 convolutions, the library as matrices.
    flat = {name: tensor.flatten(1) if _is_projection(name, tensor) else tensor for name, tensor in weights.items()}
    fill(model, flat, source=tensors.source, assign=True, remedy=tensors.remedy)
    return model


def _is_projection(name: str, tensor: Tensor) -> bool:
    return ".attentions." in name and tensor.ndim == 4


def _from_library(tensors: LazyTensors, found: Weights) -> AutoencoderKL | VQModel:
    kind = {"AutoencoderKL": AutoencoderKL, "VQModel": VQModel}.get(str(found.config.get("_class_name")))
    if kind is None:
        raise tensors.refuse("is in no layout that is known, and no config.json of diffusers lies beside it")
    with without_weights():
        model = kind.from_config(dict(found.config))
    weights = take(tensors, lambda key: [modern_name(key)])
    flat = {name: tensor.flatten(1) if _is_projection(name, tensor) else tensor for name, tensor in weights.items()}
    fill(model, flat, source=tensors.source, assign=True, remedy=tensors.remedy)
    return model
