"""From encoder tokens to latents: fold, adapter, synergistic blocks, and the heads that the losses read.

Letters: B images, h x w cells, N = h * w, D width, E width of the caption space, C latent channels.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from muse_core.model.block import EPS, ReleasedBlock, SemanticInput, SynergisticBlock
from muse_core.model.rotary import Rotary, axial_rotary, raster_rotary
from muse_core.model.routing import Routing

Layout = Literal["muse", "released"]
INITIAL_LOG_SCALE = 2.6592
MAX_SCALE = 100.0


def fold(tokens: Tensor, side: int = 2) -> Tensor:
    """Space to depth: (B, H, W, C) to (B, H // side, W // side, side * side * C), cells row by row.

    A last row or column that fills no cell is dropped; tokenizers pad before they come here.
    """
    height, width = (size - size % side for size in tokens.shape[1:3])
    cut = tokens[:, :height, :width]
    return rearrange(cut, "b (h i) (w j) c -> b h w (i j c)", i=side, j=side)


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """Return x unchanged; its gradient is multiplied by `factor` on the way back."""
    return x if factor == 1.0 else x.detach() + factor * (x - x.detach())


@dataclass(frozen=True)
class ConnectorOutput:
    """All that the losses and the abilities read.

    latents (B, C, h, w); tokens (B, N, D) after the last block; attentions, one (B, heads, N, N) per block that was
    asked for its map; anchors, one (B, N, D) per block; grid (h, w).
    """

    latents: Tensor
    tokens: Tensor
    attentions: tuple[Tensor, ...]
    anchors: tuple[Tensor, ...]
    grid: tuple[int, int]


class Connector(nn.Module):
    """The part that MUSE trains in every stage."""

    def __init__(
        self,
        *,
        encoder_width: int,
        width: int,
        heads: int,
        blocks: int,
        latent_channels: int,
        caption_width: int,
        layout: Layout = "muse",
        inject: bool = True,
        semantic_input: SemanticInput = "normalized",
        fold_side: int = 2,
    ) -> None:
        super().__init__()
        folded = fold_side**2 * encoder_width
        self.layout = layout
        self.fold_side = fold_side
        self.head_width = width // heads
        self.caption_width = caption_width
        self.adapter = nn.Sequential(nn.RMSNorm(folded, eps=EPS), nn.Linear(folded, width, bias=False), nn.GELU())
        self.blocks = nn.ModuleList(
            SynergisticBlock(width, heads, inject, semantic_input) if layout == "muse" else ReleasedBlock(width, heads)
            for _ in range(blocks)
        )
        self.to_latent = nn.Linear(width, latent_channels)
        self.projector = nn.Sequential(
            nn.Linear(width, width, bias=False), nn.GELU(), nn.Linear(width, caption_width, bias=False)
        )
        self.logit_scale = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))
        self.apply(_initialize)

    def rotary(self, grid: tuple[int, int], device: torch.device) -> Rotary:
        """Build the positions of a grid, as the layout wants them."""
        if self.layout == "muse":
            return axial_rotary(grid, self.head_width, device)
        return raster_rotary(grid[0] * grid[1], self.head_width, device)

    def forward(
        self, tokens: Tensor, routing: Routing, gradient_scale: float = 1.0, mapped: Collection[int] | None = None
    ) -> ConnectorOutput:
        """Map encoder tokens (B, H, W, width of the encoder) to latents and to what the losses read.

        mapped: the blocks whose attention is wanted, None for all; others never hold the map of N x N.
        """
        cells = fold(tokens, self.fold_side)
        grid = (cells.shape[1], cells.shape[2])
        x = origin = self.adapter(cells.flatten(1, 2))  # B N D
        rotary = self.rotary(grid, x.device)
        outputs = []
        for index, block in enumerate(self.blocks):
            outputs.append(block(x, origin, routing, rotary, mapped is None or index in mapped))
            x = outputs[-1].x
        latents = self.to_latent(scale_gradient(x, gradient_scale))  # B N C
        return ConnectorOutput(
            latents=rearrange(latents, "b (h w) c -> b c h w", h=grid[0]),
            tokens=x,
            attentions=tuple(output.attention for output in outputs if output.attention is not None),
            anchors=tuple(output.anchor for output in outputs),
            grid=grid,
        )

    def embed(self, anchor: Tensor) -> Tensor:
        """Pool an anchor (B, N, D) into the caption space: unit rows (B, E)."""
        return functional.normalize(self.projector(anchor.mean(1)), dim=-1)

    def scale(self) -> Tensor:
        """Return the exponentiated temperature, capped at 100 as in CLIP."""
        return self.logit_scale.exp().clamp(max=MAX_SCALE)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
