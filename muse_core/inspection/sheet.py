"""A contact sheet: some samples with the beginnings of their captions."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt

from PIL import Image, ImageDraw

from muse_core.data.sample import Sample
from muse_core.errors import MuseError
from muse_core.viz.pixels import enlarge, font, whole_factor

SIDE, GAP, TEXT, LETTERS = 192, 8, 12, 30


def contact_sheet(samples: Sequence[Sample]) -> Image.Image:
    """Draw samples in a square as good as it goes, each with key, class and caption below.

    Raises:
        MuseError: there are none.
    """
    if not samples:
        raise MuseError("there is no usable sample to draw", hint="muse inspect says what is wrong with them")
    across = ceil(sqrt(len(samples)))
    width, height = SIDE + GAP, SIDE + GAP + 2 * (TEXT + 4)
    sheet = Image.new("RGB", (across * width + GAP, ceil(len(samples) / across) * height + GAP), "white")
    draw, letters = ImageDraw.Draw(sheet), font(TEXT)
    for number, sample in enumerate(samples):
        left, top = GAP + number % across * width, GAP + number // across * height
        picture = Image.fromarray(enlarge(sample.image, whole_factor(sample.image, SIDE)))
        picture.thumbnail((SIDE, SIDE))
        sheet.paste(picture, (left + (SIDE - picture.width) // 2, top + (SIDE - picture.height) // 2))
        label = f" [{sample.label}]" if sample.label >= 0 else ""
        for line, text in enumerate((sample.key[-LETTERS:] + label, sample.caption[:LETTERS] or "no caption")):
            draw.text((left, top + SIDE + 2 + line * (TEXT + 4)), _drawable(text), "black", font=letters)
    return sheet


def _drawable(text: str) -> str:
    """One line in letters that Pillow's own typeface has."""
    return " ".join(text.split()).encode("latin-1", "replace").decode("latin-1")
