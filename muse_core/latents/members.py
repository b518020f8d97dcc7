"""How one image's latents lie in a shard, and how they are read back."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from muse_core.data.decode import BadMemberError, RawSample, read_caption, read_label, read_record
from muse_core.data.sample import UNKNOWN_LABEL, Sample, Skip
from muse_core.data.shards import find_shards, read_shard
from muse_core.errors import MuseError

Format = Literal["safetensors", "npy"]


@dataclass(frozen=True)
class LatentSample:
    """z, flipped: latents (C, h, w) of the image and of its mirror image, as stored; flipped is None without flips.

    size: height and width of the image that was encoded, which `decode` asks for.
    """

    key: str
    z: Tensor
    flipped: Tensor | None
    size: tuple[int, int]
    caption: str = ""
    label: int = UNKNOWN_LABEL


def members_of(sample: Sample, z: Tensor, flipped: Tensor | None, form: Format) -> dict[str, bytes]:
    """The files of one sample: its latents, and the caption and class that came with the image."""
    tensors = {"latents": z} if flipped is None else {"latents": z, "latents_flip": flipped}
    height, width = sample.image.shape[:2]
    record = {"key": sample.key, "height": height, "width": width}
    members = {"json": json.dumps(record, sort_keys=True).encode()}
    if form == "safetensors":
        members["safetensors"] = save({name: value.contiguous() for name, value in tensors.items()})
    else:
        members |= {f"{name}.npy": _npy(value) for name, value in tensors.items()}
    if sample.caption:
        members["txt"] = sample.caption.encode()
    if sample.label != UNKNOWN_LABEL:
        members["cls"] = str(sample.label).encode()
    return members


def read_latents(where: str | Path) -> Iterator[LatentSample]:
    """Read the samples of a folder of latent shards, in order.

    Raises:
        MuseError: there are none, or one is damaged.
    """
    for shard in find_shards(str(where), "train"):
        for item in read_shard(shard):
            if isinstance(item, Skip):
                raise MuseError(f"{item.key}: {item.reason}", hint="muse infer SHARDS --latents OUT --overwrite")
            if item is not None:
                yield _latents_of(item)


def _latents_of(raw: RawSample) -> LatentSample:
    try:
        tensors = _tensors(raw.members)
        record = read_record(raw.members)
        size = (int(record["height"]), int(record["width"]))
        caption, label = read_caption(raw.members, record), read_label(raw.members, record)
        return LatentSample(record["key"], tensors["latents"], tensors.get("latents_flip"), size, caption, label)
    except (KeyError, ValueError, SafetensorError, BadMemberError) as error:
        raise MuseError(f"{raw.key} does not hold latents: {error}") from error


def _tensors(members: Mapping[str, bytes]) -> dict[str, Tensor]:
    if "safetensors" in members:
        return load(members["safetensors"])
    names = [name for name in members if name.endswith(".npy")]
    arrays = {name: np.load(io.BytesIO(members[name]), allow_pickle=False) for name in names}
    return {name.removesuffix(".npy"): torch.from_numpy(array) for name, array in arrays.items()}


def _npy(value: Tensor) -> bytes:
    stream = io.BytesIO()
    np.save(stream, value.numpy(), allow_pickle=False)
    return stream.getvalue()
