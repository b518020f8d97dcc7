"""LightningDiT's file: its published names and sizes in terms of our network. Pure: text to text, shapes to numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]

_COMPUTED = ("pos_embed", "feat_rope.")
"""Tables that follow from the sizes; they are computed, not read."""

_TOP = {
    "x_embedder.proj": "patch",
    "t_embedder.mlp.0": "time.linear_1",
    "t_embedder.mlp.2": "time.linear_2",
    "y_embedder.embedding_table": "label",
    "final_layer.norm_final": "norm",
    "final_layer.linear": "out",
    "final_layer.adaLN_modulation.1": "modulation.1",
}
_BLOCK = {"mlp.w12": "mlp.fc1", "mlp.w3": "mlp.fc2", "adaLN_modulation.1": "modulation.1"}

_HEADS = {1152: 16}
"""Heads of the XL width; a file's tensors do not tell them, and all other published widths have heads of 64."""
_HEAD_WIDTH = 64


@dataclass(frozen=True)
class DitSizes:
    """What the tensors tell, and how many heads they are for.

    width: of a token. patch: latent cells along a side that become one token. channels: of the latents. classes: that
    can be asked for. query_norm: whether queries and keys are normalised. grid: cells that it was trained for, or None
    where the file has no table of positions.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    patch: int
    channels: int
    classes: int
    query_norm: bool
    grid: tuple[int, int] | None


def library_names(key: str) -> list[str]:
    """Return our name for a published one; none for a table that is computed."""
    if key.startswith(_COMPUTED):
        return []
    module, _, kind = key.rpartition(".")
    words = module.split(".", 2)
    if words[0] == "blocks" and len(words) == 3:
        return [f"blocks.{words[1]}.{_BLOCK.get(words[2], words[2])}.{kind}"]
    return [f"{_TOP.get(module, module)}.{kind}" if module else key]


def sizes_of(shapes: Shapes, config: Mapping[str, Any]) -> DitSizes:
    """Read the sizes off the tensors; "num_heads" of a config beside them overrules what the width implies.

    Raises:
        KeyError: a tensor that tells a size is missing.
    """
    width, channels, patch, _ = shapes["x_embedder.proj.weight"]
    tokens = shapes["pos_embed"][1] if "pos_embed" in shapes else None
    side = None if tokens is None else patch * round(tokens**0.5)
    return DitSizes(
        width=width,
        depth=1 + max((int(key.split(".")[1]) for key in shapes if key.startswith("blocks.")), default=-1),
        heads=int(config.get("num_heads", _HEADS.get(width, max(width // _HEAD_WIDTH, 1)))),
        hidden=shapes["blocks.0.mlp.w3.weight"][1],
        patch=patch,
        channels=channels,
        classes=shapes["y_embedder.embedding_table.weight"][0] - 1,  # the last row stands for no class
        query_norm="blocks.0.attn.q_norm.weight" in shapes,
        grid=None if side is None else (side, side),
    )
