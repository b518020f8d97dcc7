"""From the members of one sample to a `Sample`, or to a `Skip` that says what was wrong with them."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from muse_core.data.sample import UNKNOWN_LABEL, Sample, Skip

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "ppm")
CAPTION_SUFFIXES = ("txt", "text", "caption")
MASK_SUFFIX = "seg.png"

MAX_PIXELS = 89_478_485
"""A picture that claims more is refused before it is unpacked: Pillow's own limit, also when others switch that off."""


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


class BadMemberError(Exception):
    """A member of a sample that cannot be used; its text is the reason that is counted."""


def decode(raw: RawSample, shape_filter: ShapeFilter | None = None) -> Sample | Skip:
    """Decode a sample. Only damage makes it a `Skip`: a missing caption, class or mask does not."""
    try:
        record = read_record(raw.members)
        if shape_filter is not None and not shape_filter.keeps(record):
            return Skip("filtered by shape", raw.key, error=False)
        image, mask = read_image(raw.members), read_mask(raw.members)
        if mask is not None and mask.shape != image.shape[:2]:
            raise BadMemberError("mask and image differ in size")
        return Sample(raw.key, image, read_caption(raw.members, record), read_label(raw.members, record), mask)
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


def read_image(members: Mapping[str, bytes]) -> NDArray[np.uint8]:
    """The picture as (H, W, 3) uint8 RGB."""
    content = next((members[suffix] for suffix in IMAGE_SUFFIXES if suffix in members), None)
    if content is None:
        raise BadMemberError("no image")
    reason = "image cannot be decoded"
    with _opened(content, reason) as image, _counted(reason):
        if image.mode.startswith("I"):  # 16 bits, which Pillow would clip rather than scale
            grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))  # converting would copy it all


def read_mask(members: Mapping[str, bytes]) -> NDArray[np.uint8] | None:
    """The mask as (H, W) uint8 label values, which are never colours: palettes are not applied."""
    if MASK_SUFFIX not in members:
        return None
    with _opened(members[MASK_SUFFIX], "mask cannot be decoded") as image:
        if image.mode not in ("L", "P"):
            raise BadMemberError("mask is not one byte per pixel")
        return np.asarray(image)


def open_header(content: bytes, reason: str) -> Image.Image:
    """A picture of which no more than the header was read, and whose size is no bomb.

    Raises:
        BadMemberError: with `reason`, or what is wrong beyond that.
    """
    if not content:
        raise BadMemberError(f"{reason}: it is empty")
    with _counted(reason), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # counted below instead
        image = Image.open(io.BytesIO(content))
    if image.width * image.height > MAX_PIXELS:
        raise BadMemberError("decompression bomb")
    return image


def _opened(content: bytes, reason: str) -> Image.Image:
    """A fully read picture, whose size is checked before it is unpacked."""
    image = open_header(content, reason)
    with _counted(reason):
        image.load()
    return image


@contextmanager
def _counted(reason: str) -> Iterator[None]:
    """Turn whatever Pillow raises into a reason: on damaged bytes its readers raise nearly any kind of error."""
    try:
        yield
    except Image.DecompressionBombError as problem:
        raise BadMemberError("decompression bomb") from problem
    except Exception as problem:
        raise BadMemberError(reason) from problem
