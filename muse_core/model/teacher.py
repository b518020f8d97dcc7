"""The structure teacher: a frozen DINOv3 whose last attention map is what the topology stream learns.

Letters: B images, H heads, n = h*w teacher patches, m = h'*w' student tokens. Rows of every map are queries.
"""

from typing import Self

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DINOv3ViTModel
from transformers.models.dinov3_vit.modeling_dinov3_vit import DINOv3ViTAttention

from muse_core.errors import MuseError
from muse_core.model.images import imagenet_normalize

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
    keys = _resize_last(attention.float(), source_grid, target_grid)  # B n m
    queries = _resize_last(keys.mT, source_grid, target_grid)  # B m m, rows are keys here
    # Without this transpose the target teaches where attention comes from instead of where it goes.
    resized = queries.mT.reshape(batch, m, m)
    return resized / resized.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)


def _resize_last(maps: Tensor, source: Grid, target: Grid) -> Tensor:
    planes = rearrange(maps, "b r (h w) -> b r h w", h=source[0])
    skips = any(before > 2 * after for before, after in zip(source, target, strict=True))
    return F.interpolate(planes, size=target, mode="bilinear", align_corners=False, antialias=skips).flatten(-2)


class StructureTeacher:
    """Where a frozen DINOv3 looks: the head mean of its last attention, on the student's grid.

    A plain object on purpose: held by a module it is neither a child of it nor in its state, so no `train()`, no
    optimizer, no average and no checkpoint can reach the teacher.

    Args:
        model: a transformers DINOv3 ViT; it is put in eval mode, frozen, and switched to the attention
            implementation that returns its weights.

    Raises:
        MuseError: when the model has no DINOv3 attention layer to read.
    """

    def __init__(self, model: DINOv3ViTModel) -> None:
        layers = [module for module in model.modules() if isinstance(module, DINOv3ViTAttention)]
        if not layers:
            raise MuseError(f"the structure teacher must be a DINOv3 ViT, not a {type(model).__name__}")
        model.set_attn_implementation("eager")
        self.model = model.eval().requires_grad_(False)
        self.patch: int = model.config.patch_size
        self._last: nn.Module = layers[-1]

    def to(self, device: torch.device | str) -> Self:
        """Move the teacher to a device."""
        self.model.to(device)
        return self

    def __call__(self, images: Tensor, grid: Grid) -> Tensor:
        """Return the attention among patches as a student on `grid` should see it.

        Args:
            images: (B, 3, H, W) in [0, 1]; padded on the right and bottom to whole patches.
            grid: (h', w') of the student's tokens.

        Returns:
            (B, m, m) float32 without gradient; rows are queries and sum to 1.
        """
        with torch.no_grad():
            pixels = self._whole_patches(imagenet_normalize(images))
            source = (pixels.shape[-2] // self.patch, pixels.shape[-1] // self.patch)
            weights = self._last_attention(pixels)
            patches = self._among_patches(weights, source[0] * source[1])
            return resize_attention(patches, source, grid)

    def _whole_patches(self, pixels: Tensor) -> Tensor:
        height, width = pixels.shape[-2:]
        return F.pad(pixels, (0, -width % self.patch, 0, -height % self.patch))

    def _last_attention(self, pixels: Tensor) -> Tensor:
        """Run the teacher and keep only the last layer's weights (B, H, prefix + n, prefix + n)."""
        kept: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: object, outputs: tuple[Tensor, Tensor]) -> None:
            kept.append(outputs[1])

        # `output_attentions=True` would hold the maps of all layers at once: 3.3 GB for 32 images with ViT-H+.
        handle = self._last.register_forward_hook(keep)
        try:
            self.model(pixels)
        finally:
            handle.remove()
        return kept[0]

    @staticmethod
    def _among_patches(weights: Tensor, n: int) -> Tensor:
        """Drop class and register tokens, average the heads, and let the rows sum to 1 again."""
        mean = weights[..., -n:, -n:].float().mean(1)  # B n n
        # The reference's floor, kept for its digits: a row that looks only at the registers stays near 0 until resized.
        return mean / (mean.sum(-1, keepdim=True) + 1e-6)
