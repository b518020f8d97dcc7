"""From the members of one sample to a `Sample`, or to a `Skip` that says what was wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from muse_core.data.labels import BadLabelError, parse_label
from muse_core.data.sample import UNKNOWN_LABEL, Sample, Skip
from muse_core.errors import BadMemberError as BadMemberError
from muse_core.image_files import SUFFIXES, ImageFile
from muse_core.text_files import NotTextError, text_of

IMAGE_SUFFIXES = SUFFIXES
CAPTION_SUFFIXES = ("txt", "text", "caption")
JSON_CAPTIONS = ("caption", "text")
MASK_SUFFIX = "seg.png"
SEVERAL = "with several captions in json, of which the first is taken"
NOT_TEXT = "whose caption in json is not text, and is left out"


@dataclass(frozen=True)
class RawSample:
    """The undecoded members of one sample: suffix without its first dot -> bytes.

    renumber: makes its numbers those of all folders that it is read with, where these number their classes differently.
    """

    key: str
    members: Mapping[str, bytes]
    renumber: Callable[[Sample | Skip], Sample | Skip] | None = None


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
        caption, notes = noted_caption(raw.members, record)
        label = read_label(raw.members, record)
        return Sample(raw.key, pixels, caption, label, mask, (*image.notes, *notes))
    except BadMemberError as problem:
        return Skip(str(problem), raw.key, detail=problem.detail)


def read_record(members: Mapping[str, bytes]) -> dict[str, Any]:
    """The json of a sample, empty when there is none."""
    return parse_record(members["json"]) if "json" in members else {}


def parse_record(content: bytes) -> dict[str, Any]:
    """Read the json of a sample; its encoding is detected, as the format allows several.

    Raises:
        BadMemberError: it is not a JSON object.
    """
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as problem:  # a decoding error and a syntax error are kinds of the former
        raise BadMemberError("json cannot be parsed") from problem
    if not isinstance(record, dict):
        raise BadMemberError("json is not an object")
    return record


def read_caption(members: Mapping[str, bytes], record: Mapping[str, Any]) -> str:
    """The first caption that is not empty: .txt, .text, .caption, then json's caption and text."""
    return noted_caption(members, record)[0]


def noted_caption(members: Mapping[str, bytes], record: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The caption of a sample, and what is to be said of it: `SEVERAL` or `NOT_TEXT`."""
    for suffix in CAPTION_SUFFIXES:
        if suffix in members:
            text = parse_caption(members[suffix])
            if text:
                return text, ()
    return json_caption(record)


def json_caption(record: Mapping[str, Any], fields: Sequence[str] = JSON_CAPTIONS) -> tuple[str, tuple[str, ...]]:
    """The first caption in some fields of a json, and what is to be said of it.

    A list of texts is several captions, of which the first that is not empty counts.

    Raises:
        BadMemberError: it is no text that can be encoded.
    """
    others = False
    for field in fields:
        value = record.get(field)
        texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        if value is not None and not (isinstance(value, str | list) and all(isinstance(one, str) for one in texts)):
            others = True
            continue
        given = [one for one in texts if one.strip()]
        if given:
            return parse_caption(given[0]), (SEVERAL,) if len(given) > 1 else ()
    return "", (NOT_TEXT,) if others else ()


def parse_caption(value: bytes | str) -> str:
    """Return the caption in a file, or in a field of json, without white space around it.

    Raises:
        BadMemberError: it is not text.
    """
    try:
        # A string of json can spell half of a surrogate pair, which no encoding holds.
        return text_of(value.encode() if isinstance(value, str) else value).strip()
    except NotTextError as problem:
        raise BadMemberError(f"caption is {problem}") from problem
    except UnicodeEncodeError as problem:
        raise BadMemberError("caption is not UTF-8 (half of a surrogate pair)") from problem


def read_label(members: Mapping[str, bytes], record: Mapping[str, Any]) -> int:
    """The class index of .cls, else json's label, else `UNKNOWN_LABEL`; a name alone is the index of no class."""
    try:
        label = parse_label(raw_label(members, record))
    except BadLabelError as problem:
        raise BadMemberError(str(problem)) from problem
    return label if isinstance(label, int) else UNKNOWN_LABEL


def raw_label(members: Mapping[str, Any], record: Mapping[str, Any]) -> Any:
    """Return the label of a sample as it is spelled, None when it has none."""
    return members.get("cls", record.get("label"))


def open_image(members: Mapping[str, bytes], reason: str = "image cannot be decoded") -> ImageFile:
    """Open the image of a sample; `reason` is what is said where that cannot be done."""
    content = next((members[suffix] for suffix in IMAGE_SUFFIXES if suffix in members), None)
    if content is None:
        raise no_image(members)
    return ImageFile(content, reason)


def no_image(members: Iterable[str]) -> BadMemberError:
    """Return the reason of a sample in which none of the members, given by their suffixes, is an image."""
    dotted = any("." in suffix and suffix != MASK_SUFFIX for suffix in members)
    cut = "; names are cut at the first dot" if dotted else ""
    return BadMemberError("no image", f"has only {' and '.join(sorted(members)) or 'nothing'}{cut}")


def read_mask(members: Mapping[str, bytes], image: ImageFile) -> NDArray[np.uint8] | None:
    """The mask of the upright image as (H, W) uint8 label values, which are never colours: palettes are not applied."""
    if MASK_SUFFIX not in members:
        return None
    return image.upright_mask(ImageFile(members[MASK_SUFFIX], "mask cannot be decoded").labels())
