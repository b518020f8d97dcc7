"""InternViT and DINOv3 on transformers' classes: features and attention, no pixels and no text.

Letters: B images, D width, H x W pixels, h x w patches.
"""

from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from transformers import DINOv3ViTConfig, DINOv3ViTModel, InternVLVisionConfig, InternVLVisionModel

from muse_baselines.describing import counts_of, device_of, grid_of, no_layer
from muse_baselines.files import Published, open_weights
from muse_core.errors import MuseError
from muse_core.model.abilities import Attention, FeatureLayer, Features, TokenizerInfo
from muse_core.model.architecture import refuse_empty, vision_arguments, vision_of_shapes, without_weights
from muse_core.model.images import imagenet_normalize, pad_to_multiple
from muse_core.model.tokenizer import Origin
from muse_core.model.weights.filling import fill
from muse_core.model.weights.keymaps import teacher_names, vision_names
from muse_core.model.weights.reading import LazyTensors, take

_TOWERS = ("model.vision_tower.", "vision_tower.", "vision_model.", "")
DINOV3_HEAD_WIDTH = 64
"""Of every published size but the largest, whose file tells its own through the rotary periods."""


class VisionTokenizer:
    """An encoder alone. Pooled is the class token; `prefix` tokens come before the patches."""

    def __init__(self, model: InternVLVisionModel | DINOv3ViTModel, origin: Origin, prefix: int) -> None:
        self.model = model
        self.origin = origin
        self.prefix = prefix
        self.patch = patch_of(model)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return device_of(self.model)

    @property
    def info(self) -> TokenizerInfo:
        """Describe the encoder."""
        patch, config = self.patch, self.model.config
        return TokenizerInfo(
            name=self.origin.name,
            source=self.origin.source,
            licence=self.origin.licence,
            resolution=self.origin.resolution,
            multiple=1,
            square_only=False,
            tokens_at=grid_of(patch),
            feature_layers={"encoder": FeatureLayer(int(config.hidden_size), patch)},
            layer_for={"classify": "encoder", "segment": "encoder"},
            attention_layers=int(config.num_hidden_layers),
            parameters=counts_of([("encoder", self.model)]),
            notes=self.origin.notes,
        )

    def _pixels(self, images: Tensor) -> Tensor:
        return imagenet_normalize(pad_to_multiple(images.to(self.device), self.patch))

    @torch.no_grad()
    def features(self, images: Tensor, layer: str | None = None) -> Features:
        """Read the last layer: patches (B, D, h, w), and the class token as the pooled feature."""
        if layer not in (None, "encoder"):
            raise no_layer(self.origin.name, layer, ("encoder",))
        pixels = self._pixels(images)
        tokens = self.model(pixels).last_hidden_state.float()
        patch = rearrange(tokens[:, self.prefix :], "b (h w) d -> b d h w", h=pixels.shape[-2] // self.patch)
        return Features(patch, tokens[:, 0])

    @torch.no_grad()
    def attention(self, images: Tensor, layer: int = -1) -> Attention:
        """Show the self-attention of one layer."""
        return vision_attention(self.model, self._pixels(images), layer, self.prefix)


def patch_of(model: InternVLVisionModel | DINOv3ViTModel) -> int:
    """Return the side of a patch in pixels."""
    size = model.config.patch_size
    return int(size if isinstance(size, int) else size[0])


def vision_attention(
    model: InternVLVisionModel | DINOv3ViTModel, pixels: Tensor, layer: int, prefix: int = 1
) -> Attention:
    """Show one layer of a transformers encoder in eager mode, for normalised pixels of whole patches.

    Raises:
        MuseError: there is no such layer.
    """
    maps = model(pixels, output_attentions=True).attentions
    if not -len(maps) <= layer < len(maps):
        raise MuseError(f"there is no layer {layer}", hint=f"choose from 0 to {len(maps) - 1}")
    patch = patch_of(model)
    return Attention(maps[layer].float(), prefix, (pixels.shape[-2] // patch, pixels.shape[-1] // patch))


def load_internvit(path: str | None, device: str, published: Published, origin: Origin) -> VisionTokenizer:
    """Load the vision tower of InternVL3 from either published layout; a language model beside it is not read.

    Raises:
        MuseError: the file is missing, unsafe, or of another network.
    """
    found = open_weights(path, published)
    prefix = next((p for p in _TOWERS if any(name.startswith(f"{p}embeddings.") for name in found.tensors)), None)
    if prefix is None:
        raise found.tensors.refuse("holds no vision tower (vision_model.* or vision_tower.*)")
    tower = found.tensors.under(prefix) if prefix else found.tensors
    original = "embeddings.class_embedding" in tower
    with without_weights():
        model = InternVLVisionModel(InternVLVisionConfig(**_internvit_sizes(tower, found.config)))
    weights = take(tower, vision_names if original else lambda name: [name])
    return VisionTokenizer(_ready(model, weights, tower, device), origin, prefix=1)


def _internvit_sizes(tower: LazyTensors, config: Mapping[str, Any]) -> dict[str, Any]:
    if config:
        return vision_arguments(config.get("vision_config", config))
    try:
        return vision_of_shapes(tower.shapes)
    except KeyError as error:
        raise tower.refuse(f"needs the config.json that was published beside it: {error} does not tell") from None


def load_dinov3(path: str | None, device: str, published: Published, origin: Origin) -> VisionTokenizer:
    """Load DINOv3 from the hub's folder or from the authors' .pth.

    Raises:
        MuseError: the file is missing, unsafe, or of another network.
    """
    found = open_weights(path, published)
    tensors = found.tensors
    try:
        config = DINOv3ViTConfig(**(found.config or dinov3_sizes(tensors.shapes)))
    except KeyError as error:
        raise tensors.refuse(f"is no DINOv3: {error} is missing") from None
    with without_weights():
        model = DINOv3ViTModel(config)
    own = model.state_dict()
    weights = take(tensors, dinov3_names)
    if (mask := "embeddings.mask_token") in weights:
        weights[mask] = weights[mask].reshape(own[mask].shape)
    model = _ready(model, weights, tensors, device)
    return VisionTokenizer(model, origin, prefix=1 + int(config.num_register_tokens))


def dinov3_names(key: str) -> list[str]:
    """Our names for one of DINOv3's: the key third of the fused bias is always zero and has no place in the library."""
    return ["" if name.endswith("k_proj.bias") else name for name in teacher_names(key)]


def dinov3_sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Read the sizes of DINOv3 off the authors' layout.

    Raises:
        KeyError: a tensor that tells a size is missing.
    """
    width, _, patch, _ = shapes["patch_embed.proj.weight"]
    gated = "blocks.0.mlp.w1.weight" in shapes
    periods = shapes.get("rope_embed.periods")
    head = 4 * periods[0] if periods else DINOV3_HEAD_WIDTH
    return {
        "patch_size": patch,
        "hidden_size": width,
        "num_hidden_layers": 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("blocks.")),
        "num_attention_heads": max(width // head, 1),
        "intermediate_size": shapes["blocks.0.mlp.w1.weight" if gated else "blocks.0.mlp.fc1.weight"][0],
        "num_register_tokens": shapes["storage_tokens"][1] if "storage_tokens" in shapes else 0,
        "use_gated_mlp": gated,
        "hidden_act": "silu" if gated else "gelu",
    }


def _ready(model: Any, weights: Mapping[str, Tensor], source: LazyTensors, device: str) -> Any:
    kept = {name: tensor for name, tensor in weights.items() if name}
    fill(model, kept, source=source.source, assign=True, remedy=source.remedy)
    refuse_empty(model, source.source)
    model.set_attn_implementation("eager")  # the only one that returns its weights
    return model.eval().requires_grad_(False).to(device)
