"""From a size and a few numbers to a network.

Letters: D width of the blocks.
"""

from dataclasses import dataclass

import torch
from diffusers import AutoencoderDC
from transformers import InternVLVisionConfig, InternVLVisionModel

from muse_core.errors import ExitCode, MuseError
from muse_core.model.connector import Connector, Layout
from muse_core.model.decoder import PixelDecoder
from muse_core.model.encoder import VisionEncoder
from muse_core.model.network import MuseNetwork
from muse_core.model.weights import tiny

CAPTION_WIDTH = {"tiny": tiny.WIDTH, "1b": 768, "3b": 768}


@dataclass(frozen=True)
class ConnectorSpec:
    """The numbers that a checkpoint must repeat to be loaded again."""

    layout: Layout
    width: int
    heads: int
    blocks: int
    latent_channels: int
    inject: bool
    resolution: int


def build_network(size: str, spec: ConnectorSpec) -> MuseNetwork:
    """Build a network whose encoder and decoder are the published parts and whose connector is new.

    Raises:
        MuseError: the parts of this size are not on this machine, or cannot be trained by this version.
    """
    if size == "tiny":
        return _assemble(tiny.load_backbone(), tiny.load_pixels(), 16, spec, size)
    raise MuseError(
        f"size {size} can be planned but not yet trained: loading its published parts is not built",
        hint=f"muse train --size {size} --stage 1 --dry-run, or --size tiny",
        exit_code=ExitCode.MACHINE,
    )


def plan_network(size: str, spec: ConnectorSpec) -> MuseNetwork:
    """Build the same network without weights (on the meta device), to count and to list."""
    with torch.device("meta"):
        if size == "tiny":
            return _assemble(tiny.new_backbone(), tiny.new_pixels().decoder, 16, spec, size)
        return _assemble(InternVLVisionModel(internvit_300m()), dc_ae_f32c32().decoder, 32, spec, size)


def _assemble(
    vision: InternVLVisionModel, decoder: torch.nn.Module, decoder_channels: int, spec: ConnectorSpec, size: str
) -> MuseNetwork:
    encoder = VisionEncoder(vision)
    connector = Connector(
        encoder_width=encoder.width,
        width=spec.width,
        heads=spec.heads,
        blocks=spec.blocks,
        latent_channels=spec.latent_channels,
        caption_width=CAPTION_WIDTH[size],
        layout=spec.layout,
        inject=spec.inject,
    )
    return MuseNetwork(encoder, connector, PixelDecoder(decoder, spec.latent_channels, decoder_channels))


def internvit_300m() -> InternVLVisionConfig:
    """Return the vision tower of InternVL3-1B and -2B: InternViT-300M-448px."""
    return InternVLVisionConfig(
        image_size=[448, 448],
        patch_size=[14, 14],
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        attention_bias=True,
        use_qk_norm=False,
        norm_type="layer_norm",
        layer_norm_eps=1e-6,
        use_mean_pooling=True,
        layer_scale_init_value=0.1,
    )


def dc_ae_f32c32() -> AutoencoderDC:
    """Return the autoencoder of SANA, untrained: 32 latent channels, one latent cell covers 32 x 32 pixels."""
    widths = (128, 256, 512, 512, 1024, 1024)
    kinds = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
    return AutoencoderDC(
        latent_channels=32,
        attention_head_dim=32,
        encoder_block_types=kinds,
        decoder_block_types=kinds,
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        encoder_layers_per_block=(2, 2, 2, 3, 3, 3),
        decoder_layers_per_block=(3, 3, 3, 3, 3, 3),
        encoder_qkv_multiscales=((), (), (), (5,), (5,), (5,)),
        decoder_qkv_multiscales=((), (), (), (5,), (5,), (5,)),
        upsample_block_type="interpolate",
        downsample_block_type="Conv",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
    )
