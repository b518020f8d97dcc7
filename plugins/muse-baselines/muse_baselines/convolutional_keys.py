"""Autoencoders of the latent-diffusion family: their published names and sizes, as diffusers spells them.

Covers VQGAN (taming-transformers), VA-VAE, MAR-VAE, SD-VAE and FLUX-VAE, and LlamaGen's spelling of the first. All
functions are pure: text to text, shapes to numbers.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Shapes = Mapping[str, tuple[int, ...]]

_NOT_WANTED = ("loss.", "foundation_model.", "linear_proj.", "model_ema.")
"""Discriminators, teachers and averages that training left in a file."""

_BLOCK = {"nin_shortcut": "conv_shortcut"}
_ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
    # What diffusers itself called them until 2023.
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
}
_MIDDLE = {"block_1": "resnets.0", "block_2": "resnets.1", "attn_1": "attentions.0"}
_LLAMAGEN_MIDDLE = {"0": "block_1", "1": "attn_1", "2": "block_2"}


@dataclass(frozen=True)
class Sizes:
    """What the shapes of the tensors tell.

    widths: channels per level, finest first. layers: residual blocks per encoder level. down, up: whether a level has
    attention, in the order of the encoder. z: channels that the encoder puts out. latent: channels of the latents.
    codes: entries of the codebook, or None. quant_convs: whether 1x1 convolutions stand around the latents.
    """

    widths: tuple[int, ...]
    layers: int
    down: tuple[bool, ...]
    up: tuple[bool, ...]
    z: int
    latent: int
    codes: int | None
    quant_convs: bool

    @property
    def stride(self) -> int:
        """Pixels that one latent cell covers along a side."""
        return int(2 ** (len(self.widths) - 1))


def is_published_layout(shapes: Shapes) -> bool:
    """Say whether the names are the authors' and not the library's."""
    return any(name.startswith(("encoder.down.", "encoder.conv_blocks.")) for name in shapes)


def sizes_of(shapes: Shapes) -> Sizes:
    """Read all sizes off a file in the authors' layout (after `from_llamagen`).

    Raises:
        KeyError: a tensor that tells a size is missing.
    """
    levels = 1 + max(int(name.split(".")[2]) for name in shapes if name.startswith("encoder.down."))
    quant = "post_quant_conv.weight" in shapes
    z = shapes["encoder.conv_out.weight"][0]
    codebook = shapes.get("quantize.embedding.weight")
    posterior = 1 if codebook else 2
    return Sizes(
        widths=tuple(shapes[f"encoder.down.{i}.block.0.conv1.weight"][0] for i in range(levels)),
        layers=sum(f"encoder.down.0.block.{j}.conv1.weight" in shapes for j in range(16)),
        down=tuple(f"encoder.down.{i}.attn.0.q.weight" in shapes for i in range(levels)),
        up=tuple(f"decoder.up.{i}.attn.0.q.weight" in shapes for i in range(levels)),
        z=z,
        latent=shapes["post_quant_conv.weight"][1] if quant else z // posterior,
        codes=codebook[0] if codebook else None,
        quant_convs=quant,
    )


def library_names(levels: int) -> Callable[[str], list[str]]:
    """Make the map from a name in the authors' layout to diffusers' name; none for what is not part of the network."""

    def rename(key: str) -> list[str]:
        if key.startswith(_NOT_WANTED):
            return []
        side, _, rest = key.partition(".")
        return [f"{side}.{_inside(rest, levels)}"] if side in ("encoder", "decoder") else [key]

    return rename


def _inside(key: str, levels: int) -> str:
    words = key.split(".")
    match words:
        case ["down", level, kind, *rest]:
            return _level("down_blocks", int(level), kind, rest)
        case ["up", level, kind, *rest]:
            return _level("up_blocks", levels - 1 - int(level), kind, rest)  # the authors count from the finest
        case ["mid", part, *rest] if part in _MIDDLE:
            table = _ATTENTION if part == "attn_1" else _BLOCK
            return ".".join(("mid_block", _MIDDLE[part], *_first(rest, table)))
        case ["norm_out", *rest]:
            return ".".join(("conv_norm_out", *rest))
    return modern_name(key)


def _level(blocks: str, level: int, kind: str, rest: list[str]) -> str:
    sampler = "downsamplers" if blocks == "down_blocks" else "upsamplers"
    if kind in ("downsample", "upsample"):
        return ".".join((blocks, str(level), sampler, "0", *rest))
    part, table = ("attentions", _ATTENTION) if kind == "attn" else ("resnets", _BLOCK)
    return ".".join((blocks, str(level), part, rest[0], *_first(rest[1:], table)))


def _first(words: list[str], table: Mapping[str, str]) -> list[str]:
    return [table.get(words[0], words[0]), *words[1:]] if words else words


def modern_name(key: str) -> str:
    """Replace what diffusers called the parts of an attention until 2023 in one of its own names."""
    head, found, last = key.rpartition("attentions.0.")
    if not found:
        return key
    part, _, kind = last.partition(".")
    return f"{head}{found}{_ATTENTION.get(part, part) if part != 'norm' else part}.{kind}"


def from_llamagen(key: str, levels: int) -> str:
    """Translate a name of LlamaGen's file into taming's; nothing for a buffer that counts used codes."""
    if key == "quantize.codebook_used":
        return ""
    key = re.sub(r"^(encoder|decoder)\.mid\.(\d)", lambda m: f"{m[1]}.mid.{_LLAMAGEN_MIDDLE[m[2]]}", key)
    key = re.sub(r"^encoder\.conv_blocks\.(\d+)", r"encoder.down.\1", key)
    key = re.sub(r"^decoder\.conv_blocks\.(\d+)", lambda m: f"decoder.up.{levels - 1 - int(m[1])}", key)
    return re.sub(r"^(encoder\.down|decoder\.up)\.(\d+)\.res\.", r"\1.\2.block.", key)


def llamagen_levels(shapes: Shapes) -> int:
    """Count the levels of a file in LlamaGen's layout; 0 for any other."""
    found = [int(name.split(".")[2]) for name in shapes if name.startswith("encoder.conv_blocks.")]
    return max(found, default=-1) + 1
