"""The backbone and the text tower of the pack, trained together as a small CLIP.

Three terms: the contrastive loss of CLIP; a word loss (which words does the caption hold?), which gives each image a
full target even in a small batch; and a pixel loss (what does each token see?), because captions alone teach a small
encoder to drop what a decoder needs. Most steps see a random part of the tokens (as in FLIP), the last ones all.
"""

from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from muse_core.data.scenes import WORDS
from muse_core.model.images import imagenet_normalize
from muse_core.model.text import WordTokenizer
from muse_core.model.weights import tiny
from muse_core.training.foundation.export import export_part, note_training, read_out
from muse_core.training.foundation.loop import Recipe, fit
from muse_core.training.foundation.stream import SceneBatch

RECIPE = Recipe(steps=11_000, batch_size=64, lr=2e-3, save_every=500, log_every=100)
WORD_WEIGHT = 0.25
PIXEL_WEIGHT = 1.0
PHASES = ((0.80, 64), (0.95, 128), (1.01, 256))
"""Up to this part of the training, this many of the 256 tokens are seen."""


def some_patches(images: int, patches: int, keep: int) -> Tensor:
    """Draw which patches of each image are seen: (B, min(keep, n)) numbers below n, none twice in a row."""
    if keep >= patches:
        return torch.arange(patches).expand(images, -1)
    return torch.rand(images, patches).argsort(1)[:, :keep]


def pick(rows: Tensor, chosen: Tensor) -> Tensor:
    """Take the chosen rows of each image: (B, n, D) and (B, k) to (B, k, D)."""
    return rows.gather(1, chosen[..., None].expand(-1, -1, rows.shape[-1]))


class CaptionModel(nn.Module):
    """Backbone, text tower, and the heads that join them."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = WordTokenizer(WORDS, tiny.CONTEXT)
        self.backbone = tiny.new_backbone()
        nn.init.trunc_normal_(self.backbone.embeddings.position_embeddings, std=0.02)
        self.text = tiny.new_text(len(self.tokenizer))
        self.projection = nn.Linear(tiny.WIDTH, tiny.WIDTH, bias=False)
        self.words = nn.Linear(tiny.WIDTH, len(self.tokenizer))
        self.patch = int(self.backbone.config.patch_size[0])
        self.pixels = nn.Linear(tiny.WIDTH, 3 * self.patch**2)
        self.logit_scale = nn.Parameter(torch.tensor(2.6592))
        for weight in self.parameters():
            if weight.ndim in (2, 4):  # the libraries' 0.02 suits wide networks; here it only delays the start
                nn.init.trunc_normal_(weight, std=0.06)

    def tokens(self, images: Tensor, chosen: Tensor) -> Tensor:
        """Tokens of the chosen patches after the backbone, (B, k, D), of normalised images.

        Positions are in the tokens before any is left out, so it does not matter which ones stay.
        """
        hidden = self.backbone.embeddings(images)
        hidden = torch.cat((hidden[:, :1], pick(hidden[:, 1:], chosen)), dim=1)
        tokens: Tensor = self.backbone.encoder(hidden).last_hidden_state[:, 1:]
        return tokens

    def forward(self, batch: SceneBatch, progress: float) -> dict[str, Tensor]:
        """Return the three losses of a batch."""
        images = imagenet_normalize(batch.images)
        patches = rearrange(images, "b c (h p) (w q) -> b (h w) (p q c)", p=self.patch, q=self.patch)
        keep = next(count for end, count in PHASES if progress < end)
        chosen = some_patches(len(patches), patches.shape[1], keep)
        tokens = self.tokens(images, chosen)
        seen = functional.l1_loss(self.pixels(tokens), pick(patches, chosen))
        return {**self._of_captions(tokens.mean(1), batch), "pixels": PIXEL_WEIGHT * seen}

    def _of_captions(self, pooled: Tensor, batch: SceneBatch) -> dict[str, Tensor]:
        ids = self.tokenizer(batch.captions)
        image = functional.normalize(self.projection(pooled), dim=-1)
        text = functional.normalize(self.text(input_ids=ids).text_embeds, dim=-1)
        logits = self.logit_scale.clamp(max=4.6052).exp() * image @ text.T
        same = (ids[:, None] == ids[None]).all(-1) & ~torch.eye(len(ids), dtype=torch.bool)
        logits = logits.masked_fill(same, float("-inf"))
        target = torch.arange(len(ids))
        contrast = (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
        present = torch.zeros(len(ids), len(self.tokenizer)).scatter_(1, ids, 1.0)
        present[:, : self.tokenizer.FIRST_WORD] = 0
        words = functional.binary_cross_entropy_with_logits(self.words(pooled), present, reduction="none")
        return {"contrastive": contrast, "words": WORD_WEIGHT * words.sum(1).mean()}


def train(folder: Path, recipe: Recipe = RECIPE) -> CaptionModel:
    """Train backbone and text tower, continuing from `folder`."""
    torch.manual_seed(recipe.seed)
    model = CaptionModel()
    fit(model, model, recipe, folder, report=lambda _: read_out(model))
    return model


def export(model: CaptionModel, progress: Path, pack: Path, recipe: Recipe = RECIPE) -> None:
    """Write both towers in the published layouts."""
    export_part(model.backbone, pack / "backbone")
    export_part(model.text, pack / "text", words=WORDS)
    heads = {"weight": model.projection.weight, "logit_scale": model.logit_scale}
    export_part(heads, pack / "backbone", name="projection")
    for part in ("backbone", "text"):
        note_training(pack / part, progress, recipe, "captions")
