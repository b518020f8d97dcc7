"""Names in published files and our names for them: pure functions of text.

Each returns our names for one published name: none for a tensor that is not wanted, several for a fused one, whose
rows are then shared out equally in that order.
"""

from collections.abc import Mapping

_VISION_LAYER = {
    "attn.proj": "attention.projection_layer",
    "attn.q_norm": "attention.q_norm",
    "attn.k_norm": "attention.k_norm",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "ls1": "lambda_1",
    "ls2": "lambda_2",
}
_VISION_EMBEDDINGS = {
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
_TEACHER_LAYER = {
    "attn.proj": "attention.o_proj",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
    "mlp.w1": "mlp.gate_proj",
    "mlp.w2": "mlp.up_proj",
    "mlp.w3": "mlp.down_proj",
    "mlp.fc1": "mlp.up_proj",
    "mlp.fc2": "mlp.down_proj",
}
_TEACHER_EMBEDDINGS = {
    "cls_token": "cls_token",
    "mask_token": "mask_token",
    "storage_tokens": "register_tokens",
    "patch_embed.proj": "patch_embeddings",
}
_TEXT_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_TEXT_TOP = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
}


def renamed(key: str, names: Mapping[str, str]) -> str:
    """Replace the first names of a dotted key by what the table says, if it knows them."""
    for name, ours in names.items():
        if key == name or key.startswith(name + "."):
            return ours + key.removeprefix(name)
    return key


def vision_names(key: str) -> list[str]:
    """InternViT in its original layout to `InternVLVisionModel`; the fused qkv becomes three."""
    if key.startswith("embeddings."):
        return ["embeddings." + renamed(key.removeprefix("embeddings."), _VISION_EMBEDDINGS)]
    if not key.startswith("encoder.layers."):
        return []
    _, _, index, name = key.split(".", 3)
    if name.startswith("attn.qkv"):
        kind = name.removeprefix("attn.qkv")
        return [f"encoder.layer.{index}.attention.{part}_proj{kind}" for part in "qkv"]
    return [f"encoder.layer.{index}.{renamed(name, _VISION_LAYER)}"]


def released_names(key: str) -> list[str]:
    """A released MUSE checkpoint to `MuseNetwork` in layout `released`; teacher and constants are not wanted."""
    first, _, rest = key.partition(".")
    if first == "encoder":
        return [f"encoder.vision.{name}" for name in vision_names(rest)] or [f"encoder.vision.{rest}"]
    if first == "muse_blocks":
        index, _, name = rest.partition(".")
        return [f"connector.blocks.{index}.{renamed(name, _BLOCK)}"]
    if first == "decoder":
        return [f"decoder.decoder.{rest}"]
    if first == "decoder_adapter":
        return [f"decoder.adapter.{rest}"]
    return [] if first in ("dino_teacher", "dino_mean", "dino_std") else [f"connector.{renamed(key, _HEADS)}"]


def teacher_names(key: str) -> list[str]:
    """DINOv3 to `DINOv3ViTModel`, from the authors' layout or from either spelling of the hub's."""
    if key.startswith("layer."):
        return [f"model.{key}"]
    if key.startswith("model.layer.") or key.startswith(("embeddings.", "norm.")):
        return [key]
    if not key.startswith("blocks."):
        known = renamed(key, _TEACHER_EMBEDDINGS)
        return [f"embeddings.{known}"] if key.partition(".")[0] in ("cls_token", "mask_token", *_TOKENS) else []
    _, index, name = key.split(".", 2)
    if name == "attn.qkv.bias_mask":
        return []
    if name.startswith("attn.qkv"):
        kind = name.removeprefix("attn.qkv")
        return [f"model.layer.{index}.attention.{part}_proj{kind}" for part in "qkv"]
    return [f"model.layer.{index}.{renamed(name, _TEACHER_LAYER)}"]


_TOKENS = ("storage_tokens", "patch_embed")


def text_names(key: str) -> list[str]:
    """The text half of an open_clip model to `CLIPTextModelWithProjection`; the vision half is not wanted.

    `text_projection` is transposed between the two, which the caller does.
    """
    key = key.removeprefix("text.")
    if key in _TEXT_TOP:
        return [_TEXT_TOP[key]]
    if not key.startswith("transformer.resblocks."):
        return []
    _, _, index, name = key.split(".", 3)
    if name.startswith("attn.in_proj_"):
        kind = name.removeprefix("attn.in_proj_")
        return [f"text_model.encoder.layers.{index}.self_attn.{part}_proj.{kind}" for part in "qkv"]
    return [f"text_model.encoder.layers.{index}.{renamed(name, _TEXT_LAYER)}"]
