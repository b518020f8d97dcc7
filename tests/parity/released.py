"""The reference's network rebuilt from our parts, filled by the reference's key names."""

from collections.abc import Iterator
from functools import cache

import torch
from diffusers import AutoencoderDC
from torch import Tensor, nn
from transformers import InternVLVisionConfig, InternVLVisionModel

from muse_core.model.connector import Connector
from muse_core.model.decoder import PixelDecoder
from muse_core.model.encoder import VisionEncoder
from muse_core.model.network import MuseNetwork
from tests.fixtures.regenerate import read_json, released_state

_LAYER = {
    "attn.proj": "attention.projection_layer",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "ls1": "lambda_1",
    "ls2": "lambda_2",
}
_EMBEDDINGS = {
    "class_embedding": "cls_token",
    "position_embedding": "position_embeddings",
    "patch_embedding": "patch_embeddings.projection",
}
_BLOCK = {
    "q_topo": "topology.query",
    "k_topo": "topology.key",
    "q_norm": "topology.query_norm",
    "k_norm": "topology.key_norm",
    "v_sem": "texture",
    "v_itc": "semantic",
    "proj": "out",
    "mlp": "feed_forward",
}
_HEADS = {"adapter_mlp": "adapter", "to_latent": "to_latent", "semantic_projector": "projector"}


def _renamed(key: str, names: dict[str, str]) -> str:
    """Replace the first name of a dotted key, of one or two words, that the table knows."""
    for name, ours in names.items():
        if key == name or key.startswith(name + "."):
            return ours + key.removeprefix(name)
    return key


def block_key(key: str) -> str:
    """Our name in a block of layout `released` for the reference's."""
    return _renamed(key, _BLOCK)


def our_keys(key: str) -> list[str]:
    """Our names for a released key of encoder, blocks, heads or decoder: three where the reference fuses q, k and v."""
    first, _, rest = key.partition(".")
    if first == "encoder":
        return [f"encoder.vision.{name}" for name in _encoder_keys(rest)]
    if first == "muse_blocks":
        index, _, name = rest.partition(".")
        return [f"connector.blocks.{index}.{block_key(name)}"]
    if first == "decoder":
        return [f"decoder.decoder.{rest}"]
    return [f"connector.{_renamed(key, _HEADS)}"]


def _encoder_keys(key: str) -> Iterator[str]:
    if key.startswith("embeddings."):
        yield "embeddings." + _renamed(key.removeprefix("embeddings."), _EMBEDDINGS)
        return
    _, _, index, name = key.split(".", 3)
    if name.startswith("attn.qkv"):
        yield from (f"encoder.layer.{index}.attention.{part}_proj{name.removeprefix('attn.qkv')}" for part in "qkv")
    else:
        yield f"encoder.layer.{index}.{_renamed(name, _LAYER)}"


def _vision() -> InternVLVisionModel:
    sizes = dict(read_json("config")["model"]["vision"])
    sizes["attention_bias"] = sizes.pop("qkv_bias")
    sizes["use_qk_norm"] = sizes.pop("qk_normalization")
    sizes["image_size"], sizes["patch_size"] = [sizes["image_size"]] * 2, [sizes["patch_size"]] * 2
    sizes.pop("initializer_factor")
    return InternVLVisionModel(InternVLVisionConfig(**sizes, use_mean_pooling=True))


def _fill(network: nn.Module) -> None:
    state: dict[str, Tensor] = {}
    for key, value in released_state().items():
        if not key.startswith("dino_"):
            ours = our_keys(key)
            state |= dict(zip(ours, value.chunk(len(ours)) if len(ours) > 1 else [value], strict=True))
    loaded = network.load_state_dict(state, strict=False)
    assert not loaded.unexpected_keys
    assert not loaded.missing_keys


@cache
def network() -> MuseNetwork:
    """Build the fixture's network in layout `released`, in eval mode."""
    sizes = read_json("config")["model"]
    torch.manual_seed(0)
    built = MuseNetwork(
        VisionEncoder(_vision()),
        Connector(
            encoder_width=sizes["vision"]["hidden_size"],
            width=sizes["dim"],
            heads=sizes["num_heads"],
            blocks=sizes["muse_layers"],
            latent_channels=sizes["latent_dim"],
            caption_width=768,
            layout="released",
        ),
        PixelDecoder(AutoencoderDC(**sizes["dcae"]).decoder, sizes["latent_dim"], sizes["dcae"]["latent_channels"]),
    )
    _fill(built)
    return built.eval()
