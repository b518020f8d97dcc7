"""The artwork: one sheet of 98 sprites per designer, shipped as lossless WebP beside its licence.

The sheets are made by `build_artwork.py`; reading them needs Pillow and numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from muse_core.data.scenes.vocabulary import CLASSES
from muse_core.errors import MuseError
from muse_core.suggestions import choices

SPRITE = 48
"""Side of a sprite in pixels; the longer side of its visible part fills it."""

SHEET_COLUMNS = 14


@dataclass(frozen=True)
class Designer:
    """Where one set of drawings comes from, and under which licence it is redistributed."""

    name: str
    title: str
    author: str
    licence: str
    url: str
    held_out: bool = False


DESIGNERS: tuple[Designer, ...] = (
    Designer("noto", "Noto Emoji", "Google LLC", "Apache-2.0", "https://github.com/googlefonts/noto-emoji"),
    Designer("twemoji", "Twemoji", "Twitter, Inc and contributors", "CC-BY-4.0", "https://github.com/jdecked/twemoji"),
    Designer("fxemoji", "FxEmojis", "Mozilla Foundation", "CC-BY-4.0", "https://github.com/mozilla/fxemoji"),
    Designer("emojitwo", "EmojiTwo", "Emoji One and EmojiTwo", "CC-BY-4.0", "https://github.com/EmojiTwo/emojitwo"),
    Designer(
        "streamline",
        "Streamline Emojis",
        "Streamline (Webalys)",
        "CC-BY-4.0",
        "https://github.com/webalys-hq/streamline-vectors",
    ),
    Designer(
        "fluent",
        "Fluent Emoji Flat",
        "Microsoft Corporation",
        "MIT",
        "https://github.com/microsoft/fluentui-emoji",
        held_out=True,
    ),
)


@cache
def load_sheet(vendor: str) -> NDArray[np.uint8]:
    """The sprites of one designer, (98, 48, 48, 4) uint8 straight RGBA; a class that is not drawn is transparent."""
    known = [designer.name for designer in DESIGNERS]
    if vendor not in known:
        raise MuseError(f"no artwork by a designer named '{vendor}'", hint=choices(vendor, known))
    with files(__package__).joinpath("artwork", f"{vendor}.webp").open("rb") as stream, Image.open(stream) as image:
        pixels = np.asarray(image.convert("RGBA"))
    rows = pixels.shape[0] // SPRITE
    grid = pixels.reshape(rows, SPRITE, SHEET_COLUMNS, SPRITE, 4).swapaxes(1, 2)
    sheet = np.ascontiguousarray(grid.reshape(-1, SPRITE, SPRITE, 4)[: len(CLASSES)])
    sheet.flags.writeable = False
    return sheet


@cache
def available(vendor: str) -> NDArray[np.bool_]:
    """Which classes a designer has drawn, (98,) bool."""
    drawn = np.asarray(load_sheet(vendor)[..., 3].any(axis=(1, 2)))
    drawn.flags.writeable = False
    return drawn
