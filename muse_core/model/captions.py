"""Captions that were embedded once are not embedded again: they do not change while a run lasts.

Letters: N captions, E width of the caption space.
"""

from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor

from muse_core.model.text import TextTower

CHUNK = 32


class CaptionCache:
    """A frozen text tower that remembers.

    New captions are embedded in chunks of one size, filled up with blank ones, so that an embedding has the same bits
    whatever captions it was computed with: a resumed run starts with nothing remembered, and must go on exactly.

    Args:
        tower: what embeds.
        most: captions remembered, the oldest of which are forgotten; 4 E bytes each.
    """

    def __init__(self, tower: TextTower, most: int = 65_536) -> None:
        self.tower = tower
        self.most = most
        self.computed = 0
        self._rows: dict[str, Tensor] = {}

    def __call__(self, captions: Sequence[str]) -> Tensor:
        """Embed captions as unit rows (N, E), float32 or wider, on the tower's device."""
        rows = {caption: self._rows[caption] for caption in captions if caption in self._rows}
        rows |= self._embed([caption for caption in dict.fromkeys(captions) if caption not in rows])
        return torch.stack([rows[caption] for caption in captions])

    def _embed(self, captions: list[str]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for start in range(0, len(captions), CHUNK):
            chunk = captions[start : start + CHUNK]
            embedded = self.tower(chunk + [""] * (CHUNK - len(chunk)))
            found |= zip(chunk, embedded, strict=False)
        self.computed += len(captions)
        self._rows |= found
        for caption in list(islice(self._rows, max(len(self._rows) - self.most, 0))):
            del self._rows[caption]
        return found
