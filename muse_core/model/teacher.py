"""The structure teacher: a frozen DINOv3 whose last attention map is what the topology stream learns.

Letters: B images, H heads, n = h*w teacher patches, m = h'*w' student tokens. Rows of every map are queries.
"""

from typing import Self

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F
from transformers import DINOv3ViTModel
from transformers.models.dinov3_vit.modeling_dinov3_vit import DINOv3ViTLayer, apply_rotary_pos_emb

from muse_core.errors import MuseError
from muse_core.model.images import imagenet_normalize
from muse_core.model.numbers import full

Grid = tuple[int, int]


def resize_attention(attention: Tensor, source_grid: Grid, target_grid: Grid) -> Tensor:
    """Resample an attention map from one patch grid to another, bilinearly in the query and in the key plane.

    Shrunk by more than 2, it is averaged over the area: bilinear sampling would skip patches, and what they attend to.

    Args:
        attention: (B, n, n) with n the number of patches of `source_grid`; rows are queries.
        source_grid: (h, w) of the map.
        target_grid: (h', w') wanted.

    Returns:
        (B, m, m) float32; rows are queries and sum to 1.

    Raises:
        ValueError: when the map does not fit `source_grid`.
    """
    batch, n = attention.shape[0], source_grid[0] * source_grid[1]
    if attention.shape[1:] != (n, n):
        raise ValueError(f"an attention map of shape {tuple(attention.shape)} does not fit a {source_grid} grid")
    m = target_grid[0] * target_grid[1]
    keys = _resize_last(full(attention), source_grid, target_grid)  # B n m
    queries = _resize_last(keys.mT, source_grid, target_grid)  # B m m, rows are keys here
    # Without this transpose the target teaches where attention comes from instead of where it goes.
    resized = queries.mT.reshape(batch, m, m)
    return resized / resized.sum(-1, keepdim=True).clamp_min(torch.finfo(resized.dtype).tiny)


def _resize_last(maps: Tensor, source: Grid, target: Grid) -> Tensor:
    planes = rearrange(maps, "b r (h w) -> b r h w", h=source[0])
    skips = any(before > 2 * after for before, after in zip(source, target, strict=True))
    return F.interpolate(planes, size=target, mode="bilinear", align_corners=False, antialias=skips).flatten(-2)


class StructureTeacher:
    """Where a frozen DINOv3 looks: the head mean of its last attention, on the student's grid.

    Only what that map depends on is computed: all layers but the last, with fused attention that never holds a map,
    and queries and keys of the last.

    A plain object on purpose: held by a module it is neither a child of it nor in its state, so no `train()`, no
    optimizer, no average and no checkpoint can reach the teacher.

    Args:
        model: a transformers DINOv3 ViT; it is put in eval mode, frozen, and switched to fused attention.

    Raises:
        MuseError: when the model has no DINOv3 layer to read.
    """

    def __init__(self, model: DINOv3ViTModel) -> None:
        layers = [module for module in model.modules() if isinstance(module, DINOv3ViTLayer)]
        if not layers:
            raise MuseError(f"the structure teacher must be a DINOv3 ViT, not a {type(model).__name__}")
        model.set_attn_implementation("sdpa")
        self.model = model.eval().requires_grad_(False)
        self.patch: int = model.config.patch_size
        *before, self._last = layers
        self.layers = tuple(before)  # those that are run as a whole

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Self:
        """Move the teacher to a device, and to a number format."""
        frequencies = self.model.rope_embeddings.inv_freq
        self.model.to(device=device, dtype=dtype)
        # Rounded to half precision they would put every patch a little elsewhere.
        self.model.rope_embeddings.inv_freq = frequencies.to(device)
        return self

    def __call__(self, images: Tensor, grid: Grid) -> Tensor:
        """Return the attention among patches as a student on `grid` should see it.

        Args:
            images: (B, 3, H, W) in [0, 1] on any device; padded on the right and bottom to whole patches.
            grid: (h', w') of the student's tokens.

        Returns:
            (B, m, m) without gradient on the teacher's device, float32 unless the teacher is wider; rows are queries
            and sum to 1.
        """
        with torch.inference_mode():
            pixels = self._whole_patches(imagenet_normalize(images.to(self.model.device)))
            source = (pixels.shape[-2] // self.patch, pixels.shape[-1] // self.patch)
            patches = self._among_patches(self._last_attention(pixels), source[0] * source[1])
            target = resize_attention(patches, source, grid)
        return target.clone()  # a loss keeps it for its backward pass, which no tensor of inference may be

    def _whole_patches(self, pixels: Tensor) -> Tensor:
        height, width = pixels.shape[-2:]
        return F.pad(pixels, (0, -width % self.patch, 0, -height % self.patch))

    def _last_attention(self, pixels: Tensor) -> Tensor:
        """Return the last layer's weights (B, H, prefix + n, prefix + n), float32 or wider."""
        model = self.model
        pixels = pixels.to(model.embeddings.patch_embeddings.weight.dtype)
        x = model.embeddings(pixels)
        positions = model.rope_embeddings(pixels)
        for layer in self.layers:
            x = layer(x, position_embeddings=positions)
        attention, read = self._last.attention, self._last.norm1(x)
        q, k = (
            rearrange(project(read), "b n (h c) -> b h n c", h=attention.num_heads)
            for project in (attention.q_proj, attention.k_proj)
        )
        q, k = apply_rotary_pos_emb(q, k, *positions)
        return torch.softmax(full(q @ k.mT) * attention.scaling, dim=-1)

    @staticmethod
    def _among_patches(weights: Tensor, n: int) -> Tensor:
        """Drop class and register tokens, average the heads, and let the rows sum to 1 again."""
        mean = weights[..., -n:, -n:].mean(1)  # B n n
        # The reference's floor, kept for its digits: a row that looks only at the registers stays near 0 until resized.
        return mean / (mean.sum(-1, keepdim=True) + 1e-6)
