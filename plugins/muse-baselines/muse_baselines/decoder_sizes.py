"""The sizes of a DC-AE decoder, read off the shapes of its tensors (diffusers' names)."""

from collections.abc import Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]


def decoder_of_shapes(shapes: Shapes) -> dict[str, Any]:
    """Return arguments of `AutoencoderDC` for tensors under `decoder.`; only its decoder half is then right.

    Raises:
        KeyError: there is no such decoder.
    """
    first = "decoder.up_blocks."
    places = {tuple(map(int, name.split(".")[2:4])) for name in shapes if name.startswith(first)}
    if not places:
        raise KeyError(f"{first}*")
    levels = 1 + max(level for level, _ in places)
    per_level = [
        [_block(shapes, f"{first}{level}.{at}.") for lv, at in sorted(places) if lv == level] for level in range(levels)
    ]
    blocks = [[block for block in level if block is not None] for level in per_level]
    attending = [block for level in blocks for block in level if block["kind"] == "EfficientViTBlock"]
    return {
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "attention_head_dim": attending[0]["head"] if attending else 32,
        "decoder_block_types": [level[0]["kind"] for level in blocks],
        "decoder_block_out_channels": [level[0]["width"] for level in blocks],
        "decoder_layers_per_block": [len(level) for level in blocks],
        "decoder_qkv_multiscales": [level[0]["scales"] for level in blocks],
        "encoder_block_types": [level[0]["kind"] for level in blocks],
        "encoder_block_out_channels": [level[0]["width"] for level in blocks],
        "encoder_layers_per_block": [len(level) for level in blocks],
        "encoder_qkv_multiscales": [level[0]["scales"] for level in blocks],
        "upsample_block_type": "interpolate",
        "decoder_norm_types": "rms_norm",
        "decoder_act_fns": "silu",
    }


def _block(shapes: Shapes, place: str) -> dict[str, Any] | None:
    """Describe one block; None for the upsampling that begins a level."""
    if f"{place}conv1.weight" in shapes:
        return {"kind": "ResBlock", "width": shapes[f"{place}conv1.weight"][0], "scales": [], "head": 0}
    if f"{place}attn.to_q.weight" not in shapes:
        return None
    scale = f"{place}attn.to_qkv_multiscale."
    count = sum(name.startswith(scale) and name.endswith("proj_in.weight") for name in shapes)
    return {
        "kind": "EfficientViTBlock",
        "width": shapes[f"{place}attn.to_q.weight"][1],
        "scales": [shapes[f"{scale}{index}.proj_in.weight"][-1] for index in range(count)],
        # Each group of the grouped 1x1 convolution is one head.
        "head": shapes[f"{scale}0.proj_out.weight"][1] if count else 32,
    }
