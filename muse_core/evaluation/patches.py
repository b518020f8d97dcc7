"""Patch features and masks on disk, in pieces, so that many passes cost one reading and little memory.

Letters: B samples in a piece, D feature width, h x w patches, S side of an image.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from muse_core.errors import MuseError
from muse_core.evaluation.features import behaviour, content
from muse_core.evaluation.protocol import Counts
from muse_core.evaluation.reading import EvalData, Tally, named, read
from muse_core.evaluation.views import cover_of, layer_for_segmenting
from muse_core.files import read_json, write_json, written_aside
from muse_core.model.abilities import Featurizes
from muse_core.progress import Progress

_PIECE = 256  # samples per file: 34 MB of features at 512 x 8 x 8
_LIST = "pieces.json"


@dataclass(frozen=True)
class PatchStore:
    """Features (B, D, h, w) float32 and masks (B, S, S) uint8 in files of a folder.

    cover: pixels (high, wide) that the grid covers; more than S where an image was padded.
    """

    folder: Path
    width: int
    pieces: int
    cover: tuple[int, int]
    counts: Counts
    samples: int

    def piece(self, index: int) -> tuple[Tensor, Tensor]:
        """Read one piece."""
        tensors = load_file(self.folder / f"{index:05d}.safetensors")
        return tensors["features"], tensors["masks"]

    def shuffled(self, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Every sample once, in batches: pieces in random order, and samples in random order within each."""
        for index in torch.randperm(self.pieces, generator=generator).tolist():
            features, masks = self.piece(index)
            for chosen in torch.split(torch.randperm(len(features), generator=generator), batch_size):
                yield features[chosen], masks[chosen]

    def steps(self, batch_size: int) -> int:
        """Count the batches of one pass."""
        whole, rest = divmod(self.samples, _PIECE)
        return whole * -(-_PIECE // batch_size) + -(-rest // batch_size)


def store_patches(tokenizer: object, data: EvalData, layer: str | None, cache: Path, progress: Progress) -> PatchStore:
    """Read patch features of every sample that has a mask, or find them where an earlier call left them.

    Args:
        tokenizer: gives features.
        data: what to read and how.
        layer: a name from `info.feature_layers`; None for the tokenizer's own for segmenting.
        cache: the folder in which the store gets its folder.
        progress: who is told.

    Raises:
        MuseError: no features, or not one sample has a mask.
    """
    if not isinstance(tokenizer, Featurizes):
        raise MuseError(f"{named(tokenizer)} gives no features")
    chosen = layer_for_segmenting(tokenizer, layer)
    folder = cache / f"patches-{_key(tokenizer, data, chosen)}"
    if not (folder / _LIST).is_file():
        with written_aside(folder) as aside:
            _write(tokenizer, data, chosen, aside, progress)
    found = read_json(folder / _LIST)
    store = PatchStore(
        folder,
        found["width"],
        found["pieces"],
        (found["cover"][0], found["cover"][1]),
        found["counts"],
        found["samples"],
    )
    if not store.samples:
        raise MuseError(
            f"not one of the {store.counts['seen']} samples of {data.name} has a mask",
            hint="a shard with masks has NAME.seg.png beside each image",
        )
    return store


def _key(tokenizer: Featurizes, data: EvalData, layer: str | None) -> str:
    what = {
        "behaviour": behaviour(tokenizer, data.size, data.device, (layer,) if layer else ()),
        "layer": layer,
        "data": data.describe(),
        "limit": data.limit,
        "content": content(data),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:24]


def _write(tokenizer: Featurizes, data: EvalData, layer: str | None, folder: Path, progress: Progress) -> None:
    tally, held, pieces, samples = Tally(), _Held(), 0, 0
    cover, width = (data.size, data.size), 0
    for batch in read(data, progress, f"patches of {data.name}", tally):
        if batch.masks is None:
            tally.skip("no mask", len(batch))
            continue
        with torch.no_grad():
            features = tokenizer.features(batch.images, layer).patch.float().cpu()
        if not torch.isfinite(features).all():
            raise MuseError(f"features of {named(tokenizer)} are not finite", hint="the checkpoint diverged")
        known = (batch.masks != 255).flatten(1).any(1).cpu()
        tally.skip("no mask", int((~known).sum()))
        width, cover = features.shape[1], cover_of(tokenizer, layer, features, (data.size, data.size))
        held.add(features[known], batch.masks.cpu()[known])
        samples += int(known.sum())
        while held.count >= _PIECE:
            held.write(folder / f"{pieces:05d}.safetensors", _PIECE)
            pieces += 1
    if held.count:
        held.write(folder / f"{pieces:05d}.safetensors", held.count)
        pieces += 1
    document = {"width": width, "pieces": pieces, "cover": cover, "counts": tally.counts(), "samples": samples}
    write_json(folder / _LIST, document)


class _Held:
    """Samples that wait until a piece is full."""

    def __init__(self) -> None:
        self._features: list[Tensor] = []
        self._masks: list[Tensor] = []
        self.count = 0

    def add(self, features: Tensor, masks: Tensor) -> None:
        self._features.append(features)
        self._masks.append(masks)
        self.count += len(features)

    def write(self, path: Path, amount: int) -> None:
        features, masks = torch.cat(self._features), torch.cat(self._masks)
        save_file({"features": features[:amount].contiguous(), "masks": masks[:amount].contiguous()}, path)
        self._features, self._masks = [features[amount:]], [masks[amount:]]
        self.count = len(features) - amount
