"""Networks of three sizes for measuring speed; weights are drawn at random, shapes are real.

tiny   those of the tiny pack, 64 px
mid    a size in between that a CPU can step through, 224 px
1b     the published shapes, 224 px; `python -m benchmarks.training --device cuda`
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models import convnext_small, vgg16
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    InternVLVisionConfig,
    InternVLVisionModel,
)

from muse_core.losses.perceptual import LPIPS, CombinedPerceptual, ConvNextLogits, FeatureDistance, Perceptual
from muse_core.model.architecture import DC_AE_F32C32, INTERNVIT_300M, Architecture
from muse_core.model.connector import Connector
from muse_core.model.decoder import PixelDecoder
from muse_core.model.discriminator import PatchDiscriminator
from muse_core.model.encoder import VisionEncoder
from muse_core.model.network import MuseNetwork
from muse_core.model.teacher import StructureTeacher
from muse_core.model.text import TextTower
from muse_core.model.weights import tiny
from muse_core.stages.judging import tiny_features

LPIPS_WIDTHS = (64, 128, 256, 512, 512)
SPAN = 77


@dataclass(frozen=True)
class Networks:
    """All that a step of stage 3 runs through, on one device."""

    side: int
    network: MuseNetwork
    teacher: StructureTeacher
    text: TextTower
    perceptual: Perceptual
    discriminator: PatchDiscriminator


def build(size: str, device: torch.device) -> Networks:
    """Draw the networks of a size."""
    torch.manual_seed(0)
    return {"tiny": _tiny, "mid": _mid, "1b": _1b}[size](device)


def _tiny(device: torch.device) -> Networks:
    network = _network(
        tiny.new_backbone(), tiny.new_pixels().decoder, channels=16, width=128, heads=4, blocks=3, captions=96
    )
    return Networks(
        side=64,
        network=network.to(device),
        teacher=StructureTeacher(tiny.new_teacher()).to(device),
        text=tiny.load_text().to(device),
        perceptual=FeatureDistance(tiny_features(tiny.new_backbone().to(device).requires_grad_(False), 2)),
        discriminator=PatchDiscriminator(width=24, multipliers=(1, 2), groups=8, grid=8).to(device),
    )


def _mid(device: torch.device) -> Networks:
    vision = {**INTERNVIT_300M, "image_size": [224, 224], "hidden_size": 256, "num_hidden_layers": 6}
    vision |= {"num_attention_heads": 4, "intermediate_size": 1024}
    pixels = {**DC_AE_F32C32, "decoder_layers_per_block": [1] * 6, "encoder_layers_per_block": [1] * 6}
    widths = [32, 64, 128, 128, 256, 256]
    pixels |= {"encoder_block_out_channels": widths, "decoder_block_out_channels": widths}
    architecture = Architecture(vision, pixels, caption_width=96)
    network = _network(
        architecture.new_encoder(), architecture.new_decoder(), channels=32, width=256, heads=4, blocks=6, captions=96
    )
    teacher = _teacher(hidden_size=320, intermediate_size=1280, num_hidden_layers=8, num_attention_heads=5)
    judge = InternVLVisionModel(InternVLVisionConfig(**vision)).requires_grad_(False)
    return Networks(
        side=224,
        network=network.to(device),
        teacher=StructureTeacher(teacher).to(device),
        text=tiny.load_text().to(device),
        perceptual=FeatureDistance(tiny_features(judge.to(device), 2)),
        discriminator=PatchDiscriminator(width=24, multipliers=(1, 2), groups=8, grid=8).to(device),
    )


def _1b(device: torch.device) -> Networks:
    architecture = Architecture(INTERNVIT_300M, DC_AE_F32C32)
    network = _network(
        architecture.new_encoder(), architecture.new_decoder(), channels=32, width=512, heads=8, blocks=6, captions=768
    )
    teacher = _teacher(
        hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, use_gated_mlp=True
    )
    lpips = LPIPS(vgg16(weights=None).features, [torch.rand(1, width, 1, 1) for width in LPIPS_WIDTHS])
    parts = [(1.0, lpips.to(device)), (0.1, ConvNextLogits(convnext_small(weights=None)).to(device))]
    text = CLIPTextConfig(hidden_size=768, intermediate_size=3072, projection_dim=768, num_attention_heads=12)
    return Networks(
        side=224,
        network=network.to(device),
        teacher=StructureTeacher(teacher).to(device),
        text=TextTower(CLIPTextModelWithProjection(text), _ids, "CLIP ViT-L/14, random").to(device),
        perceptual=CombinedPerceptual(parts),
        discriminator=PatchDiscriminator().to(device),
    )


def _teacher(**sizes: int) -> DINOv3ViTModel:
    return DINOv3ViTModel(DINOv3ViTConfig(image_size=224, patch_size=16, num_register_tokens=4, **sizes))


def _ids(texts: list[str]) -> Tensor:
    """Return one id per letter: what a caption says does not change what it costs."""
    rows = [[2 + ord(letter) % 1000 for letter in text[: SPAN - 1]] for text in texts]
    return torch.tensor([[*row, *[49_407] * (SPAN - len(row))] for row in rows])


def _network(
    vision: InternVLVisionModel,
    decoder: nn.Module,
    *,
    channels: int,
    width: int,
    heads: int,
    blocks: int,
    captions: int,
) -> MuseNetwork:
    encoder = VisionEncoder(vision)
    connector = Connector(
        encoder_width=encoder.width,
        width=width,
        heads=heads,
        blocks=blocks,
        latent_channels=channels,
        caption_width=captions,
    )
    network = MuseNetwork(encoder, connector, PixelDecoder(decoder, channels, channels))
    network.decoder.to(memory_format=torch.channels_last)
    return network
