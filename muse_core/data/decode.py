"""From the members of one sample to a `Sample`, or to a `Skip` that says what was wrong with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from muse_core.data.sample import UNKNOWN_LABEL, Sample, Skip
from muse_core.errors import BadMemberError as BadMemberError
from muse_core.image_files import SUFFIXES, ImageFile

IMAGE_SUFFIXES = SUFFIXES
CAPTION_SUFFIXES = ("txt", "text", "caption")
MASK_SUFFIX = "seg.png"


@dataclass(frozen=True)
class RawSample:
    """The undecoded members of one sample: suffix without its first dot -> bytes."""

    key: str
    members: Mapping[str, bytes]


@dataclass(frozen=True)
class ShapeFilter:
    """Keeps samples whose recorded size is large enough and not too elongated; unrecorded sizes are kept.

    min_long_side: pixels. max_ratio: longer over shorter side, itself included.
    """

    min_long_side: int = 256
    max_ratio: float = 2.0

    def keeps(self, record: Mapping[str, Any]) -> bool:
        """Whether the size in a sample's json passes; an original size is believed before a stored one."""
        for prefix in ("original_", ""):
            height, width = record.get(f"{prefix}height"), record.get(f"{prefix}width")
            if _is_side(height) and _is_side(width):
                long, short = max(height, width), min(height, width)
                return long >= self.min_long_side and long <= self.max_ratio * short
        return True


def _is_side(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and value > 0


def decode(raw: RawSample, shape_filter: ShapeFilter | None = None) -> Sample | Skip:
    """Decode a sample. Only damage makes it a `Skip`: a missing caption, class or mask does not."""
    try:
        record = read_record(raw.members)
        if shape_filter is not None and not shape_filter.keeps(record):
            return Skip("filtered by shape", raw.key, error=False)
        image = open_image(raw.members)
        pixels, mask = image.pixels(), read_mask(raw.members, image)
        caption, label = read_caption(raw.members, record), read_label(raw.members, record)
        return Sample(raw.key, pixels, caption, label, mask, image.notes)
    except BadMemberError as problem:
        return Skip(str(problem), raw.key)


def read_record(members: Mapping[str, bytes]) -> dict[str, Any]:
    """The json of a sample, empty when there is none."""
    if "json" not in members:
        return {}
    try:
        record = json.loads(members["json"])
    except ValueError as problem:  # of which both a decoding error and a syntax error are kinds
        raise BadMemberError("json cannot be parsed") from problem
    if not isinstance(record, dict):
        raise BadMemberError("json is not an object")
    return record


def read_caption(members: Mapping[str, bytes], record: Mapping[str, Any]) -> str:
    """The first caption that is not empty: .txt, .text, .caption, then json's caption and text."""
    for suffix in CAPTION_SUFFIXES:
        if suffix in members:
            try:
                text = members[suffix].decode("utf-8").strip()
            except UnicodeDecodeError as problem:
                raise BadMemberError("caption is not UTF-8") from problem
            if text:
                return text
    values = (record.get(name) for name in ("caption", "text"))
    return next((value.strip() for value in values if isinstance(value, str) and value.strip()), "")


def read_label(members: Mapping[str, bytes], record: Mapping[str, Any]) -> int:
    """The class index of .cls, else json's label, else `UNKNOWN_LABEL`."""
    value: Any = members.get("cls", record.get("label"))
    if value is None:
        return UNKNOWN_LABEL
    if isinstance(value, bool | float):
        raise BadMemberError("label is not a whole number")
    try:
        return int(value)  # takes bytes as well as str, and white space around the digits
    except (TypeError, ValueError) as problem:
        raise BadMemberError("label is not a whole number") from problem


def open_image(members: Mapping[str, bytes], reason: str = "image cannot be decoded") -> ImageFile:
    """Open the image of a sample; `reason` is what is said where that cannot be done."""
    content = next((members[suffix] for suffix in IMAGE_SUFFIXES if suffix in members), None)
    if content is None:
        raise BadMemberError("no image")
    return ImageFile(content, reason)


def read_mask(members: Mapping[str, bytes], image: ImageFile) -> NDArray[np.uint8] | None:
    """The mask of the upright image as (H, W) uint8 label values, which are never colours: palettes are not applied."""
    if MASK_SUFFIX not in members:
        return None
    return image.upright_mask(ImageFile(members[MASK_SUFFIX], "mask cannot be decoded").labels())
