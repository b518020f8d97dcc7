"""Pictures inside a page: read, scaled and packed as data URLs, so that the page needs nothing beside it."""

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from muse_core.errors import MuseError
from muse_core.viz.pixels import Pixels

LOSSLESS_BELOW = 256
"""Pictures up to this side are kept to the byte: they are small, and often drawn pixel by pixel."""


@dataclass(frozen=True)
class Effort:
    """How much room pictures may take.

    longest: their longest side. quality: of WebP. samples: how many of each run. grid: patches along the longer side of
    an explorable map, whose size grows with the fourth power of it.
    """

    longest: int
    quality: int
    samples: int
    grid: int


EFFORTS = (
    Effort(1400, 90, 8, 24),
    Effort(1100, 84, 6, 20),
    Effort(800, 76, 4, 16),
    Effort(560, 66, 2, 12),
    Effort(400, 50, 1, 8),
)


@dataclass(frozen=True)
class Embedded:
    """A picture ready for the page, and the size at which it is shown."""

    source: str
    width: int
    height: int


def embed(picture: Path | bytes, effort: Effort) -> Embedded:
    """Read a picture from a file or from bytes and pack it.

    Raises:
        MuseError: it is missing or is no picture.
    """
    try:
        with Image.open(BytesIO(picture) if isinstance(picture, bytes) else picture) as opened:
            image = opened.convert("RGBA" if opened.has_transparency_data else "RGB")
    except (OSError, UnidentifiedImageError) as error:
        name = "a figure" if isinstance(picture, bytes) else str(picture)
        raise MuseError(f"{name} cannot be read as a picture: {error}") from None
    width, height = image.size
    scale = min(1.0, effort.longest / max(width, height))
    if scale < 1.0:
        image = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.LANCZOS)
    return Embedded(_url(image, effort.quality), *image.size)


def picture_url(pixels: Pixels, quality: int = 88) -> str:
    """Pixels (H, W, 3) as a data URL."""
    return _url(Image.fromarray(pixels), quality)


def _url(image: Image.Image, quality: int) -> str:
    stream = BytesIO()
    lossless = max(image.size) <= LOSSLESS_BELOW
    image.save(stream, "WEBP", lossless=lossless, quality=100 if lossless else quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
