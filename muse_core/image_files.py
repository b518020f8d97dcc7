"""Image files as all commands see them: upright, in 8-bit RGB, and refused by name where that cannot be told.

What a file's EXIF says of its orientation is applied. 16 and 12 bits keep their upper eight. Transparency is dropped,
and of several frames the first is read; both are noted. Letters: H x W pixels of the upright image.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from muse_core.errors import BadMemberError

READER = 2
"""Version of the rules of this module. Reader 1, of release 0.1.0, turned files in some commands only."""

MAX_PIXELS = 89_478_485
"""An image that claims more is refused before it is unpacked: Pillow's own limit, also when others switch that off."""

SUFFIXES = (
    *("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff"),
    *("ppm", "pgm", "gif", "jp2", "avif", "jfif", "mpo", "tga"),
)
"""How names of image files end, whatever is inside."""

ALPHA = "with transparency, which is dropped: colours that it hid are seen"
FRAMES = "with several frames or pages, of which the first is read"

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_CARRIERS = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")  # where Pillow keeps what has an orientation
_METADATA_CHUNKS = (b"eXIf", b"iTXt", b"zTXt", b"tEXt")
_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_MODES = frozenset(
    (*("1", "L", "P", "PA", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "F"), *_DEEP)
)
_NEW = ("GIF", "AVIF", "JPEG2000", "TGA")  # which reader 1 did not look for in shards
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS, _TIFF_PHOTOMETRIC = 256, 257, 258, 262


class ImageFile:
    """One image file of which no more than the header was read.

    Args:
        content: all of the file; its beginning may do for what the header says.
        reason: what to say when it cannot be read.
        most_pixels: refuse an image that claims more.

    Attributes:
        format: as Pillow calls it. mode: how pixels are stored, as Pillow calls it. stored_size: (width, height) in
        pixels before the image is turned. icc_profile: as it is stored. notes: what reading leaves out: `ALPHA`,
        `FRAMES`.

    Raises:
        BadMemberError: the header cannot be read, or promises more pixels than anybody should unpack.
    """

    def __init__(self, content: bytes, reason: str = "image cannot be decoded", most_pixels: int = MAX_PIXELS) -> None:
        if not content:
            raise BadMemberError(f"{reason}: it is empty")
        self._content, self._reason = content, reason
        with _counted(reason):
            self._image = Image.open(io.BytesIO(content))
        self.format, self.mode = str(self._image.format), self._image.mode
        self._tags: Mapping[int, Any] = getattr(self._image, "tag_v2", {})
        with _counted(reason):
            self.stored_size = self._stored_size()
        if self.stored_size[0] * self.stored_size[1] > most_pixels:
            raise BadMemberError("decompression bomb")
        self._tiff_orientation = _orientation_of(self._image) if self.format == "TIFF" else 1  # loading removes it
        self.icc_profile: bytes | None = self._image.info.get("icc_profile")
        self.notes = self._notes()

    def _stored_size(self) -> tuple[int, int]:
        # The newer Pillow says of a TIFF how large it will be when it is turned.
        width, height = self._image.size
        return int(self._tags.get(_TIFF_WIDTH, width)), int(self._tags.get(_TIFF_HEIGHT, height))

    def _notes(self) -> tuple[str, ...]:
        return (*((ALPHA,) if self._image.has_transparency_data else ()), *((FRAMES,) if self._is_animated() else ()))

    def _is_animated(self) -> bool:
        try:
            return self.format != "MPO" and bool(getattr(self._image, "is_animated", False))  # an MPO adds previews
        except Exception:  # a GIF looks for its second frame, which may be damaged
            return False

    @cached_property
    def orientation(self) -> int:
        """The orientation in its EXIF or XMP, 1 to 8; 1 also where that is damaged or makes no sense."""
        if self.format == "TIFF":
            return self._tiff_orientation
        if self.format == "PNG" and _has_late_metadata(self._content):
            self._load()
        return _orientation_of(self._image)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels of the upright image."""
        width, height = self.stored_size
        return (height, width) if self.orientation >= 5 else (width, height)

    @property
    def unreadable(self) -> str:
        """Why it is refused although it can be unpacked: nobody knows which of its values is white; "" else."""
        if self.mode not in _MODES:
            return f"colours of mode {self.mode} are not read"
        if self.mode == "F":
            return "floating-point pixels are not read: which value is white is not known"
        if self.mode == "I" and self.format not in ("PNG", "PPM"):  # of these Pillow calls 16 bits so
            return "32-bit and signed pixels are not read: which value is white is not known"
        return ""

    @property
    def is_affected(self) -> bool:
        """Whether reader 1 gave other pixels in some command, or pixels where none are given now."""
        new = self.format in _NEW or bool(self.unreadable)
        return new or self.orientation != 1 or self.mode in _DEEP

    def rgb(self) -> Image.Image:
        """Unpack the upright image, 8-bit RGB.

        Raises:
            BadMemberError: it cannot be unpacked, or is `unreadable`.
        """
        if self.unreadable:
            raise BadMemberError(self.unreadable)
        self._load()
        with _counted(self._reason):
            image = self._as_rgb()
            turn = _TURNS.get(_orientation_of(self._image))  # Pillow turns a TIFF itself as it loads it
            return image if turn is None else image.transpose(turn)

    def pixels(self) -> NDArray[np.uint8]:
        """Unpack the upright image as (H, W, 3) uint8.

        Raises:
            BadMemberError: it cannot be unpacked, or is `unreadable`.
        """
        return np.asarray(self.rgb())

    def labels(self) -> NDArray[np.uint8]:
        """Unpack a mask as it is stored, (h, w) uint8 label values: palettes are not applied, nothing is turned.

        Raises:
            BadMemberError: it cannot be unpacked, or has more than one byte per pixel.
        """
        if self.mode not in ("L", "P"):
            raise BadMemberError("mask is not one byte per pixel")
        self._load()
        return np.asarray(self._image)

    def refuse_mask(self, size: tuple[int, int]) -> None:
        """Refuse a mask of a size (width, height).

        Raises:
            BadMemberError: neither the stored nor the upright image has it.
        """
        if size not in (self.stored_size, self.size):
            raise BadMemberError("mask and image differ in size")

    def upright_mask(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the mask (H, W) of the upright image: what has the stored size is turned with it.

        A mask that has only the upright size was drawn on what a viewer shows, and stays.

        Raises:
            BadMemberError: it has neither size.
        """
        size = labels.shape[1], labels.shape[0]
        self.refuse_mask(size)
        turn = _TURNS.get(self.orientation) if size == self.stored_size else None
        return labels if turn is None else np.asarray(Image.fromarray(labels).transpose(turn))

    def _load(self) -> None:
        with _counted(self._reason):
            self._image.load()

    def _as_rgb(self) -> Image.Image:
        image = self._image
        if image.mode == "RGB":
            return image  # converting would copy it all
        if image.mode in _DEEP:
            return Image.fromarray(self._upper_eight_bits()).convert("RGB")
        image.info.pop("transparency", None)  # dropped as a channel is; Pillow would warn
        return (image.convert("LA") if image.mode == "La" else image).convert("RGB")

    def _upper_eight_bits(self) -> NDArray[np.uint8]:
        bits = self._tags.get(_TIFF_BITS, (16,))[0]
        grey: NDArray[np.uint8] = (np.asarray(self._image) >> (bits - 8)).clip(0, 255).astype(np.uint8)
        return ~grey if self._tags.get(_TIFF_PHOTOMETRIC) == 0 else grey  # 0: the smallest value is white


def _orientation_of(image: Image.Image) -> int:
    """Return what EXIF or XMP say, as far as Pillow has read them; 1 where that is nothing, or nothing sensible."""
    if image.format != "TIFF" and image.info.keys().isdisjoint(_CARRIERS):
        return 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF, which is no damage to the image
            value = Image.Image.getexif(image).get(_ORIENTATION, 1)  # a PNG's own would unpack it
        return int(value) if value in _TURNS else 1
    except Exception:  # on damaged EXIF Pillow raises nearly any kind
        return 1


def _has_late_metadata(content: bytes) -> bool:
    """Whether a PNG has text or EXIF behind its pixels, which Pillow knows only when it has unpacked these."""
    place, behind = 8, False
    while place + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, place)
        if behind and kind in _METADATA_CHUNKS:
            return True
        behind = behind or kind == b"IDAT"
        place += size + 12
    return False


@contextmanager
def _counted(reason: str) -> Iterator[None]:
    """Turn whatever Pillow raises into a reason: on damaged bytes its readers raise nearly any kind of error.

    What it warns of is refused here as well, or is damage to what is not read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Image.DecompressionBombError as problem:
        raise BadMemberError("decompression bomb") from problem
    except BadMemberError:
        raise
    except Exception as problem:
        raise BadMemberError(reason) from problem


def noted(counts: Mapping[str, int]) -> list[str]:
    """Say of how many images which notes are true."""
    return [f"{count:,} {'image' if count == 1 else 'images'} {note}" for note, count in counts.items() if count]
