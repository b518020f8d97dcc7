"""The published parts of sizes 1b and 3b, from the folders they lie in to library classes with their weights.

Only what is used is read: of InternVL3 the vision tower, of DC-AE the decoder, of CLIP the text tower. The sizes come
from the config that lies beside the weights, so a scaled-down part in the same layout loads just as well.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torchvision.models import convnext_small
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    InternVLVisionModel,
)

from muse_core.errors import MuseError
from muse_core.files import read_json
from muse_core.model.architecture import (
    PUBLISHED,
    Architecture,
    decoder_of_folder,
    refuse_empty,
    vision_of_folder,
    without_weights,
)
from muse_core.model.text import TextTower, Tokenize
from muse_core.model.weights.filling import fill
from muse_core.model.weights.keymaps import teacher_names, text_names, vision_names
from muse_core.model.weights.parts import Found, Part, find_part
from muse_core.model.weights.reading import LazyTensors, Rename, open_tensors, take

_TOWERS = ("model.vision_tower.", "vision_tower.", "vision_model.", "")
_DINOV3_VITH16PLUS: Mapping[str, Any] = {
    "image_size": 224,
    "patch_size": 16,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "num_register_tokens": 4,
    "use_gated_mlp": True,
    "hidden_act": "silu",
}
_CLIP_VIT_L_14_TEXT: Mapping[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
    "hidden_act": "gelu",
}


def need(size: str, role: str) -> tuple[Found, Path]:
    """Return a part that is here, and the file of its weights.

    Raises:
        MuseError: it is missing; names the part, what it is for, and how to get it.
    """
    found = find_part(size, role)
    if found.file is None:
        raise MuseError(
            f"the {found.part.purpose} of size {size} is missing: {found.part.hub} is not under $MUSE_WEIGHTS "
            "or in the hub's cache",
            hint=found.remedy,
        )
    return found, found.file


def _open(size: str, role: str) -> tuple[LazyTensors, Path, Part]:
    found, file = need(size, role)
    return open_tensors(file, found.part.purpose, found.remedy), file.parent, found.part


def architecture(size: str) -> Architecture:
    """Read the sizes of encoder, decoder and caption space from the parts that are here; the rest as published."""
    folders = {role: find_part(size, role).folder for role in ("encoder", "decoder", "text")}
    encoder, decoder, text = folders["encoder"], folders["decoder"], folders["text"]
    return Architecture(
        encoder=vision_of_folder(encoder) if encoder else PUBLISHED.encoder,
        decoder=decoder_of_folder(decoder) if decoder else PUBLISHED.decoder,
        caption_width=int(_text_config(text)["projection_dim"]) if text else PUBLISHED.caption_width,
    )


def load_encoder(size: str, sizes: Architecture) -> InternVLVisionModel:
    """Load the vision tower of InternVL3 from either published layout; the language model is never read.

    Raises:
        MuseError: the part is missing, damaged, or of other sizes; so for every loader here.
    """
    source, _, _ = _open(size, "encoder")
    prefix = next((p for p in _TOWERS if any(name.startswith(f"{p}embeddings.") for name in source)), None)
    if prefix is None:
        raise source.refuse("holds no vision tower (vision_model.* or vision_tower.*)")
    tower = source.under(prefix) if prefix else source
    rename: Rename = vision_names if "embeddings.class_embedding" in tower else _as_it_is
    with without_weights():
        model = sizes.new_encoder()
    _fill(model, tower, rename)
    return model


def load_decoder(size: str, sizes: Architecture) -> nn.Module:
    """Load the decoder half of DC-AE (SANA 1.0 or 1.1); its encoder half is not read."""
    source, _, _ = _open(size, "decoder")
    with without_weights():
        model = sizes.new_decoder()
    _fill(model, source.under("decoder."), _as_it_is)
    return model


def load_teacher(size: str) -> DINOv3ViTModel:
    """Load DINOv3 from the hub's folder or from the authors' .pth."""
    source, folder, _ = _open(size, "teacher")
    with without_weights():
        model = new_teacher(folder)
    own = model.state_dict()
    tensors = take(source, teacher_names, own)
    # The authors keep the key's third of the fused bias, always zero; the library has no such weight.
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("attention.k_proj.bias")}
    if (mask := "embeddings.mask_token") in tensors:
        tensors[mask] = tensors[mask].reshape(own[mask].shape)
    fill(model, tensors, source=source.source, assign=True, remedy=source.remedy)
    return _frozen(model, source)


def new_teacher(folder: Path | None = None) -> DINOv3ViTModel:
    """Build DINOv3, untrained: the sizes of a folder's config.json, else of ViT-H+/16."""
    config = dict(_DINOV3_VITH16PLUS)
    if folder is not None and (folder / "config.json").is_file():
        config = read_json(folder / "config.json")
    return DINOv3ViTModel(DINOv3ViTConfig(**config))


def load_text(size: str) -> TextTower:
    """Load the CLIP text tower from a transformers or an open_clip folder, with CLIP's own tokenizer."""
    source, folder, part = _open(size, "text")
    with without_weights():
        model = new_text(folder)
    if any(name.startswith("text_model.") for name in source):
        wanted = model.state_dict()
        tensors = take(source, lambda name: [name] if name in wanted else [])
    else:
        tensors = take(source, text_names)
        if (projection := "text_projection.weight") in tensors:
            tensors[projection] = tensors[projection].T.contiguous()
    fill(model, tensors, source=source.source, assign=True, remedy=source.remedy)
    _frozen(model, source)
    return TextTower(model, clip_tokenizer(int(model.config.max_position_embeddings)), part.hub)


def clip_tokenizer(context: int) -> Tokenize:
    """Return CLIP's byte-pair tokenizer, whose vocabulary ships with open_clip."""
    from open_clip import SimpleTokenizer  # its import costs a second, which only text needs

    tokenizer: Tokenize = SimpleTokenizer(context_length=context)
    return tokenizer


def new_text(folder: Path | None = None) -> CLIPTextModelWithProjection:
    """Build the text tower, untrained: the sizes of a folder's config, else of CLIP ViT-L/14."""
    return CLIPTextModelWithProjection(CLIPTextConfig(**_text_config(folder)))


def _text_config(folder: Path | None) -> dict[str, Any]:
    if folder is not None and (folder / "open_clip_config.json").is_file():
        return _open_clip_text(read_json(folder / "open_clip_config.json")["model_cfg"])
    if folder is not None and (folder / "config.json").is_file():
        document = read_json(folder / "config.json")
        chosen = document.get("text_config") or document
        return {**chosen, "projection_dim": document.get("projection_dim", chosen.get("projection_dim", 768))}
    return dict(_CLIP_VIT_L_14_TEXT)


def _open_clip_text(config: Mapping[str, Any]) -> dict[str, Any]:
    text = config["text_cfg"]
    return {
        "hidden_size": text["width"],
        "intermediate_size": int(text["width"] * text.get("mlp_ratio", 4.0)),
        "num_hidden_layers": text["layers"],
        "num_attention_heads": text["heads"],
        "max_position_embeddings": text.get("context_length", 77),
        "vocab_size": text.get("vocab_size", 49408),
        "projection_dim": config["embed_dim"],
        "hidden_act": "quick_gelu" if config.get("quick_gelu") else "gelu",
    }


def load_lpips_states(size: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the weights of VGG16's features and of the LPIPS heads on them."""
    vgg, _, _ = _open(size, "vgg16")
    heads, _, _ = _open(size, "lpips")
    features = take(vgg, lambda name: [name] if name.startswith("features.") else [])
    return features, take(heads, _as_it_is)


def load_convnext(size: str) -> nn.Module:
    """Load torchvision's ConvNeXt-S with its classifier."""
    source, _, _ = _open(size, "convnext_s")
    with without_weights():
        model: nn.Module = convnext_small(weights=None)
    _fill(model, source, _as_it_is)
    return model


def _as_it_is(name: str) -> list[str]:
    return [name]


def _fill(model: nn.Module, source: LazyTensors, rename: Rename) -> None:
    fill(model, take(source, rename), source=source.source, assign=True, remedy=source.remedy)
    _frozen(model, source)


def _frozen(model: Any, source: LazyTensors) -> Any:
    refuse_empty(model, source.source)
    return model.eval().requires_grad_(False)
