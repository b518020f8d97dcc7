"""The structure teacher of the pack, trained WITH MASKS: its attention is taught which patches share an object.

It stands in for DINOv3, whose attention found objects without any mask. Whatever is measured with masks downstream
is therefore partly supervised through this teacher, and says so.

Letters: B images, N patches, K segments (background and objects).
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from muse_core.data.scenes import WORDS
from muse_core.model.images import imagenet_normalize
from muse_core.model.text import WordTokenizer
from muse_core.model.weights import tiny
from muse_core.training.foundation.export import export_part, note_training
from muse_core.training.foundation.loop import Recipe, fit
from muse_core.training.foundation.stream import MAX_OBJECTS, SceneBatch

RECIPE = Recipe(steps=2_000, batch_size=64, lr=1.5e-3, warmup_steps=100)
WORD_WEIGHT = 0.05


def same_segment(masks: Tensor, patch: int) -> Tensor:
    """Target attention (B, N, N) from masks (B, S, S): patches attend in proportion to the segments they share."""
    one_hot = functional.one_hot(masks.long(), MAX_OBJECTS + 1).permute(0, 3, 1, 2).float()
    share = functional.avg_pool2d(one_hot, patch).flatten(2)  # B K N
    together = share.mT @ share  # B N N
    return together / together.sum(-1, keepdim=True)


class MaskTeacher(nn.Module):
    """A small DINOv3 with its two losses."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = WordTokenizer(WORDS, tiny.CONTEXT)
        self.vision = tiny.new_teacher()
        self.vision.set_attn_implementation("eager")
        self.words = nn.Linear(tiny.WIDTH, len(self.tokenizer))
        for weight in self.parameters():
            if weight.ndim in (2, 4):  # the library's 0.02 suits wide networks; see docs/foundation.md
                nn.init.trunc_normal_(weight, std=0.06)

    def forward(self, batch: SceneBatch, progress: float) -> dict[str, Tensor]:
        """Return the attention loss and the caption-word loss."""
        out = self.vision(imagenet_normalize(batch.images), output_attentions=True)
        target = same_segment(batch.masks, int(self.vision.config.patch_size))
        patches = target.shape[-1]
        attention = out.attentions[-1].mean(1)[:, -patches:, -patches:]
        attention = attention / attention.sum(-1, keepdim=True)
        divergence = functional.kl_div((attention + 1e-8).log(), target, reduction="none").sum(-1).mean()
        ids = self.tokenizer(batch.captions)
        present = torch.zeros(len(ids), len(self.tokenizer)).scatter_(1, ids, 1.0)
        present[:, : self.tokenizer.FIRST_WORD] = 0
        words = functional.binary_cross_entropy_with_logits(self.words(out.last_hidden_state[:, 0]), present)
        return {"attention": divergence, "words": WORD_WEIGHT * words}


def train(folder: Path, recipe: Recipe = RECIPE) -> MaskTeacher:
    """Train the teacher, continuing from `folder`."""
    torch.manual_seed(recipe.seed)
    model = MaskTeacher()
    model.vision.eval()  # in training mode DINOv3 rescales its positions at random
    fit(model, model, recipe, folder)
    return model


def export(model: MaskTeacher, progress: Path, pack: Path, recipe: Recipe = RECIPE) -> None:
    """Write the teacher as DINOv3 is published."""
    export_part(model.vision, pack / "teacher")
    note_training(pack / "teacher", progress, recipe, "masks and captions")
