"""Sentences to unit vectors: a CLIP text tower with whichever tokenizer it was trained with."""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextModelWithProjection

from muse_core.model.numbers import full
from muse_core.model.weights.filling import digest_of

Tokenize = Callable[[list[str]], Tensor]


class WordTokenizer:
    """One id per known word, for towers with a small vocabulary.

    The end-of-text id is 3, not 2: transformers treats 2 as a sign of an old checkpoint and would then
    read the sentence at its largest id instead of at its end.
    """

    PAD, UNKNOWN, BEGIN, END = 0, 1, 2, 3
    FIRST_WORD = 4

    def __init__(self, words: Sequence[str], context: int) -> None:
        self.words = tuple(words)
        self.context = context
        self._ids = {word: index for index, word in enumerate(self.words, start=self.FIRST_WORD)}

    def __len__(self) -> int:
        return self.FIRST_WORD + len(self.words)

    def ids(self, text: str) -> list[int]:
        """Return the ids of a sentence's words, without begin and end."""
        return [self._ids.get(word, self.UNKNOWN) for word in re.findall(r"[a-z]+", text.lower())]

    def __call__(self, texts: list[str]) -> Tensor:
        """Return (len(texts), context) int64, padded or cut to the context."""
        out = torch.full((len(texts), self.context), self.PAD, dtype=torch.int64)
        for row, text in zip(out, texts, strict=True):
            ids = [self.BEGIN, *self.ids(text)[: self.context - 2], self.END]
            row[: len(ids)] = torch.tensor(ids)
        return out


class TextTower:
    """A frozen text encoder: sentences in, unit rows (N, E) out.

    It is no module of the trained tree, so that no optimizer, average or checkpoint can touch it.
    """

    def __init__(self, model: CLIPTextModelWithProjection, tokenize: Tokenize, name: str) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenize = tokenize
        self.name = name

    def digest(self) -> str:
        """Return the sha256 of its weights."""
        return digest_of(self.model)

    @property
    def width(self) -> int:
        """Width E of the shared image-text space."""
        return int(self.model.config.projection_dim)

    @property
    def context(self) -> int:
        """Longest sentence in tokens."""
        return int(self.model.config.max_position_embeddings)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "TextTower":
        """Move the tower to a device, and to a number format, and return it."""
        self.model.to(device=device, dtype=dtype)
        return self

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> Tensor:
        """Embed sentences as unit rows (N, E), float32."""
        ids = self.tokenize(texts).to(self.model.device)
        embedded = full(self.model(input_ids=ids).text_embeds)
        return functional.normalize(embedded, dim=-1)
