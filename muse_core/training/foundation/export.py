"""Parts written as published: half-precision safetensors beside a config.json; and the backbone's read-out."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from muse_core.data.scenes import CLASSES, SPLITS, SceneMaker
from muse_core.model.images import imagenet_normalize

if TYPE_CHECKING:
    from muse_core.training.foundation.backbone import CaptionModel


def export_part(
    part: nn.Module | Mapping[str, Tensor], folder: Path, *, name: str = "model", words: Sequence[str] | None = None
) -> None:
    """Write `part` as float16 safetensors, with its library config and its vocabulary where it has them."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = part.state_dict() if isinstance(part, nn.Module) else part
    save_file({key: value.detach().half().contiguous() for key, value in weights.items()}, folder / f"{name}.safetensors")
    config = getattr(part, "config", None)
    if hasattr(config, "to_json_string"):
        (folder / "config.json").write_text(config.to_json_string(), encoding="utf-8")
    if words is not None:
        (folder / "words.json").write_text(json.dumps(list(words)), encoding="utf-8")


@torch.no_grad()
def read_out(model: "CaptionModel", count: int = 500) -> dict[str, float]:
    """Zero-shot accuracy of the main object on held-out scenes of both kinds."""
    model.eval()
    prompts = [f"{item.phrase}" for item in CLASSES]
    text = functional.normalize(model.text(input_ids=model.tokenizer(prompts)).text_embeds, dim=-1)
    scores: dict[str, float] = {}
    for split in ("val", "ood"):
        maker = SceneMaker(SPLITS[split].designers, size=64)
        hits = 0
        for start in range(0, count, 100):
            scenes = [maker.scene(SPLITS[split].first_seed + start + i) for i in range(100)]
            images = torch.stack([torch.from_numpy(scene.image) for scene in scenes]).permute(0, 3, 1, 2) / 255
            tokens = model.backbone(imagenet_normalize(images)).last_hidden_state[:, 1:]
            guess = (model.projection(tokens.mean(1)) @ text.T).argmax(1)
            hits += int((guess == torch.tensor([scene.label for scene in scenes])).sum())
        scores[f"zero-shot {split}"] = hits / count
    model.train()
    return scores
