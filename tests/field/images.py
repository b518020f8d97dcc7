"""Odd image files, each with the pixels that everybody shall see."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from tests.field.inputs import Pixels, coded, turned

SIDE = 64

TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}
"""What each EXIF orientation asks a viewer to do with the stored pixels, in numpy rather than in Pillow."""

LOSSLESS: dict[str, dict[str, Any]] = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}
SUFFIX = {"PNG": "png", "WEBP": "webp", "TIFF": "tif", "JPEG": "jpg", "GIF": "gif"}


@dataclass(frozen=True)
class Odd:
    """A file, and what is seen. stored: whether `muse shard` stores its bytes rather than refusing them."""

    name: str
    content: bytes
    pixels: Pixels
    stored: bool = True


def uneven(number: int = 0, side: int = SIDE) -> Pixels:
    """Pixels that no turn leaves as they are; smooth, so that lossy formats change little."""
    down, across = np.mgrid[:side, :side] * 255 // side
    return np.stack([down, across, np.full_like(down, 40 * number % 256)], axis=-1).astype(np.uint8)


def saved(image: Image.Image, kind: str, **how: Any) -> bytes:
    """The bytes of an image."""
    stream = io.BytesIO()
    image.save(stream, kind, **how)
    return stream.getvalue()


def shown(content: bytes) -> Pixels:
    """What a viewer shows of a plain file, for formats that change pixels as they are written."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def lying(kind: str, orientation: int, number: int = 0) -> Odd:
    """A file whose EXIF turns it."""
    pixels = uneven(number)
    content = coded(pixels, kind, exif=turned(orientation), **LOSSLESS.get(kind, {}))
    seen = shown(coded(pixels, kind, **LOSSLESS.get(kind, {})))
    return Odd(f"{kind}-{orientation}.{SUFFIX[kind]}", content, TURNS[orientation](seen))


def deep() -> Iterator[Odd]:
    """16 bits, of which the upper eight are seen."""
    values = (uneven()[..., 0].astype(np.uint16) << 8) + np.arange(SIDE, dtype=np.uint16)  # less than 256 is added
    grey = np.repeat(uneven()[..., :1], 3, axis=2)
    yield Odd("deep.png", saved(Image.fromarray(values), "PNG"), grey)
    yield Odd("deep.tif", saved(Image.fromarray(values), "TIFF"), grey)
    yield Odd("deep-packed.tif", saved(Image.fromarray(values), "TIFF", compression="tiff_lzw"), grey)
    yield Odd("deep-big.tif", tiff(values.astype(">u2").tobytes(), big=True), grey)
    yield Odd("deep-inverted.tif", tiff((65535 - values).astype("<u2").tobytes(), photometric=0), grey)
    yield Odd("deep.pgm", b"P5 64 64 65535\n" + values.astype(">u2").tobytes(), grey)
    colours = uneven()
    wide = (colours.astype(np.uint16) << 8) + 77
    yield Odd("deep-colour.png", png(wide.astype(">u2").tobytes(), 3 * 2 * SIDE), colours)
    yield Odd("deep-colour.tif", tiff(wide.astype("<u2").tobytes(), photometric=2, channels=3), colours)


def channels() -> Iterator[Odd]:
    """Other modes than RGB: transparency is dropped, palettes are applied."""
    pixels = uneven(1)
    image = Image.fromarray(pixels)
    alpha = Image.fromarray(pixels[..., 1])
    grey = np.repeat(pixels[..., :1], 3, axis=2)
    image_alpha = Image.merge("RGBA", (*image.split(), alpha))
    yield Odd("rgba.png", saved(image_alpha, "PNG"), pixels)
    yield Odd("rgba.webp", saved(image_alpha, "WEBP", lossless=True, exact=True), pixels)
    yield Odd("rgba.tif", saved(image_alpha, "TIFF"), pixels)
    yield Odd("la.png", saved(Image.merge("LA", (Image.fromarray(pixels[..., 0]), alpha)), "PNG"), grey)
    yield Odd("one-colour-clear.png", saved(image, "PNG", transparency=(0, 0, 40)), pixels)
    few = image.quantize(16)
    yield Odd("palette.png", saved(few, "PNG"), np.asarray(few.convert("RGB")))
    yield Odd("palette-clear.png", saved(few, "PNG", transparency=bytes(range(16))), np.asarray(few.convert("RGB")))
    bits = pixels[..., 0] > 99
    yield Odd("bits.png", saved(Image.fromarray(bits), "PNG"), np.repeat(bits[..., None] * np.uint8(255), 3, axis=2))
    inks = saved(image.convert("CMYK"), "JPEG", quality=95)
    yield Odd("inks.jpg", inks, shown(inks))


def moving() -> Iterator[Odd]:
    """Several frames or pages, of which the first is seen."""
    first, second = (Image.fromarray(uneven(number)) for number in (2, 3))
    more: dict[str, Any] = {"save_all": True, "append_images": [second]}
    yield Odd("moving.png", saved(first, "PNG", **more), uneven(2))
    yield Odd("moving.webp", saved(first, "WEBP", lossless=True, **more), uneven(2))
    yield Odd("pages.tif", saved(first, "TIFF", **more), uneven(2))
    colours = first.quantize(64)
    gif = saved(colours, "GIF", save_all=True, append_images=[second.quantize(64)])
    yield Odd("moving.gif", gif, np.asarray(colours.convert("RGB")), stored=False)


def odd() -> list[Odd]:
    """All of them."""
    lain = [lying(kind, orientation) for kind in (*LOSSLESS, "JPEG") for orientation in TURNS]
    return [*lain, *deep(), *channels(), *moving()]


def unknown_white() -> dict[str, bytes]:
    """Files of which nobody knows which value is white, by name."""
    values = uneven()[..., 0]
    return {
        "int32.tif": saved(Image.fromarray(values.astype(np.int32)), "TIFF"),
        "float.tif": saved(Image.fromarray(values.astype(np.float32) / 255), "TIFF"),
        "signed.tif": tiff(values.astype("<i2").tobytes(), sample_format=2),
    }


def tiff(
    pixels: bytes, *, big: bool = False, photometric: int = 1, channels: int = 1, bits: int = 16, sample_format: int = 1
) -> bytes:
    """A TIFF of one strip with tags that Pillow does not write."""
    order = ">" if big else "<"
    depths = 8 + 2 + 10 * 12 + 4
    tags = [(256, 3, 1, SIDE), (257, 3, 1, SIDE), (258, 3, channels, bits if channels == 1 else depths)]
    tags += [(259, 3, 1, 1), (262, 3, 1, photometric), (273, 4, 1, depths + 2 * channels), (277, 3, 1, channels)]
    tags += [(278, 3, 1, SIDE), (279, 4, 1, len(pixels)), (339, 3, 1, sample_format)]
    head = (b"MM" if big else b"II") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    for tag, kind, count, value in tags:
        short = kind == 3 and count == 1
        head += struct.pack(f"{order}HHI", tag, kind, count)
        head += struct.pack(f"{order}HH", value, 0) if short else struct.pack(f"{order}I", value)
    return head + struct.pack(f"{order}I", 0) + struct.pack(f"{order}{channels}H", *[bits] * channels) + pixels


def png(pixels: bytes, line: int, late: bytes = b"") -> bytes:
    """A PNG of 16-bit RGB; `late`: chunks behind the pixels."""
    lines = b"".join(b"\0" + pixels[start : start + line] for start in range(0, len(pixels), line))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines)), late, chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def late_exif(content: bytes, orientation: int) -> bytes:
    """The same PNG with its EXIF behind the pixels, where the format allows it too."""
    exif = turned(orientation).tobytes().removeprefix(b"Exif\0\0")
    return content[:-12] + chunk(b"eXIf", exif) + content[-12:]
