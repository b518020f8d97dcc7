"""Originals and reconstructions as PNG files, byte for byte what the metrics saw, for the tools of others.

    FOLDER/original/00000012-NAME.png  FOLDER/reconstruction/00000012-NAME.png  FOLDER/saved.json

Letters: B images, H x W pixels.
"""

import hashlib
import os
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from muse_core.errors import MuseError
from muse_core.evaluation.features import content
from muse_core.evaluation.pairs import Pairs
from muse_core.evaluation.pixels import to_bytes
from muse_core.evaluation.reading import EvalData
from muse_core.evaluation.savedkinds import PAIR, PAIRS, PAIRS_FORMAT, PAIRS_NOTE
from muse_core.files import naming, read_json, write_json
from muse_core.marks import mark_of, with_mark

_SIDES = ("original", "reconstruction")


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
        note = self._folder / PAIRS_NOTE
        if not (note.is_file() and read_json(note) == told):
            PAIRS.refuse(self._folder, overwrite, in_place=True)
            if self._folder.is_dir():
                PAIRS.clear(self._folder)
        write_json(note, told)
        for side in _SIDES:
            (self._folder / side).mkdir(exist_ok=True)

    def update(self, pairs: Pairs) -> None:
        """Write the next pairs; each file is whole or not there.

        Raises:
            MuseError: a file that muse did not write has the name of one.
        """
        for side, images in zip(_SIDES, (pairs.original, pairs.reconstruction), strict=True):
            pixels = images.permute(0, 2, 3, 1).cpu().numpy()
            for key, position, image in zip(pairs.keys, pairs.positions.tolist(), pixels, strict=True):
                name = f"{position:08d}-{re.sub(r'[^A-Za-z0-9._-]', '_', key)[-100:]}.png"
                _write(self._folder / side / name, image)


def _write(path: Path, image: NDArray[np.uint8]) -> None:
    stream, aside = BytesIO(), path.with_name(f".{path.name}.tmp")
    Image.fromarray(image).save(stream, format="png", compress_level=1)
    if os.path.lexists(path) and mark_of(path) != PAIR:
        raise MuseError(f"{path} is in the way, and muse did not write it", hint="move it, or another folder")
    with naming(path):
        aside.write_bytes(with_mark(stream.getvalue(), PAIR))
        aside.replace(path)


def noise_of(data: EvalData) -> Tensor:
    """Two fixed images of noise, (2, 3, S, S) in [0, 1], on the device of the data."""
    draw = torch.Generator().manual_seed(20260509)
    return torch.rand(2, 3, data.size, data.size, generator=draw).to(data.device)


def _told(data: EvalData, noise: Tensor) -> dict[str, Any]:
    """Say what decides about the pictures."""
    digest = hashlib.sha256(to_bytes(noise).cpu().numpy().tobytes()).hexdigest()
    return {
        "format": PAIRS_FORMAT,
        **data.describe(),
        "limit": data.limit,
        "content": content(data),
        "tokenizer": digest,
    }
