"""The sizes of encoder and decoder as plain numbers: those that were published, or those that a file's config says."""

import inspect
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import init_empty_weights
from diffusers import AutoencoderDC
from torch import nn
from transformers import InternVLVisionConfig, InternVLVisionModel

from muse_core.errors import MuseError
from muse_core.files import read_json

HEAD_WIDTH = 64
"""Of every InternViT that was published; a file's tensors do not tell it."""

_VISION_FIELDS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "image_size",
    "patch_size",
    "layer_norm_eps",
    "norm_type",
)
INTERNVIT_300M: Mapping[str, Any] = {
    "image_size": [448, 448],
    "patch_size": [14, 14],
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "attention_bias": True,
    "use_qk_norm": False,
    "norm_type": "layer_norm",
    "layer_norm_eps": 1e-6,
    "use_mean_pooling": True,
    "layer_scale_init_value": 0.1,
}
"""The vision tower of InternVL3-1B and of InternVL3-2B: InternViT-300M-448px."""

_KINDS = ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3
_WIDTHS = [128, 256, 512, 512, 1024, 1024]
DC_AE_F32C32: Mapping[str, Any] = {
    "latent_channels": 32,
    "attention_head_dim": 32,
    "encoder_block_types": _KINDS,
    "decoder_block_types": _KINDS,
    "encoder_block_out_channels": _WIDTHS,
    "decoder_block_out_channels": _WIDTHS,
    "encoder_layers_per_block": [2, 2, 2, 3, 3, 3],
    "decoder_layers_per_block": [3] * 6,
    "encoder_qkv_multiscales": [[], [], [], [5], [5], [5]],
    "decoder_qkv_multiscales": [[], [], [], [5], [5], [5]],
    "upsample_block_type": "interpolate",
    "downsample_block_type": "Conv",
    "decoder_norm_types": "rms_norm",
    "decoder_act_fns": "silu",
}
"""The autoencoder of SANA: 32 latent channels, one latent cell covers 32 x 32 pixels."""


@dataclass(frozen=True)
class Architecture:
    """encoder: arguments of `InternVLVisionConfig`. decoder: arguments of `AutoencoderDC`. caption_width: E."""

    encoder: Mapping[str, Any]
    decoder: Mapping[str, Any]
    caption_width: int = 768

    @property
    def decoder_channels(self) -> int:
        """Channels that the decoder reads."""
        return int(self.decoder["latent_channels"])

    def new_encoder(self) -> InternVLVisionModel:
        """Build the encoder, untrained."""
        return InternVLVisionModel(InternVLVisionConfig(**self.encoder))

    def new_decoder(self) -> nn.Module:
        """Build the decoder half of the autoencoder, untrained."""
        decoder: nn.Module = AutoencoderDC(**self.decoder).decoder
        return decoder

    def to_json(self) -> dict[str, Any]:
        """Return what a checkpoint's state or config holds."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any], source: str) -> "Architecture":
        """Read what `to_json` returned.

        Raises:
            MuseError: a field is missing or unknown; `source` is named.
        """
        try:
            return cls(**document)
        except TypeError as error:
            raise MuseError(f"{source} does not say how the network is built: {error}", hint="fetch it again") from None


PUBLISHED = Architecture(INTERNVIT_300M, DC_AE_F32C32)
"""Of 1b and of 3b: both point at the same vision tower and the same autoencoder."""


@contextmanager
def without_weights() -> Iterator[None]:
    """Build networks whose parameters take no memory until they are filled; buffers are made as always."""
    with init_empty_weights(include_buffers=False):
        yield


def refuse_empty(network: nn.Module, source: str) -> None:
    """Refuse a network that still has parameters without memory.

    Raises:
        MuseError: names the first of them.
    """
    empty = [name for name, tensor in (*network.named_parameters(), *network.named_buffers()) if tensor.is_meta]
    if empty:
        raise MuseError(f"{source} leaves {len(empty)} weights empty, the first is {empty[0]}", hint="fetch it again")


def vision_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the vision config of an InternVL3 folder, in either layout, into arguments of `InternVLVisionConfig`."""
    chosen = dict(INTERNVIT_300M) | {name: config[name] for name in _VISION_FIELDS if name in config}
    chosen["attention_bias"] = config.get("attention_bias", config.get("qkv_bias", True))
    chosen["use_qk_norm"] = config.get("use_qk_norm", config.get("qk_normalization", False))
    for name in ("image_size", "patch_size"):
        chosen[name] = chosen[name] if isinstance(chosen[name], list) else [chosen[name]] * 2
    return chosen


def decoder_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Keep of a diffusers config what `AutoencoderDC` takes."""
    known = inspect.signature(AutoencoderDC.__init__).parameters
    return {name: value for name, value in config.items() if name in known}


def vision_of_folder(folder: Path) -> dict[str, Any]:
    """Read the encoder's sizes from the config.json of an InternVL3 folder; without one they are the published ones."""
    if not (folder / "config.json").is_file():
        return dict(INTERNVIT_300M)
    document = read_json(folder / "config.json")
    return vision_arguments(document.get("vision_config", document))


def decoder_of_folder(folder: Path) -> dict[str, Any]:
    """Read the decoder's sizes from the config.json of an autoencoder's folder; without one, the published ones."""
    if not (folder / "config.json").is_file():
        return dict(DC_AE_F32C32)
    return decoder_arguments(read_json(folder / "config.json"))


def vision_of_shapes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Read the encoder's sizes off the tensors of the original InternViT layout; heads are taken to be 64 wide.

    Raises:
        KeyError: a tensor that tells a size is missing.
    """
    width, _, patch, _ = shapes["embeddings.patch_embedding.weight"]
    grid = math.isqrt(shapes["embeddings.position_embedding"][1] - 1)
    layers = {int(name.split(".")[2]) for name in shapes if name.startswith("encoder.layers.")}
    return dict(INTERNVIT_300M) | {
        "hidden_size": width,
        "num_hidden_layers": max(layers) + 1,
        "num_attention_heads": max(width // HEAD_WIDTH, 1),
        "intermediate_size": shapes["encoder.layers.0.mlp.fc1.weight"][0],
        "patch_size": [patch, patch],
        "image_size": [grid * patch, grid * patch],
    }
