"""From an item to the members that store it: bytes as they are, or re-encoded on request."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from muse_core.data.decode import MASK_SUFFIX, MAX_PIXELS, BadMemberError
from muse_core.data.sharding.items import Item, Part, Planned
from muse_core.data.sharding.options import ShardOptions
from muse_core.data.sharding.places import read_range

SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "TIFF": "tif", "PPM": "ppm"}
"""Formats stored as they are, by their content: those readers of shards know. An MPO is a jpg and more behind it."""

_LOSSLESS_TARGET = "png"


@dataclass(frozen=True)
class Shape:
    """What the header of a picture says. format: as Pillow calls it; width, height: pixels as stored."""

    format: str
    width: int
    height: int
    mode: str


def part_bytes(part: Part) -> bytes:
    """Read a part whole.

    Raises:
        BadMemberError: it is not there, or no longer as long as it was when it was listed.
    """
    with _reading("file"):
        content = read_range(part.path, max(0, part.offset), None if part.offset < 0 else part.size)
    if len(content) != part.size:
        raise BadMemberError("file changed while it was being sharded" if part.size >= 0 else "file cannot be read")
    return content


def shape_of(content: bytes, what: str = "image") -> Shape:
    """Read a picture's header.

    Raises:
        BadMemberError: it has none, or promises more pixels than anybody should unpack.
    """
    with _opened(content, what) as image:
        return Shape(str(image.format), image.width, image.height, image.mode)


def record_of(item: Item) -> tuple[bytes, dict[str, Any]] | None:
    """The json of an item as bytes and as read, None when it has none.

    Raises:
        BadMemberError: it is not a JSON object.
    """
    if "json" not in item.parts:
        return None
    content = part_bytes(item.parts["json"])
    try:
        record = json.loads(content)
    except ValueError as problem:
        raise BadMemberError("json cannot be parsed") from problem
    if not isinstance(record, dict):
        raise BadMemberError("json is not an object")
    return content, record


def caption_of(item: Item, captions: str, record: Mapping[str, Any]) -> str:
    """The caption that `captions` asks for, "" when there is none.

    Raises:
        BadMemberError: it is not text.
    """
    kind, _, name = captions.partition(":")
    if item.text or kind in ("none", "csv"):
        return item.text
    if kind in ("auto", "txt") and "txt" in item.parts:
        try:
            text = part_bytes(item.parts["txt"]).decode("utf-8-sig").strip()
        except UnicodeDecodeError as problem:
            raise BadMemberError("caption is not UTF-8") from problem
        if text:
            return text
    for field in {"auto": ("caption", "text"), "json": (name,)}.get(kind, ()):
        value = record.get(field)
        if isinstance(value, str) and value.strip():
            return _checked(value.strip())
        if kind == "json" and value is not None and not isinstance(value, str):
            raise BadMemberError(f"json's {field} is not text")
    return ""


def label_of(item: Item) -> int | None:
    """The number in the .cls beside a picture.

    Raises:
        BadMemberError: it is not a whole number.
    """
    if "cls" not in item.parts:
        return None
    try:
        return int(part_bytes(item.parts["cls"]))
    except ValueError as problem:
        raise BadMemberError("label is not a whole number") from problem


def members(planned: Planned, options: ShardOptions) -> dict[str, bytes]:
    """Everything that is stored of an item: suffix -> bytes.

    Raises:
        BadMemberError: something of it cannot be read, or not be unpacked where that is asked for.
    """
    item = planned.item
    image = part_bytes(item.parts["image"])
    mask = part_bytes(item.parts[MASK_SUFFIX]) if MASK_SUFFIX in item.parts else None
    if options.reencodes:
        image, mask = reencoded(image, mask, planned.suffix, options)
    stored = {planned.suffix: image}
    if mask is not None:
        stored[MASK_SUFFIX] = mask
    record = record_of(item)
    if record is not None:
        stored["json"] = record[0]
    caption = caption_of(item, options.captions, record[1] if record else {})
    if caption:
        stored["txt"] = caption.encode()
    label = planned.label if planned.label >= 0 else label_of(item)
    if label is not None:
        stored["cls"] = str(label).encode()
    return stored


def suffix_for(shape: Shape, options: ShardOptions) -> str:
    """The suffix under which a picture is stored.

    Raises:
        BadMemberError: readers of shards do not know its format, and it is not to be re-encoded.
    """
    if options.format != "keep":
        return options.format
    own = SUFFIXES.get(shape.format)
    if own is None:
        raise BadMemberError(f"{shape.format} pictures are only stored re-encoded (--format jpg or webp)")
    return own if options.resize is None or own in ("jpg", "webp") else _LOSSLESS_TARGET


def reencoded(image: bytes, mask: bytes | None, suffix: str, options: ShardOptions) -> tuple[bytes, bytes | None]:
    """A picture upright, its shorter side at most `resize`, in the format of `suffix`; its mask with it.

    What already is small enough, upright and of that format stays as it is.
    """
    with _opened(image, "image") as opened, _reading("image"):
        own = SUFFIXES.get(str(opened.format))
        small = options.resize is None or min(opened.size) <= options.resize
        if own == suffix and small and opened.getexif().get(0x0112, 1) == 1:
            return image, mask
        # A profile of grey or of four inks would be wrong for what is written.
        colour = opened.info.get("icc_profile") if opened.mode in ("RGB", "RGBA") else None
        picture = ImageOps.exif_transpose(as_rgb(opened))
    labels = _labels(mask, picture.size) if mask is not None else None
    if not small and options.resize is not None:
        size = _scaled(picture.size, options.resize)
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        labels = labels.resize(size, Image.Resampling.NEAREST) if labels else None
    quality = {} if suffix == _LOSSLESS_TARGET else {"quality": options.quality}
    kind = {"jpg": "JPEG", "webp": "WEBP", _LOSSLESS_TARGET: "PNG"}[suffix]
    return _encoded(picture, kind, icc_profile=colour, **quality), _encoded(labels, "PNG") if labels else None


def as_rgb(image: Image.Image) -> Image.Image:
    """A picture as 8-bit RGB, as readers of shards see it; 16 bits are scaled rather than clipped."""
    if not image.mode.startswith("I"):
        return image.convert("RGB")
    grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def check_mask(content: bytes, shape: Shape) -> None:
    """Refuse a mask that readers would refuse.

    Raises:
        BadMemberError: it is not a png of one byte per pixel, or not of its picture's size.
    """
    mask = shape_of(content, "mask")
    if mask.format != "PNG":
        raise BadMemberError("mask is not a png")
    if mask.mode not in ("L", "P"):
        raise BadMemberError("mask is not one byte per pixel")
    if (mask.width, mask.height) != (shape.width, shape.height):
        raise BadMemberError("mask and image differ in size")


def _checked(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as problem:  # half of a surrogate pair, which JSON can spell
        raise BadMemberError("caption is not UTF-8") from problem
    return text


def _labels(content: bytes, size: tuple[int, int]) -> Image.Image:
    with _opened(content, "mask") as opened, _reading("mask"):
        labels = Image.fromarray(np.asarray(opened))  # label values: a palette is not applied
    if labels.size != size:
        raise BadMemberError("mask and image differ in size")
    return labels


def _scaled(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    width, height = size
    return max(1, round(width * shorter / min(size))), max(1, round(height * shorter / min(size)))


def _encoded(picture: Image.Image, kind: str, **how: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **how)
    return stream.getvalue()


def _opened(content: bytes, what: str) -> Image.Image:
    if not content:
        raise BadMemberError(f"{what} is empty")
    with _reading(what), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below instead
        image = Image.open(io.BytesIO(content))
    if image.width * image.height > MAX_PIXELS:
        raise BadMemberError("decompression bomb")
    return image


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turn whatever reading raises into a reason: on damaged bytes Pillow's readers raise nearly any kind of error."""
    try:
        yield
    except BadMemberError:
        raise
    except Image.DecompressionBombError as problem:
        raise BadMemberError("decompression bomb") from problem
    except Exception as problem:
        raise BadMemberError(f"{what} cannot be {'read' if what == 'file' else 'decoded'}") from problem
