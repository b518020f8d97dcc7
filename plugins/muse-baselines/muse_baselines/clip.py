"""OpenCLIP models in the layout that open_clip publishes on the hub: open_clip_config.json beside the weights.

Letters: B images, N sentences, D tower width, E width of the shared space, h x w patches.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import open_clip
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from muse_baselines.describing import device_of, no_layer
from muse_baselines.files import Published, open_weights
from muse_core.errors import MuseError
from muse_core.files import read_json
from muse_core.model.abilities import Attention, FeatureLayer, Features, TokenizerInfo
from muse_core.model.architecture import refuse_empty, without_weights
from muse_core.model.tokenizer import Origin
from muse_core.model.weights.filling import fill
from muse_core.model.weights.reading import take

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""OpenAI's statistics: open_clip's default where a config names none."""


class ClipTokenizer:
    """Features, alignment with text and attention of a CLIP whose image tower is a vision transformer."""

    def __init__(self, model: Any, origin: Origin, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.model = model
        self.origin = origin
        self.mean = mean
        self.std = std
        self.side = int(model.visual.image_size[0])
        self.patch = int(model.visual.patch_size[0])

    @cached_property
    def _tokenize(self) -> Callable[[list[str]], Tensor]:
        """Made when the first sentence comes: reading the vocabulary takes half a second."""
        tokenize: Callable[[list[str]], Tensor] = open_clip.SimpleTokenizer(context_length=self.model.context_length)
        return tokenize

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return device_of(self.model.visual)

    @property
    def info(self) -> TokenizerInfo:
        """Describe the model; it looks at squares of one size, others are squashed to it."""
        patch, tower = self.patch, self.model.visual
        grid = self.side // patch
        whole = sum(weight.numel() for weight in self.model.parameters())
        image = sum(weight.numel() for weight in tower.parameters())
        return TokenizerInfo(
            name=self.origin.name,
            source=self.origin.source,
            licence=self.origin.licence,
            resolution=self.side,
            multiple=1,
            square_only=False,
            tokens_at=lambda height, width: (grid, grid),
            feature_layers={"encoder": FeatureLayer(int(tower.transformer.width), patch)},
            layer_for={"classify": "encoder", "segment": "encoder"},
            attention_layers=len(tower.transformer.resblocks),
            text_context=int(self.model.context_length),
            parameters={"image": image, "text": whole - image},
            notes=self.origin.notes,
        )

    def pixels(self, images: Tensor) -> Tensor:
        """Return normalised images of the one size that the tower knows."""
        images = images.to(self.device)
        if images.shape[-2:] != (self.side, self.side):
            images = functional.interpolate(
                images, size=(self.side, self.side), mode="bicubic", align_corners=False, antialias=True
            ).clamp(0, 1)
        mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (self.mean, self.std))
        return (images - mean) / std

    @torch.no_grad()
    def features(self, images: Tensor, layer: str | None = None) -> Features:
        """Read the last block's patches after the final norm; pooled is the class token."""
        if layer not in (None, "encoder"):
            raise no_layer(self.origin.name, layer, ("encoder",))
        found = self.model.visual.forward_intermediates(
            self.pixels(images),
            1,
            normalize_intermediates=True,
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        patches, prefix = found["image_intermediates"][-1], found["image_intermediates_prefix"][-1]
        grid = self.side // self.patch
        return Features(rearrange(patches, "b (h w) d -> b d h w", h=grid).float(), prefix[:, 0].float())

    @property
    def logit_scale(self) -> float:
        """Exponentiated temperature of the image-text logits."""
        return float(self.model.logit_scale.exp())

    @torch.no_grad()
    def image_embed(self, images: Tensor) -> Tensor:
        """Embed images: unit rows (B, E)."""
        return functional.normalize(self.model.encode_image(self.pixels(images)).float(), dim=-1)

    @torch.no_grad()
    def text_embed(self, texts: list[str]) -> Tensor:
        """Embed sentences: unit rows (N, E)."""
        ids = self._tokenize(texts).to(self.device)
        return functional.normalize(self.model.encode_text(ids).float(), dim=-1)

    @torch.no_grad()
    def attention(self, images: Tensor, layer: int = -1) -> Attention:
        """Show one layer of the image tower; the class token comes first."""
        blocks = self.model.visual.transformer.resblocks
        if not -len(blocks) <= layer < len(blocks):
            raise MuseError(f"there is no layer {layer}", hint=f"choose from 0 to {len(blocks) - 1}")
        attention, kept = blocks[layer].attn, list[Tensor]()

        def ask(_module: object, inputs: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return inputs, {**options, "need_weights": True, "average_attn_weights": False}

        handles = (
            attention.register_forward_pre_hook(ask, with_kwargs=True),
            attention.register_forward_hook(lambda _, __, outputs: kept.append(outputs[1])),
        )
        try:
            self.model.visual(self.pixels(images))
        finally:
            for handle in handles:
                handle.remove()
        grid = self.side // self.patch
        return Attention(kept[0].float(), prefix=1, grid=(grid, grid))


def load(path: str | None, device: str, published: Published, origin: Origin) -> ClipTokenizer:
    """Load an open_clip folder: open_clip_config.json and its weights.

    Raises:
        MuseError: the file is missing, unsafe, or of another network; the image tower is no vision transformer, or the
            text tower needs a tokenizer that open_clip does not carry.
    """
    found = open_weights(path, published)
    beside = found.file.parent / "open_clip_config.json"
    if not beside.is_file():
        raise found.tensors.refuse("needs the open_clip_config.json that was published beside it: it tells the sizes")
    document = read_json(beside)
    config, looks = dict(document["model_cfg"]), document.get("preprocess_cfg", {})
    _refuse_unknown(config, str(beside))
    custom = config.pop("custom_text", False) or any(name.startswith("text.") for name in found.tensors)
    with without_weights():
        model = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config)
    weights = take(found.tensors, lambda name: [name])
    fill(model, weights, source=found.tensors.source, assign=True, remedy=found.tensors.remedy)
    refuse_empty(model, found.tensors.source)
    mean, std = tuple(looks.get("mean", CLIP_MEAN)), tuple(looks.get("std", CLIP_STD))
    return ClipTokenizer(model.eval().requires_grad_(False).to(device), origin, mean, std)


def _refuse_unknown(config: dict[str, Any], source: str) -> None:
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    if "timm_model_name" in vision or isinstance(vision.get("layers"), list):
        raise MuseError(f"{source}: its image tower is no vision transformer of open_clip's own", hint="choose a ViT")
    if "hf_model_name" in text or "hf_tokenizer_name" in text:
        raise MuseError(f"{source}: its text tower needs a tokenizer from the hub", hint="choose one with CLIP's own")
