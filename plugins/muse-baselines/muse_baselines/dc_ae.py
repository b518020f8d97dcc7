"""DC-AE: a deep convolutional autoencoder with linear attention, on diffusers' class.

Its attention is linear and has no map of cells to cells, so it shows none. Letters: B images, C latent channels,
h x w cells.
"""

from collections.abc import Mapping

import torch
from diffusers import AutoencoderDC
from diffusers.loaders.single_file_utils import convert_autoencoder_dc_checkpoint_to_diffusers
from torch import Tensor

from muse_baselines.describing import counts_of, device_of, grid_of, no_layer
from muse_baselines.files import Published, open_weights
from muse_core.model.abilities import FeatureLayer, Features, Latents, TokenizerInfo
from muse_core.model.architecture import DC_AE_F32C32, decoder_arguments, refuse_empty, without_weights
from muse_core.model.images import pad_to_multiple
from muse_core.model.tokenizer import Origin
from muse_core.model.weights.filling import fill
from muse_core.model.weights.reading import take


class DcAeTokenizer:
    """Encodes and decodes, without a posterior and without a scale; its latents are its features."""

    def __init__(self, model: AutoencoderDC, origin: Origin) -> None:
        self.model = model
        self.origin = origin
        self.stride = int(model.spatial_compression_ratio)
        self.channels = int(model.config.latent_channels)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return device_of(self.model)

    @property
    def info(self) -> TokenizerInfo:
        """Describe the tokenizer."""
        stride = self.stride
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
            feature_layers={"latent": FeatureLayer(self.channels, stride)},
            layer_for={"classify": "latent", "segment": "latent"},
            parameters=counts_of(parts.items()),
            notes=self.origin.notes,
        )

    @torch.no_grad()
    def encode(self, images: Tensor, *, sample: bool = False, generator: torch.Generator | None = None) -> Latents:
        """Encode images to raw latents (B, C, h, w); sides are padded to whole cells."""
        pixels = 2 * pad_to_multiple(images.to(self.device), self.stride) - 1
        return Latents(self.model.encode(pixels).latent.float())

    @torch.no_grad()
    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """Decode raw latents and cut what the padding added: (B, 3, *size), not clamped."""
        decoded: Tensor = self.model.decode(z.to(self.device)).sample
        return ((decoded + 1) / 2)[..., : size[0], : size[1]].float()

    @torch.no_grad()
    def features(self, images: Tensor, layer: str | None = None) -> Features:
        """Read the latents; pooled is their mean."""
        if layer not in (None, "latent"):
            raise no_layer(self.origin.name, layer, ("latent",))
        patch = self.encode(images).z
        return Features(patch, patch.mean((-2, -1)))


def load(path: str | None, device: str, published: Published, origin: Origin) -> DcAeTokenizer:
    """Load DC-AE from a diffusers folder, or from a file in the authors' layout with the sizes of SANA's f32c32.

    Raises:
        MuseError: the file is missing, unsafe, or of other sizes.
    """
    found = open_weights(path, published)
    with without_weights():
        model = AutoencoderDC(**(decoder_arguments(found.config) if found.config else DC_AE_F32C32))
    weights = take(found.tensors, lambda name: [name])
    if any(name.startswith("encoder.project_in") or ".context_module." in name for name in weights):
        weights = from_authors(weights)
    fill(model, weights, source=found.tensors.source, assign=True, remedy=found.tensors.remedy)
    refuse_empty(model, found.tensors.source)
    return DcAeTokenizer(model.eval().requires_grad_(False).to(device), origin)


def from_authors(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate efficientvit's layout with the library's own converter."""
    converted: dict[str, Tensor] = convert_autoencoder_dc_checkpoint_to_diffusers(dict(weights))
    return converted
