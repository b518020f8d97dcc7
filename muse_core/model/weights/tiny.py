"""The tiny foundation pack: small trained stand-ins for the four published parts, in the same library classes.

The pack is a folder of safetensors in the layouts that the real parts are published in (`tiny_pack` beside this
file); `python -m muse_core.training.foundation` makes it again. Sizes follow the geometry of the real parts:
16 x 16 encoder tokens, folded 2 x 2 into 8 x 8 latent cells.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderDC
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    InternVLVisionConfig,
    InternVLVisionModel,
)

from muse_core.model.images import imagenet_normalize
from muse_core.model.text import TextTower, WordTokenizer
from muse_core.model.weights.parts import PACK as PACK

RESOLUTION = 64
WIDTH = 96
CHANNELS = 16
CONTEXT = 20


def new_backbone() -> InternVLVisionModel:
    """Build the untrained stand-in for InternViT: patch 4, 16 x 16 tokens of width 96, 4 layers."""
    return InternVLVisionModel(
        InternVLVisionConfig(
            image_size=[RESOLUTION, RESOLUTION],
            patch_size=[4, 4],
            hidden_size=WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=2 * WIDTH,
            attention_bias=True,
            use_qk_norm=False,
            norm_type="layer_norm",
            use_mean_pooling=True,
            layer_scale_init_value=1.0,
        )
    )


def new_pixels() -> AutoencoderDC:
    """Build the untrained stand-in for DC-AE: 16 latent channels, one latent cell covers 8 x 8 pixels."""
    widths = (16, 32, 64, 128)
    kinds = ("ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock")
    layers = (1, 1, 1, 2)
    return AutoencoderDC(
        latent_channels=CHANNELS,
        attention_head_dim=32,
        encoder_block_types=kinds,
        decoder_block_types=kinds,
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        encoder_layers_per_block=layers,
        decoder_layers_per_block=layers,
        encoder_qkv_multiscales=((), (), (), ()),
        decoder_qkv_multiscales=((), (), (), ()),
        upsample_block_type="interpolate",
        downsample_block_type="Conv",
    )


def new_teacher() -> DINOv3ViTModel:
    """Build the untrained stand-in for DINOv3: patch 8, 8 x 8 tokens of width 96, 4 layers, 2 registers."""
    return DINOv3ViTModel(
        DINOv3ViTConfig(
            image_size=RESOLUTION,
            patch_size=8,
            hidden_size=WIDTH,
            intermediate_size=3 * WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_register_tokens=2,
            layerscale_value=1.0,
        )
    )


def new_text(vocabulary: int) -> CLIPTextModelWithProjection:
    """Build the untrained text tower: word-level, 20 positions, width 96, 2 layers."""
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            pad_token_id=WordTokenizer.PAD,
            bos_token_id=WordTokenizer.BEGIN,
            eos_token_id=WordTokenizer.END,
        )
    )


@dataclass(frozen=True)
class ImageTower:
    """The image side of the pack's CLIP: mean over the patch tokens, then a linear map into the text's space."""

    backbone: InternVLVisionModel
    projection: nn.Linear
    scale: float

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Embed images (B, 3, H, W) in [0, 1] as (B, E) float32, not normalised."""
        tokens = self.backbone(imagenet_normalize(images)).last_hidden_state[:, 1:]
        embedded: Tensor = self.projection(tokens.mean(1)).float()
        return embedded

    def embed(self, images: Tensor) -> Tensor:
        """Embed images as unit rows (B, E)."""
        return functional.normalize(self(images), dim=-1)


def _frozen(model: nn.Module, folder: Path) -> None:
    weights = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
    model.load_state_dict(weights, strict=True)
    model.eval().requires_grad_(False)


def load_backbone(pack: Path = PACK) -> InternVLVisionModel:
    """Load the pack's vision backbone."""
    model = new_backbone()
    _frozen(model, pack / "backbone")
    return model


def load_pixels(pack: Path = PACK) -> nn.Module:
    """Load the decoder half of the pack's autoencoder; its encoder half is not shipped."""
    decoder: nn.Module = new_pixels().decoder
    _frozen(decoder, pack / "pixels")
    return decoder


def load_teacher_model(pack: Path = PACK) -> DINOv3ViTModel:
    """Load the pack's structure teacher."""
    model = new_teacher()
    _frozen(model, pack / "teacher")
    return model


def load_words(pack: Path = PACK) -> tuple[str, ...]:
    """Read the text tower's vocabulary."""
    return tuple(json.loads((pack / "text" / "words.json").read_text(encoding="utf-8")))


def load_text(pack: Path = PACK) -> TextTower:
    """Load the pack's text tower with its word tokenizer."""
    tokenizer = WordTokenizer(load_words(pack), CONTEXT)
    model = new_text(len(tokenizer))
    _frozen(model, pack / "text")
    return TextTower(model, tokenizer, "muse/tiny-text")


def load_image_tower(pack: Path = PACK) -> ImageTower:
    """Load the image side of the pack's CLIP: backbone, projection and logit scale."""
    head = load_file(pack / "backbone" / "projection.safetensors")
    projection = nn.Linear(WIDTH, WIDTH, bias=False)
    projection.load_state_dict({"weight": head["weight"].float()})
    return ImageTower(load_backbone(pack), projection.eval().requires_grad_(False), float(head["logit_scale"].exp()))
