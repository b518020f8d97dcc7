"""Originals and reconstructions as PNG files, byte for byte what the metrics saw, for the tools of others.

    FOLDER/original/00000012-NAME.png  FOLDER/reconstruction/00000012-NAME.png  FOLDER/saved.json

Letters: B images, H x W pixels.
"""

import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from muse_core.errors import MuseError
from muse_core.evaluation.features import content
from muse_core.evaluation.pairs import Pairs
from muse_core.evaluation.pixels import to_bytes
from muse_core.evaluation.reading import EvalData
from muse_core.files import contents, read_json, write_json

_SIDES = ("original", "reconstruction")
_NOTE = "saved.json"


class SavedPairs:
    """Writes pairs into a folder; an interrupted evaluation of the same reconstructions may write into it again.

    Args:
        folder: made if need be.
        data: what is read.
        noise: reconstruction of `noise_of`, (B, 3, H, W) in [0, 1]: it tells this tokenizer from any other.
        overwrite: throw away what another evaluation has saved there.

    Raises:
        MuseError: the folder holds something else.
    """

    def __init__(self, folder: Path, data: EvalData, noise: Tensor, overwrite: bool = False) -> None:
        self._folder = folder
        if data.team.rank == 0:
            self._prepare(_told(data, noise), overwrite)
        data.team.gather(None)  # nobody writes before the folder is ready

    def _prepare(self, told: dict[str, Any], overwrite: bool) -> None:
        note = self._folder / _NOTE
        there = contents(self._folder) if self._folder.is_dir() else []
        if there and not (note.is_file() and read_json(note) == told):
            if not overwrite or any(entry.name not in (*_SIDES, _NOTE) for entry in there):
                what = "other pictures" if note.is_file() else "files that are no saved pictures"
                raise MuseError(f"{self._folder} holds {what}", hint="another folder, or --overwrite for pictures")
            for side in _SIDES:
                shutil.rmtree(self._folder / side, ignore_errors=True)
        write_json(note, told)
        for side in _SIDES:
            (self._folder / side).mkdir(exist_ok=True)

    def update(self, pairs: Pairs) -> None:
        """Write the next pairs; each file is whole or not there."""
        for side, images in zip(_SIDES, (pairs.original, pairs.reconstruction), strict=True):
            pixels = images.permute(0, 2, 3, 1).cpu().numpy()
            for key, position, image in zip(pairs.keys, pairs.positions.tolist(), pixels, strict=True):
                name = f"{position:08d}-{re.sub(r'[^A-Za-z0-9._-]', '_', key)[-100:]}.png"
                aside = self._folder / side / f".{name}.tmp"
                Image.fromarray(image).save(aside, format="png", compress_level=1)
                aside.replace(self._folder / side / name)


def noise_of(data: EvalData) -> Tensor:
    """Two fixed images of noise, (2, 3, S, S) in [0, 1], on the device of the data."""
    draw = torch.Generator().manual_seed(20260509)
    return torch.rand(2, 3, data.size, data.size, generator=draw).to(data.device)


def _told(data: EvalData, noise: Tensor) -> dict[str, Any]:
    """Say what decides about the pictures."""
    digest = hashlib.sha256(to_bytes(noise).cpu().numpy().tobytes()).hexdigest()
    return {**data.describe(), "limit": data.limit, "content": content(data), "tokenizer": digest}
