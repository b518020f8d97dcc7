"""Parts written as published: half-precision safetensors beside a config.json; and the backbone's read-out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from muse_core.data.scenes import CLASSES
from muse_core.files import write_atomically, write_json
from muse_core.model.images import imagenet_normalize
from muse_core.training.foundation.loop import Recipe, reached
from muse_core.training.foundation.stream import fixed_scenes

if TYPE_CHECKING:
    from muse_core.training.foundation.backbone import CaptionModel

TRAINING = "training.json"


def export_part(
    part: nn.Module | Mapping[str, Tensor], folder: Path, *, name: str = "model", words: Sequence[str] | None = None
) -> None:
    """Write `part` as float16 safetensors, with its library config and its vocabulary where it has them."""
    weights = part.state_dict() if isinstance(part, nn.Module) else part
    halves = {key: value.detach().half().contiguous() for key, value in weights.items()}
    write_atomically(folder / f"{name}.safetensors", save(halves))
    config = getattr(part, "config", None)
    if config is not None and hasattr(config, "to_json_string"):
        write_atomically(folder / "config.json", config.to_json_string())
    if words is not None:
        write_atomically(folder / "words.json", json.dumps(list(words)))


def note_training(
    folder: Path, progress: Path, recipe: Recipe, supervision: str, measured: Mapping[str, float] | None = None
) -> None:
    """Write beside a part how it was trained.

    Args:
        folder: of the part, in the pack.
        progress: of its training.
        recipe: of its training.
        supervision: what it was taught by, in words.
        measured: figures that only the training can tell, because what they need is not shipped.
    """
    so_far = reached(progress)
    note = {
        "supervision": supervision,
        "samples": so_far.step * recipe.batch_size,
        "cpu_seconds": round(so_far.cpu_seconds),
        "recipe": asdict(recipe),
        "measured": dict(measured or {}),
    }
    write_json(folder / TRAINING, note)


@torch.no_grad()
def read_out(model: "CaptionModel", count: int = 500) -> dict[str, float]:
    """Zero-shot accuracy of the main object on held-out scenes of both kinds."""
    text = functional.normalize(
        model.text(input_ids=model.tokenizer([item.phrase for item in CLASSES])).text_embeds, dim=-1
    )
    scores: dict[str, float] = {}
    for split in ("val", "ood"):
        hits = 0
        for batch in fixed_scenes(split, count):
            tokens = model.backbone(imagenet_normalize(batch.images)).last_hidden_state[:, 1:]
            hits += int(((model.projection(tokens.mean(1)) @ text.T).argmax(1) == batch.labels).sum())
        scores[f"zero-shot {split}"] = hits / count
    return scores
