"""From a size and a few numbers to a network.

Letters: D width of the blocks.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from transformers import InternVLVisionModel

from muse_core.model.architecture import Architecture, without_weights
from muse_core.model.block import SemanticInput
from muse_core.model.connector import Connector, Layout
from muse_core.model.decoder import PixelDecoder
from muse_core.model.encoder import VisionEncoder
from muse_core.model.network import MuseNetwork
from muse_core.model.weights import published, tiny


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
    semantic_input: SemanticInput = "normalized"  # checkpoints from before it was a choice do not name it


def build_network(size: str, spec: ConnectorSpec) -> MuseNetwork:
    """Build a network whose encoder and decoder are the published parts and whose connector is new.

    Raises:
        MuseError: a part of this size is not on this machine, is damaged, or is something else.
    """
    if size == "tiny":
        return _assemble(tiny.load_backbone(), tiny.load_pixels(), tiny.CHANNELS, tiny.WIDTH, spec)
    architecture = published.architecture(size)
    vision = published.load_encoder(size, architecture)
    decoder = published.load_decoder(size, architecture)
    return _of(architecture, vision, decoder, spec)


def empty_network(architecture: Architecture, spec: ConnectorSpec, *, new_connector: bool = False) -> MuseNetwork:
    """Build a network without weights, to be filled; `new_connector` gives the connector fresh ones."""
    with without_weights():
        vision, decoder = architecture.new_encoder(), architecture.new_decoder()
    with nullcontext() if new_connector else without_weights():
        return _of(architecture, vision, decoder, spec)


def plan_network(size: str, spec: ConnectorSpec) -> MuseNetwork:
    """Build the same network without weights (on the meta device), to count and to list."""
    with torch.device("meta"):
        if size == "tiny":
            return _assemble(tiny.new_backbone(), tiny.new_pixels().decoder, tiny.CHANNELS, tiny.WIDTH, spec)
        architecture = published.architecture(size)
        return _of(architecture, architecture.new_encoder(), architecture.new_decoder(), spec)


def _of(
    architecture: Architecture, vision: InternVLVisionModel, decoder: nn.Module, spec: ConnectorSpec
) -> MuseNetwork:
    network = _assemble(vision, decoder, architecture.decoder_channels, architecture.caption_width, spec)
    network.architecture = architecture
    return network


def _assemble(
    vision: InternVLVisionModel, decoder: nn.Module, decoder_channels: int, caption_width: int, spec: ConnectorSpec
) -> MuseNetwork:
    encoder = VisionEncoder(vision)
    connector = Connector(
        encoder_width=encoder.width,
        width=spec.width,
        heads=spec.heads,
        blocks=spec.blocks,
        latent_channels=spec.latent_channels,
        caption_width=caption_width,
        layout=spec.layout,
        inject=spec.inject,
        semantic_input=spec.semantic_input,
    )
    return MuseNetwork(encoder, connector, PixelDecoder(decoder, spec.latent_channels, decoder_channels))
