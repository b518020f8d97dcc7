"""A look at an item before anything is written: can it be stored, and is it wanted?"""

from __future__ import annotations

from contextlib import suppress

from muse_core.data.decode import MASK_SUFFIX, BadMemberError, RawSample, ShapeFilter, decode
from muse_core.data.sample import Skip
from muse_core.data.sharding.items import Item, Looked, Part, Planned
from muse_core.data.sharding.members import (
    check_mask,
    members,
    noted_caption,
    opened,
    own_label,
    part_bytes,
    record_of,
    suffix_for,
)
from muse_core.data.sharding.options import ShardOptions
from muse_core.data.sharding.places import read_range
from muse_core.data.sharding.tar import space_for
from muse_core.image_files import ImageFile

HEADS = (4 * 1024, 64 * 1024)
"""Bytes in which the header of a picture ends, with a thumbnail or without; where it does not, all of it is read."""


def look(item: Item, options: ShardOptions) -> Looked:
    """Read the header of the picture, and everything small; with `verify` decode it as readers will."""
    try:
        image = _header(item.parts["image"], whole=MASK_SUFFIX in item.parts)
        suffix = suffix_for(image, options)
        _, record = record_of(item) or (b"", {})
        width, height = image.stored_size
        if not _shape_filter(options).keeps({**record, "width": width, "height": height}):
            return Looked(reason="filtered by shape")
        caption, notes = noted_caption(item, options.captions, record)
        if options.recipe in ("cc12m", "blip3o") and not caption:
            return Looked(reason="no caption")
        label, bad_label = own_label(item, record)
        if MASK_SUFFIX in item.parts:
            check_mask(part_bytes(item.parts[MASK_SUFFIX]), image)
        if options.verify:
            _decode(item, suffix, options)
    except BadMemberError as problem:
        return Looked(reason=str(problem), error=True)
    space, notes = _space(item, caption), (*image.notes, *notes)
    return Looked(suffix, space, notes=notes, captioned=bool(caption), label=label, bad_label=bad_label)


def _header(part: Part, whole: bool) -> ImageFile:
    """Open an image; `whole`: read all of it, for which way up it is may be said at its end."""
    if part.size < 0:
        raise BadMemberError("file cannot be read")
    for head in HEADS:
        if part.size > head and not whole:
            # The header may be longer; read whole, it says what is really wrong.
            with suppress(BadMemberError, OSError):
                image = opened(read_range(part.path, max(0, part.offset), head))
                if image.format != "GIF":  # whose second frame may begin anywhere
                    return image
    return opened(part_bytes(part))


def _shape_filter(options: ShardOptions) -> ShapeFilter:
    longest = float("inf") if options.max_ratio is None else options.max_ratio
    return ShapeFilter(options.min_long_side or 0, longest)


def _decode(item: Item, suffix: str, options: ShardOptions) -> None:
    found = decode(RawSample(item.name, members(Planned(item, suffix, 0), options)))  # labels are looked at apart
    if isinstance(found, Skip):
        raise BadMemberError(found.reason)


def _space(item: Item, caption: str) -> int:
    own = sum(space_for(part.size) for kind, part in item.parts.items() if kind != "txt")
    return own + (space_for(len(caption.encode())) if caption else 0)
