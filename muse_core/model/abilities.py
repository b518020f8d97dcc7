"""What a tokenizer can do, as small protocols that a metric asks for.

Letters: B images, C latent channels, D feature width, E embedding width, H x W pixels, h x w tokens, N = prefix + h*w.
Images at every interface are RGB float32 (B, 3, H, W) in [0, 1]; normalising, padding and resizing happen inside.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True)
class FeatureLayer:
    """One place where features can be read: its width and how many pixels one patch covers."""

    width: int
    stride: int


@dataclass(frozen=True)
class TokenizerInfo:
    """What there is to know about a tokenizer before running it."""

    name: str
    source: str
    licence: str
    resolution: int
    multiple: int
    square_only: bool
    tokens_at: Callable[[int, int], tuple[int, int]]
    latent_channels: int | None = None
    codebook_size: int | None = None
    feature_layers: Mapping[str, FeatureLayer] = field(default_factory=dict)
    layer_for: Mapping[str, str] = field(default_factory=dict)
    attention_layers: int = 0
    text_context: int | None = None
    parameters: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Latents:
    """z (B, C, h, w) float32 raw; indices (B, h, w) int64 for a quantised tokenizer."""

    z: Tensor
    indices: Tensor | None = None


@dataclass(frozen=True)
class Features:
    """patch (B, D, h, w) and pooled (B, D)."""

    patch: Tensor
    pooled: Tensor


@dataclass(frozen=True)
class Attention:
    """weights (B, heads, N, N), rows sum to 1; the first `prefix` tokens are not patches; grid = (h, w)."""

    weights: Tensor
    prefix: int
    grid: tuple[int, int]

    def patches(self) -> Tensor:
        """Return the patch part (B, heads, h*w, h*w) with rows renormalised to sum to 1."""
        part = self.weights[..., self.prefix :, self.prefix :]
        return part / part.sum(-1, keepdim=True)


@runtime_checkable
class Described(Protocol):
    """Knows what it is."""

    @property
    def info(self) -> TokenizerInfo:
        """What it is and what it can do."""
        ...


@runtime_checkable
class Encodes(Protocol):
    """Images to latents."""

    def encode(self, images: Tensor, *, sample: bool = False, generator: torch.Generator | None = None) -> Latents:
        """Encode images (B, 3, H, W); `sample` draws from the posterior where there is one."""
        ...


@runtime_checkable
class Decodes(Protocol):
    """Latents to images (B, 3, *size), nominally in [0, 1], not clamped."""

    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """Decode z (B, C, h, w) to images of `size` (H, W)."""
        ...


@runtime_checkable
class Featurizes(Protocol):
    """Images to features that a probe reads; `layer` is a name from `info.feature_layers`."""

    def features(self, images: Tensor, layer: str | None = None) -> Features:
        """Read features at a layer, by default the one for classifying."""
        ...


@runtime_checkable
class Aligns(Protocol):
    """Images and sentences in one space: unit rows, and the scale already exponentiated."""

    @property
    def logit_scale(self) -> float:
        """What the cosine is multiplied with."""
        ...

    def image_embed(self, images: Tensor) -> Tensor:
        """Embed images: unit rows (B, E)."""
        ...

    def text_embed(self, texts: list[str]) -> Tensor:
        """Embed sentences: unit rows (N, E)."""
        ...


@runtime_checkable
class Attends(Protocol):
    """Shows the attention of one of its `info.attention_layers` layers."""

    def attention(self, images: Tensor, layer: int = -1) -> Attention:
        """Show one layer's attention; -1 is the last."""
        ...


ABILITIES: Mapping[str, type] = {
    "encodes": Encodes,
    "decodes": Decodes,
    "featurizes": Featurizes,
    "aligns": Aligns,
    "attends": Attends,
}


def abilities(tokenizer: object) -> tuple[str, ...]:
    """Name what a tokenizer can do."""
    return tuple(name for name, protocol in ABILITIES.items() if isinstance(tokenizer, protocol))
