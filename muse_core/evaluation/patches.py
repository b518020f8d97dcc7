"""Patch features and masks on disk, in pieces, so that many passes cost one reading and little memory.

Letters: B samples in a piece, D feature width, h x w patches, S side of an image.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from muse_core.data.sample import UNKNOWN_MASK, Batch
from muse_core.data.vocabulary import counted
from muse_core.errors import MuseError
from muse_core.evaluation.features import behaviour, inputs, is_stale
from muse_core.evaluation.protocol import Counts
from muse_core.evaluation.reading import EvalData, Tally, named, read
from muse_core.evaluation.views import MASKS_HINT, cover_of, layer_for_segmenting
from muse_core.files import read_json, write_json, written_aside
from muse_core.identity import FIRST_READER
from muse_core.image_files import READER
from muse_core.model.abilities import Featurizes
from muse_core.ownership import files_in
from muse_core.progress import Progress

_PIECE = 256  # samples per file: 34 MB of features at 512 x 8 x 8
_LIST = "store.json"


@dataclass(frozen=True)
class PatchStore:
    """Features (B, D, h, w) float32 and masks (B, S, S) uint8 in files of a folder.

    sizes: samples in each file, by its number. cover: pixels (high, wide) that the grid covers; more than S where an
    image was padded.
    """

    folder: Path
    width: int
    sizes: Mapping[int, int]
    cover: tuple[int, int]
    counts: Counts

    @property
    def samples(self) -> int:
        """How many there are in all."""
        return sum(self.sizes.values())

    def piece(self, number: int) -> tuple[Tensor, Tensor]:
        """Read one piece."""
        tensors = load_file(_file_of(self.folder, number))
        return tensors["features"], tensors["masks"]

    def shuffled(self, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Every sample once, in batches: pieces in random order, and samples in random order within each."""
        numbers = list(self.sizes)
        for index in torch.randperm(len(numbers), generator=generator).tolist():
            features, masks = self.piece(numbers[index])
            for chosen in torch.split(torch.randperm(len(features), generator=generator), batch_size):
                yield features[chosen], masks[chosen]

    def steps(self, batch_size: int) -> int:
        """Count the batches of one pass."""
        return sum(-(-size // batch_size) for size in self.sizes.values())


def _file_of(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.safetensors"


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
    # The first process says which folder is meant: digits of another device would name another one.
    mine = cache / f"patches-{_key(tokenizer, data, chosen)}" if data.team.rank == 0 else None
    folder = data.team.gather((mine,))[0][0]
    assert folder is not None
    # Either all processes write or none: one that found the store while another did not would wait for ever.
    if not all(data.team.gather(_is_there(folder, data))):
        _write_together(tokenizer, data, chosen, folder, progress)
    found = read_json(folder / _LIST)
    sizes = {int(number): int(size) for number, size in found["sizes"].items()}
    store = PatchStore(folder, found["width"], sizes, (found["cover"][0], found["cover"][1]), found["counts"])
    if not store.samples:
        raise MuseError(
            f"not one of the {counted(store.counts['seen'], 'sample')} of {data.name} has a mask that labels a pixel",
            hint=MASKS_HINT,
        )
    return store


def _is_there(folder: Path, data: EvalData) -> bool:
    if not (folder / _LIST).is_file():
        return False
    reader = int(read_json(folder / _LIST).get("reader", FIRST_READER))
    return data.team.rank > 0 or not is_stale(data, reader)


def _key(tokenizer: Featurizes, data: EvalData, layer: str | None) -> str:
    what = {
        "behaviour": behaviour(tokenizer, data.size, data.device, (layer,) if layer else ()),
        "layer": layer,
        **inputs(tokenizer, data),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:24]


def _strangers(folder: Path) -> list[str]:
    """List what is in the folder of a store and has no name of a store's file."""
    return [name for name in files_in(folder) if name != _LIST and not re.fullmatch(r"\d{5,}\.safetensors", name)]


def _write_together(tokenizer: Featurizes, data: EvalData, layer: str | None, folder: Path, progress: Progress) -> None:
    """Each process writes the pieces of its turns into the folder of the first, which makes it appear when whole."""
    team = data.team
    with written_aside(folder, _strangers) if team.rank == 0 else nullcontext(folder) as aside:
        shared = team.gather(aside)[0]
        document = _write(tokenizer, replace(data, turn=_PIECE), layer, shared, progress)
        if team.rank == 0:
            write_json(shared / _LIST, document)
    team.gather(None)  # nobody looks for the folder before it is there


def _write(
    tokenizer: Featurizes, data: EvalData, layer: str | None, folder: Path, progress: Progress
) -> dict[str, Any]:
    """Write this process's pieces; return what all of them wrote."""
    tally, sizes, width, cover = Tally(), dict[int, int](), 0, (data.size, data.size)
    batches = read(data, progress, f"patches of {data.name}", tally)
    for number, turn in groupby(batches, lambda batch: data.batch_of(batch.positions[0])[0]):
        kept: list[tuple[Tensor, Tensor]] = []
        for batch in turn:
            found = _with_masks(tokenizer, batch, layer, tally)
            if found is not None:
                width, cover = found[0].shape[1], cover_of(tokenizer, layer, found[0], (data.size, data.size))
                kept.append(found)
        if kept:
            features, masks = (torch.cat(part) for part in zip(*kept, strict=True))
            save_file({"features": features, "masks": masks}, _file_of(folder, number))
            sizes[number] = len(features)
    parts = data.team.gather(sizes)
    whole = {number: size for part in parts for number, size in part.items()}
    width, cover = max(data.team.gather((width, cover)))
    return {
        "width": width,
        "cover": cover,
        "sizes": dict(sorted(whole.items())),
        "counts": tally.counts(),
        "reader": READER,
    }


def _with_masks(tokenizer: Featurizes, batch: Batch, layer: str | None, tally: Tally) -> tuple[Tensor, Tensor] | None:
    """Return features (B, D, h, w) and masks (B, S, S) of what has a mask, on the CPU; None where nothing has."""
    if batch.masks is None:
        tally.skip("no mask", len(batch))
        return None
    known = (batch.masks != UNKNOWN_MASK).flatten(1).any(1)
    tally.skip("no mask", int((~known).sum()))
    if not known.any():
        return None
    with torch.no_grad():
        features = tokenizer.features(batch.images, layer).patch.float()[known].cpu()
    if not torch.isfinite(features).all():
        raise MuseError(f"features of {named(tokenizer)} are not finite", hint="the checkpoint diverged")
    return features.contiguous(), batch.masks[known].cpu()
