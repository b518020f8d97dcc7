"""One shard looked through: every member read, every picture opened, and with `deep` decoded."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from muse_core.data.decode import (
    IMAGE_SUFFIXES,
    MASK_SUFFIX,
    BadMemberError,
    RawSample,
    decode,
    open_image,
    raw_label,
    read_caption,
    read_label,
    read_record,
)
from muse_core.data.labels import parse_label
from muse_core.data.places import open_place
from muse_core.data.sample import Sample, Skip
from muse_core.data.shards import Shard
from muse_core.data.tars import list_tar, read_tar
from muse_core.image_files import ImageFile
from muse_core.inspection.findings import Findings

FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}


@dataclass
class Look:
    """What was seen in one shard, or in several together."""

    samples: int = 0
    usable: int = 0
    size: int = 0
    fields: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    words: Counter[int] = field(default_factory=Counter)
    captions: Counter[bytes] = field(default_factory=Counter)
    pictures: Counter[bytes] = field(default_factory=Counter)
    labels: Counter[int] = field(default_factory=Counter)
    keys: Counter[bytes] = field(default_factory=Counter)
    notes: Findings = field(default_factory=Findings)
    problems: Findings = field(default_factory=Findings)
    without: dict[str, str] = field(default_factory=dict)

    def merge(self, other: Look) -> None:
        """Add what was seen in another shard, later."""
        self.samples += other.samples
        self.usable += other.usable
        self.size += other.size
        for name in ("fields", "sizes", "formats", "words", "captions", "pictures", "labels", "keys"):
            getattr(self, name).update(getattr(other, name))
        self.notes.merge(other.notes)
        self.problems.merge(other.problems)
        self.without = {**other.without, **self.without}


def look_at(shard: Shard, entry: dict[str, Any] | None, *, deep: bool) -> Look:
    """Look through a shard, and compare it with what its index says."""
    look = Look()
    try:
        with open_place(shard.where) as stream:
            digest = _digest(stream, look)
            _look_inside(stream, shard.name, look, deep)
    except OSError as error:
        look.problems.note(f"shard cannot be read ({type(error).__name__})", shard.where)
        return look
    if entry is not None:
        _compare(shard.name, look, digest, entry)
    return look


def _digest(stream: BinaryIO, look: Look) -> str:
    found = hashlib.sha256()
    while block := stream.read(1 << 20):
        found.update(block)
        look.size += len(block)
    return found.hexdigest()


def _compare(name: str, look: Look, digest: str, entry: dict[str, Any]) -> None:
    for key, here in (("bytes", look.size), ("count", look.samples), ("sha256", digest)):
        said = entry.get(key)
        if said is not None and said != here:
            what = "checksum differs from the index" if key == "sha256" else f"{key} differ from the index"
            look.problems.note(what, name if key == "sha256" else f"{name}: {here}, the index says {said}")


def _look_inside(stream: BinaryIO, name: str, look: Look, deep: bool) -> None:
    listing = list_tar(stream)
    if not listing.ordered:
        look.notes.note("keys are not in rising order", name)
    if listing.others:
        look.notes.note("file belongs to no sample", name, listing.others)
    look.samples = len(listing.entries)
    for item in read_tar(stream, name, lambda number: True, listing):
        if isinstance(item, RawSample):
            look_at_sample(item, look, deep)
        elif isinstance(item, Skip):
            look.problems.note(item.reason, item.example)


def look_at_sample(raw: RawSample, look: Look, deep: bool) -> None:
    """Look at one sample, whose members are read, and add what was seen."""
    look.keys[_short(raw.key.partition("/")[2].encode())] += 1
    try:
        record = read_record(raw.members)
        caption, label = read_caption(raw.members, record), read_label(raw.members, record)
        width, height = _look_at_picture(raw, look)
        if deep:
            decoded = decode(raw)
            if not isinstance(decoded, Sample):
                raise BadMemberError(decoded.reason, decoded.detail)
    except BadMemberError as problem:
        look.problems.note(str(problem), Skip(str(problem), raw.key, detail=problem.detail).example)
        return
    look.usable += 1
    look.sizes[width, height] += 1
    has = {"image": True, "caption": bool(caption), "label": label >= 0, "mask": MASK_SUFFIX in raw.members}
    look.fields.update(name for name, present in has.items() if present)
    for name, present in has.items():
        if not present:
            look.without.setdefault(name, raw.key)
    if caption:
        look.words[len(caption.split())] += 1
        look.captions[_short(caption.encode())] += 1
    if isinstance(parse_label(raw_label(raw.members, record)), str):
        look.notes.note("label is the name of a class, which has no number here", raw.key)
    if label >= 0:
        look.labels[label] += 1


def _look_at_picture(raw: RawSample, look: Look) -> tuple[int, int]:
    image = open_image(raw.members, "image cannot be opened")
    if image.unreadable:
        raise BadMemberError(image.unreadable)
    if MASK_SUFFIX in raw.members:
        image.refuse_mask(ImageFile(raw.members[MASK_SUFFIX], "mask cannot be opened").stored_size)
    look.formats[image.format] += 1
    suffix = next(one for one in IMAGE_SUFFIXES if one in raw.members)
    look.pictures[_short(raw.members[suffix])] += 1
    if FORMATS.get(suffix, image.format) != image.format:
        look.notes.note(f".{suffix} holds {image.format}", raw.key)
    for note in image.notes:
        look.notes.note(f"image {note}", raw.key)
    return image.size


def _short(content: bytes) -> bytes:
    """Eight bytes that stand for any number of them, for counting what is the same."""
    return hashlib.blake2b(content, digest_size=8).digest()
