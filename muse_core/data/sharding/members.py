"""From an item to the members that store it: bytes as they are, or re-encoded on request."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from PIL import Image

from muse_core.data.decode import (
    JSON_CAPTIONS,
    MASK_SUFFIX,
    NOT_TEXT,
    BadMemberError,
    json_caption,
    parse_caption,
    parse_record,
    raw_label,
)
from muse_core.data.labels import BadLabelError, parse_label
from muse_core.data.sample import UNKNOWN_LABEL
from muse_core.data.sharding.items import Item, Part, Planned
from muse_core.data.sharding.options import ShardOptions
from muse_core.data.sharding.places import read_range
from muse_core.image_files import ImageFile

SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "TIFF": "tif", "PPM": "ppm"}
"""Formats stored as they are, by their content: those readers of shards know. An MPO is a jpg and more behind it."""

ENCODERS = {"jpg": ("JPEG", 65_500), "webp": ("WEBP", 16_383), "png": ("PNG", 2**31 - 1)}
"""What writes a suffix, as Pillow calls it, and how many pixels a side can have in that format."""

_LOSSLESS_TARGET = "png"


def part_bytes(part: Part) -> bytes:
    """Read a part whole.

    Raises:
        BadMemberError: it is not there, or no longer as long as it was when it was listed.
    """
    with _reading():
        content = read_range(part.path, max(0, part.offset), None if part.offset < 0 else part.size)
    if len(content) != part.size:
        raise BadMemberError("file changed after it was listed" if part.size >= 0 else "file cannot be read")
    return content


def opened(content: bytes, what: str = "image") -> ImageFile:
    """Read the header of an image or a mask.

    Raises:
        BadMemberError: it has none, or promises more pixels than anybody should unpack.
    """
    if not content:
        raise BadMemberError(f"{what} is empty")
    return ImageFile(content, f"{what} cannot be decoded")


def record_of(item: Item) -> tuple[bytes, dict[str, Any]] | None:
    """The json of an item as bytes and as read, None when it has none.

    Raises:
        BadMemberError: it is not a JSON object.
    """
    if "json" not in item.parts:
        return None
    content = part_bytes(item.parts["json"])
    return content, parse_record(content)


def caption_of(item: Item, captions: str, record: Mapping[str, Any]) -> str:
    """The caption that `captions` asks for, "" when there is none.

    Raises:
        BadMemberError: it is not text.
    """
    return noted_caption(item, captions, record)[0]


def noted_caption(item: Item, captions: str, record: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The caption that `captions` asks for, and what is to be said of it, as `json_caption` has it.

    Raises:
        BadMemberError: what was asked for by the name of its field is not text.
    """
    kind, _, name = captions.partition(":")
    if item.text or kind in ("none", "csv"):
        return item.text, ()
    if kind in ("auto", "txt") and "txt" in item.parts:
        text = parse_caption(part_bytes(item.parts["txt"]))
        if text:
            return text, ()
    if kind == "txt":
        return "", ()
    caption, notes = json_caption(record, JSON_CAPTIONS if kind == "auto" else (name,))
    if kind == "json" and NOT_TEXT in notes:
        raise BadMemberError(f"json's {name} is not text")
    return caption, notes


def without_caption(item: Item, captions: str) -> str:
    """Say what there is in place of a caption that `captions` asks for."""
    if captions == "txt":
        return f"{item.name} has {'an empty' if 'txt' in item.parts else 'no'} txt"
    record = record_of(item)
    return f"{item.name} has " + (
        f"a json with {', '.join(sorted(record[1])[:8]) or 'no field'}" if record else "no json"
    )


def own_label(item: Item, record: Mapping[str, Any]) -> tuple[int | str, str]:
    """The label beside a picture, in .cls or in json's label as readers look for it, and what is wrong with it.

    Raises:
        BadMemberError: the file cannot be read.
    """
    beside = {"cls": part_bytes(item.parts["cls"])} if "cls" in item.parts else {}
    try:
        return parse_label(raw_label(beside, record)), ""
    except BadLabelError as problem:
        return UNKNOWN_LABEL, str(problem)


def _class_member(planned: Planned) -> int | None:
    """What is stored as .cls, None for nothing: what was decided of all items, or the number beside the picture."""
    if planned.label is not None or "cls" not in planned.item.parts:
        return planned.label
    label, bad = own_label(planned.item, {})
    if bad:
        raise BadMemberError(bad)
    return UNKNOWN_LABEL if isinstance(label, str) else label


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
    return stored | texts(planned, options)


def texts(planned: Planned, options: ShardOptions) -> dict[str, bytes]:
    """What is stored of an item beside its image and mask: suffix -> bytes.

    Raises:
        BadMemberError: something of it cannot be read.
    """
    stored, item = dict[str, bytes](), planned.item
    record = record_of(item)
    if record is not None:
        stored["json"] = record[0]
    caption = caption_of(item, options.captions, record[1] if record else {})
    if caption:
        stored["txt"] = caption.encode()
    label = _class_member(planned)
    if label is not None:
        stored["cls"] = str(label).encode()
    return stored


def suffix_for(image: ImageFile, options: ShardOptions) -> str:
    """The suffix under which an image is stored.

    Raises:
        BadMemberError: readers of shards do not know its format or its kind of pixels, or it is larger than the format
            that is asked for can be.
    """
    if image.unreadable:
        raise BadMemberError(image.unreadable)
    own = SUFFIXES.get(image.format)
    if own is None and not options.reencodes:
        raise BadMemberError(f"{image.format} pictures are only stored re-encoded (--format jpg or webp, or --resize)")
    suffix = _target(own, options)
    if options.reencodes and suffix != own:
        _refuse_large(image.stored_size, suffix, options)
    return suffix


def _target(own: str | None, options: ShardOptions) -> str:
    if options.format != "keep":
        return options.format
    if own is None or (options.resize is not None and own not in ("jpg", "webp")):
        return _LOSSLESS_TARGET
    return own


def _refuse_large(size: tuple[int, int], suffix: str, options: ShardOptions) -> None:
    longest = max(_resized(size, options))
    kind, limit = ENCODERS[suffix]
    if longest > limit:
        raise BadMemberError(f"longer side has {longest:,} pixels, and {kind} holds at most {limit:,}")


def reencoded(image: bytes, mask: bytes | None, suffix: str, options: ShardOptions) -> tuple[bytes, bytes | None]:
    """An image upright, its shorter side at most `resize`, in the format of `suffix`; its mask with it.

    What already is small enough, upright and of that format stays as it is. What is written has no EXIF, so that
    nobody turns it again.
    """
    file = opened(image)
    size = _resized(file.size, options)
    if SUFFIXES.get(file.format) == suffix and size == file.size and file.orientation == 1:
        return image, mask
    picture = file.rgb()
    labels = None if mask is None else Image.fromarray(file.upright_mask(opened(mask, "mask").labels()))
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        labels = labels.resize(size, Image.Resampling.NEAREST) if labels else None
    # A profile of grey or of four inks would be wrong for what is written.
    colour = file.icc_profile if file.mode in ("RGB", "RGBA") else None
    quality = {} if suffix == _LOSSLESS_TARGET else {"quality": options.quality}
    return _encoded(picture, suffix, icc_profile=colour, **quality), _encoded(labels, "png") if labels else None


def check_mask(content: bytes, image: ImageFile) -> None:
    """Refuse a mask that readers would refuse.

    Raises:
        BadMemberError: it is not a png of one byte per pixel, or of no size that its image has, stored or upright.
    """
    mask = opened(content, "mask")
    if mask.format != "PNG":
        raise BadMemberError("mask is not a png")
    if mask.mode not in ("L", "P"):
        raise BadMemberError("mask is not one byte per pixel")
    image.refuse_mask(mask.stored_size)


def _resized(size: tuple[int, int], options: ShardOptions) -> tuple[int, int]:
    """Return the size at which an image is stored: its shorter side is shrunk to what is asked for, never enlarged."""
    shorter = options.resize
    if shorter is None or min(size) <= shorter:
        return size
    width, height = size
    return max(1, round(width * shorter / min(size))), max(1, round(height * shorter / min(size)))


def _encoded(picture: Image.Image, suffix: str, **how: Any) -> bytes:
    kind, _ = ENCODERS[suffix]
    stream = io.BytesIO()
    picture.info.clear()  # nothing of the file but its pixels
    try:
        picture.save(stream, kind, **how)
    except (OSError, ValueError) as problem:
        raise BadMemberError(f"image cannot be stored as {suffix}") from problem
    return stream.getvalue()


@contextmanager
def _reading() -> Iterator[None]:
    """Turn whatever reading a file raises into a reason."""
    try:
        yield
    except BadMemberError:
        raise
    except Exception as problem:
        raise BadMemberError("file cannot be read") from problem
