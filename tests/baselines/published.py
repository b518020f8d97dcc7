"""Tiny weights in exactly the layouts in which the rivals are published, for everything that starts from a file."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from diffusers import AutoencoderDC, AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor

from tests.baselines import reference

_TOKENS = 49408
"""CLIP's vocabulary: a text tower that is to read sentences has all of it."""

TINY_DC_AE: dict[str, Any] = {
    "latent_channels": 8,
    "attention_head_dim": 8,
    "encoder_block_types": ["ResBlock", "ResBlock", "EfficientViTBlock"],
    "decoder_block_types": ["ResBlock", "ResBlock", "EfficientViTBlock"],
    "encoder_block_out_channels": [8, 16, 16],
    "decoder_block_out_channels": [8, 16, 16],
    "encoder_layers_per_block": [1, 1, 1],
    "decoder_layers_per_block": [1, 1, 1],
    "encoder_qkv_multiscales": [[], [], [5]],
    "decoder_qkv_multiscales": [[], [], [5]],
    "upsample_block_type": "interpolate",
    "downsample_block_type": "Conv",
    "decoder_norm_types": "rms_norm",
    "decoder_act_fns": "silu",
}
TINY_CLIP: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": _TOKENS, "width": 16, "heads": 2, "layers": 1},
}


def drawn(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Draw weights for a state dict by the fixtures' rule."""
    return {key: reference.weight(key, tuple(shape)) for key, shape in shapes.items()}


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document))


def vqgan(folder: Path) -> Path:
    """A Lightning checkpoint with the discriminator that training left in it."""
    rest = {"loss.discriminator.main.0.weight": torch.zeros(2), "loss.perceptual_loss.lin0.weight": torch.zeros(2)}
    torch.save({"epoch": 1, "state_dict": reference.weights("vqgan") | rest}, folder / "last.ckpt")
    return folder / "last.ckpt"


def va_vae(folder: Path) -> Path:
    """A Lightning checkpoint with the teacher and its projection, and the statistics of its latents."""
    rest = {"foundation_model.blocks.0.w": torch.zeros(2), "linear_proj.weight": torch.zeros(2, 8, 1, 1)}
    torch.save({"state_dict": reference.weights("vavae") | rest}, folder / "vavae.pt")
    stored = reference.outputs("vavae")
    torch.save({"mean": stored["stat_mean"], "std": stored["stat_std"]}, folder / "latents_stats.pt")
    return folder / "vavae.pt"


def llamagen_vq(folder: Path) -> Path:
    """LlamaGen's names for VQGAN's weights."""
    state = {_llamagen_name(key): value for key, value in reference.weights("vqgan").items()}
    torch.save({"model": state | {"quantize.codebook_used": torch.zeros(65536)}}, folder / "vq_ds16_c2i.pt")
    return folder / "vq_ds16_c2i.pt"


def _llamagen_name(key: str) -> str:
    words = key.split(".")
    if words[1:2] == ["mid"]:
        return ".".join((words[0], "mid", {"block_1": "0", "attn_1": "1", "block_2": "2"}[words[2]], *words[3:]))
    if words[1:2] not in (["down"], ["up"]):
        return key
    level = words[2] if words[1] == "down" else str(4 - int(words[2]))
    part = "res" if words[3] == "block" else words[3]
    return ".".join((words[0], "conv_blocks", level, part, *words[4:]))


def diffusers_folder(folder: Path, model: AutoencoderKL | AutoencoderDC) -> Path:
    """A folder as diffusers writes it, with drawn weights."""
    model.load_state_dict(drawn({key: tuple(value.shape) for key, value in model.state_dict().items()}))
    model.save_pretrained(folder)
    return folder


def sd_vae(folder: Path) -> Path:
    """A diffusers folder with 4 latent channels at stride 8."""
    return diffusers_folder(folder, _kl(latent_channels=4))


def flux_vae(folder: Path) -> Path:
    """A diffusers folder without convolutions around the latents."""
    return diffusers_folder(folder, _kl(latent_channels=16, use_quant_conv=False, use_post_quant_conv=False))


def _kl(**own: Any) -> AutoencoderKL:
    down, up = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    return AutoencoderKL(
        down_block_types=down, up_block_types=up, block_out_channels=(16, 16, 32, 32), norm_num_groups=8, **own
    )


def dc_ae(folder: Path) -> Path:
    """A diffusers folder."""
    return diffusers_folder(folder, AutoencoderDC(**TINY_DC_AE))


def unilip(folder: Path) -> Path:
    """The flat file, with the config that tells how many heads so narrow a tower has."""
    torch.save(reference.weights("unilip") | {"regressor.weight": torch.zeros(2)}, folder / "1b_unilip.pth")
    _write_json(folder / "config.json", {"vision": reference.config("unilip")["vision"]})
    return folder / "1b_unilip.pth"


def vtp(folder: Path) -> Path:
    """The folder of config.json and safetensors, with CLIP's whole vocabulary."""
    sizes = reference.config("vtp_rms") | {"text_vocab_size": _TOKENS}
    keys = reference.entry("vtp_rms")["keys"] | {"token_embedding.weight": [_TOKENS, sizes["text_embed_dim"]]}
    return _vtp(folder, sizes, drawn(keys))


def vtp_fixture(folder: Path, system: str) -> Path:
    """The folder of one of the two fixtures, with their small vocabulary."""
    return _vtp(folder, reference.config(system), reference.weights(system))


def _vtp(folder: Path, sizes: Mapping[str, Any], state: dict[str, Tensor]) -> Path:
    _write_json(folder / "config.json", {"model_type": "vtp", **sizes})
    periods = torch.ones(4)
    save_file(state | {"trunk.rope_embed.periods": periods}, folder / "model.safetensors")
    return folder


def internvit(folder: Path) -> Path:
    """An InternVL3 folder in the remote-code layout: two shards, one of them only for the language model."""
    tower = {f"vision_model.{key}": value for key, value in reference.weights("internvit").items()}
    save_file(tower, folder / "model-00001-of-00002.safetensors")
    save_file({"language_model.lm_head.weight": torch.zeros(2)}, folder / "model-00002-of-00002.safetensors")
    where = {key: "model-00001-of-00002.safetensors" for key in tower}
    where["language_model.lm_head.weight"] = "model-00002-of-00002.safetensors"
    _write_json(folder / "model.safetensors.index.json", {"weight_map": where})
    _write_json(folder / "config.json", {"vision_config": reference.config("internvit")})
    return folder


def dinov3(folder: Path) -> Path:
    """The authors' .pth, which tells the width of a head by its rotary periods."""
    masks = {f"blocks.{i}.attn.qkv.bias_mask": torch.ones(192) for i in range(3)}
    torch.save(reference.weights("dinov3") | masks | {"rope_embed.periods": torch.ones(8)}, folder / "dinov3.pth")
    return folder / "dinov3.pth"


def openclip(folder: Path) -> Path:
    """The folder that open_clip publishes."""
    model = open_clip.CLIP(**TINY_CLIP)
    state = drawn({key: tuple(value.shape) for key, value in model.state_dict().items()})
    save_file(state, folder / "open_clip_model.safetensors")
    looks = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    _write_json(folder / "open_clip_config.json", {"model_cfg": TINY_CLIP, "preprocess_cfg": looks})
    return folder


def lightningdit(folder: Path) -> Path:
    """The authors' checkpoint: averaged weights beside those of the last step, both as parallel training names them."""
    folder.mkdir(parents=True, exist_ok=True)
    averaged = reference.weights("lightningdit") | {"pos_embed": reference.outputs("lightningdit")["pos_embed"]}
    averaged["feat_rope.freqs_cos"] = reference.outputs("lightningdit")["rope_cos"]
    averaged = {f"module.{key}": value for key, value in averaged.items()}
    last = {key: torch.zeros_like(value) for key, value in averaged.items()}
    torch.save({"model": last, "ema": averaged, "opt": {"state": {}}}, folder / "lightningdit.pt")
    _write_json(folder / "config.json", {"num_heads": reference.config("lightningdit")["num_heads"]})
    return folder / "lightningdit.pt"


WRITERS: Mapping[str, Callable[[Path], Path]] = {
    "vqgan": vqgan,
    "llamagen-vq": llamagen_vq,
    "va-vae": va_vae,
    "sd-vae": sd_vae,
    "flux-vae": flux_vae,
    "dc-ae": dc_ae,
    "unilip": unilip,
    "unilip-448": unilip,
    "unilip-padded": unilip,
    "vtp": vtp,
    "internvit": internvit,
    "dinov3": dinov3,
    "openclip": openclip,
}


def write(name: str, folder: Path) -> str:
    """Write tiny weights for a tokenizer and return what to type for it on the command line."""
    folder.mkdir(parents=True, exist_ok=True)
    return f"{name}:{WRITERS[name](folder)}"
