"""LightningDiT (Yao et al. 2025, arXiv 2501.01423): a transformer that says where noisy latents should move.

Letters: B latents, C channels, h x w cells, N tokens, D width.
"""

from functools import cache

import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps, get_2d_sincos_pos_embed_from_grid
from einops import rearrange
from timm.layers import AttentionRope, SwiGLUPacked
from timm.layers.pos_embed_sincos import build_rotary_pos_embed
from torch import Tensor, nn
from torch.nn import functional

from muse_baselines.generators.keys import DitSizes

EPS = 1e-6
FREQUENCIES = 256
"""Sines and cosines that a time is written as."""

_PERIOD = 10_000.0


def _norm(width: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> nn.RMSNorm:
    """Make a norm; also for timm, whose layers hand on device and dtype from version 1.0.21 and do not before."""
    return nn.RMSNorm(width, eps=EPS, device=device, dtype=dtype)


def _modulation(width: int, parts: int) -> nn.Sequential:
    return nn.Sequential(nn.SiLU(), nn.Linear(width, parts * width))


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale[:, None]) + shift[:, None]


class Block(nn.Module):
    """Attention and a gated perceptron; what is asked for shifts, scales and gates both."""

    def __init__(self, sizes: DitSizes) -> None:
        super().__init__()
        width = sizes.width
        self.norm1, self.norm2 = _norm(width), _norm(width)
        self.attn = AttentionRope(
            width,
            sizes.heads,
            num_prefix_tokens=0,
            qk_norm=sizes.query_norm,
            norm_layer=_norm if sizes.query_norm else None,
        )
        self.mlp = SwiGLUPacked(width, 2 * sizes.hidden, width)
        self.modulation = _modulation(width, 6)

    def forward(self, x: Tensor, asked: Tensor, rotary: Tensor) -> Tensor:
        """Map tokens (B, N, D) under a condition (B, D)."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.modulation(asked).chunk(6, dim=1)
        x = x + gate[:, None] * self.attn(_modulate(self.norm1(x), shift, scale), rope=rotary)
        out: Tensor = x + gate_mlp[:, None] * self.mlp(_modulate(self.norm2(x), shift_mlp, scale_mlp))
        return out


class LightningDiT(nn.Module):
    """Maps latents, a time and a class to a velocity; class `sizes.classes` stands for no class."""

    def __init__(self, sizes: DitSizes) -> None:
        super().__init__()
        width = sizes.width
        self.sizes = sizes
        self.patch = nn.Conv2d(sizes.channels, width, sizes.patch, stride=sizes.patch)
        self.frequencies = Timesteps(FREQUENCIES, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time = TimestepEmbedding(FREQUENCIES, width)
        self.label = nn.Embedding(sizes.classes + 1, width)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.depth))
        self.norm = _norm(width)
        self.modulation = _modulation(width, 2)
        self.out = nn.Linear(width, sizes.patch**2 * sizes.channels)

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """Return the velocity (B, C, h, w) at latents of that shape.

        Args:
            x: the latents on their way. time: (B,) from 0, noise, to 1, data. label: (B,) int64.
        """
        side = self.sizes.patch
        grid = (x.shape[-2] // side, x.shape[-1] // side)
        place, rotary = tables(grid, self.sizes.width, self.sizes.width // self.sizes.heads)
        tokens = rearrange(self.patch(x), "b d h w -> b (h w) d") + place.to(x)
        asked = self.time(self.frequencies(time)) + self.label(label)
        for block in self.blocks:
            tokens = block(tokens, asked, rotary.to(x))
        shift, scale = self.modulation(asked).chunk(2, dim=1)
        cells: Tensor = self.out(_modulate(self.norm(tokens), shift, scale))
        return rearrange(cells, "b (h w) (p q c) -> b c (h p) (w q)", h=grid[0], p=side, q=side)


@cache
def tables(grid: tuple[int, int], width: int, head: int) -> tuple[Tensor, Tensor]:
    """Make what tells tokens apart: sines and cosines to add (N, D), and those to rotate by (N, 2 * head), sines first.

    The first half of the width is the column, the second the row. Of a head the first half is turned by the row.
    """
    rows, columns = (axis.flatten().float() for axis in torch.meshgrid(*map(torch.arange, grid), indexing="ij"))
    place: Tensor = get_2d_sincos_pos_embed_from_grid(width, torch.stack([columns, rows]))
    sine, cosine = build_rotary_pos_embed(list(grid), dim=head, temperature=_PERIOD, in_pixels=False)
    return place.float(), torch.cat([sine, cosine], dim=-1)


def flow_terms(predicted: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return what it was trained on, per sample (B,): mean squared distance, and 1 - cosine over the channels."""
    squared = (predicted - wanted).square().flatten(1).mean(1)
    apart = 1 - functional.cosine_similarity(predicted, wanted, dim=1).flatten(1).mean(1)
    return squared, apart
