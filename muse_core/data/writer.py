"""Samples to WebDataset tars: the same samples always give the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from muse_core.data.owned import SHARDS
from muse_core.data.sample import Sample
from muse_core.data.scenes import CLASSES, Scene, scene_at
from muse_core.data.shards import INDEX_NAME
from muse_core.errors import MuseError
from muse_core.files import written_aside
from muse_core.json_text import json_text

FORMAT = "muse-shards/1"

Members = Mapping[str, bytes | str]


@dataclass(frozen=True)
class ShardEntry:
    """One written tar."""

    name: str
    count: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardReport:
    """What was written: also the contents of index.json."""

    folder: Path
    shards: tuple[ShardEntry, ...]
    fields: tuple[str, ...]
    classes: tuple[str, ...]
    settings: dict[str, Any]

    @property
    def count(self) -> int:
        """Samples in all shards."""
        return sum(shard.count for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Size of all shards."""
        return sum(shard.bytes for shard in self.shards)

    def as_index(self) -> dict[str, Any]:
        """What index.json holds; nothing in it depends on where or when it was written."""
        return {
            "format": FORMAT,
            "count": self.count,
            "fields": list(self.fields),
            "classes": list(self.classes),
            "settings": self.settings,
            "shards": [asdict(shard) for shard in self.shards],
        }


def write_shards(
    samples: Iterable[Sample | Members],
    out: Path,
    *,
    per_shard: int = 1000,
    classes: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> ShardReport:
    """Write samples to `out` as 000000.tar, 000001.tar, ... and index.json; nothing appears before all is written.

    Args:
        samples: each a `Sample`, or its members as they shall be stored: suffix -> bytes or text.
        out: a folder that is absent or empty, unless `overwrite`.
        per_shard: samples in each tar but the last.
        classes: names of the class indices, in order.
        settings: how the samples were made, kept in the index.
        overwrite: replace shards that are there, and nothing else.

    Raises:
        MuseError: there are no samples, or `out` is in the way.
    """
    if per_shard < 1:
        raise MuseError(f"a shard cannot hold {per_shard} samples", hint="per_shard=1000")
    SHARDS.refuse(out, overwrite)
    with written_aside(out, SHARDS.in_the_way(overwrite)) as aside:
        fields: set[str] = set()
        entries = tuple(_write_all(iter(samples), aside, per_shard, fields))
        if not entries:
            raise MuseError(f"there are no samples to write to {out}")
        report = ShardReport(out, entries, tuple(sorted(fields)), tuple(classes), dict(settings or {}))
        text = json_text(report.as_index(), sort_keys=True)
        (aside / INDEX_NAME).write_text(text + "\n", encoding="utf-8")
    return report


def write_scene_shards(
    split: str, count: int, out: Path, *, per_shard: int = 1000, size: int = 64, overwrite: bool = False
) -> ShardReport:
    """Write the first `count` built-in scenes of a split."""
    return write_shards(
        (_scene_members(scene_at(split, index, size)) for index in range(count)),
        out,
        per_shard=per_shard,
        classes=[one.name for one in CLASSES],
        settings={"source": f"demo:{split}", "size": size},
        overwrite=overwrite,
    )


def _write_all(
    samples: Iterator[Sample | Members], folder: Path, per_shard: int, fields: set[str]
) -> Iterator[ShardEntry]:
    written = 0
    while batch := [members_of(sample) for sample in islice(samples, per_shard)]:
        name = f"{written // per_shard:06d}.tar"
        content = pack(batch, first=written)
        (folder / name).write_bytes(content)
        yield ShardEntry(name, len(batch), len(content), hashlib.sha256(content).hexdigest())
        fields.update(suffix for members in batch for suffix in members)
        written += len(batch)


def pack(batch: Sequence[Members], *, first: int = 0) -> bytes:
    """One tar of samples numbered from `first`: members sorted by suffix, without owner or time."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number, members in enumerate(batch, start=first):
            for suffix in sorted(members):
                value = members[suffix]
                content = value.encode("utf-8") if isinstance(value, str) else value
                entry = tarfile.TarInfo(f"{number:08d}.{suffix}")
                entry.size, entry.mode, entry.mtime = len(content), 0o644, 0
                tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def members_of(sample: Sample | Members) -> Members:
    """The members that store a sample: png, txt, cls, seg.png, as far as it has them."""
    if not isinstance(sample, Sample):
        return {suffix: value for suffix, value in sample.items() if not suffix.startswith("__")}
    members: dict[str, bytes | str] = {"png": png_bytes(sample.image)}
    if sample.caption:
        members["txt"] = sample.caption
    if sample.label >= 0:
        members["cls"] = str(sample.label)
    if sample.mask is not None:
        members["seg.png"] = png_bytes(sample.mask)
    return members


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """A (H, W) or (H, W, 3) picture as png."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=6)
    return stream.getvalue()


def _scene_members(scene: Scene) -> Members:
    record = {
        "background": [scene.colour, scene.texture],
        "objects": [
            {"class": CLASSES[one.class_index].name, "designer": one.designer, "box": list(one.box)}
            for one in scene.objects
        ],
    }
    members = members_of(Sample("", scene.image, scene.caption, scene.label, scene.class_mask()))
    return {**members, "json": json.dumps(record, sort_keys=True)}
