"""Pictures that a user names: found, read and scaled.

A picture is float32 (3, H, W), RGB in [0, 1].
"""

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from muse_core.errors import BadMemberError, MuseError, MuseWarning
from muse_core.file_names import is_clutter, is_picture, is_special, matches, special_in_words
from muse_core.image_files import MAX_PIXELS, SUFFIXES, ImageFile
from muse_core.text_files import readable

Picture = NDArray[np.float32]

MOST_PIXELS = 2 * MAX_PIXELS
"""A file that is named one by one may be twice as large as one of many: photographs of 108 million pixels exist."""


def find_pictures(named: Iterable[str]) -> list[Path]:
    """Return the files meant by paths, folders and patterns, each once, in the order they were named.

    Raises:
        MuseError: something named matches no file.
    """
    found: dict[Path, None] = {}
    for text in named:
        pictures = list(_matches(text))
        if not pictures:
            raise MuseError(f"no picture at {text}", hint=_why_none(Path(text)))
        found |= dict.fromkeys(pictures)
    return list(found)


def _why_none(path: Path) -> str:
    if path.is_dir() and any(map(is_picture, (entry.name for entry in path.glob("*/*")))):
        return f"they lie in folders inside it, which are not entered: name these, or '{path}/*/*'"
    return f"pictures end in .{', .'.join(SUFFIXES)}"


def _matches(text: str) -> Iterator[Path]:
    path = Path(text)
    if path.is_file():
        yield path
        return
    # What is named is looked at even if it is not a picture; what a folder or a pattern holds by chance is not.
    inside = path.iterdir() if path.is_dir() else map(Path, matches(text))
    pictures = sorted(entry for entry in inside if entry.suffix.lower()[1:] in SUFFIXES and not is_clutter(entry.name))
    special = list(filter(is_special, pictures))
    if special:
        names = [entry.name for entry in special]
        warnings.warn(readable(special_in_words(text, names)), MuseWarning, 2)
    yield from (entry for entry in pictures if entry.is_file())


def read_picture(
    path: Path, short_side: int | None = None, *, only_shrink: bool = True, notes: Counter[str] | None = None
) -> Picture:
    """Read a picture upright, with its shorter side scaled to `short_side` pixels.

    Args:
        path: the file.
        short_side: pixels; None keeps the size.
        only_shrink: leave smaller pictures as they are.
        notes: counts what reading left out, as `ImageFile.notes`.

    Raises:
        MuseError: the file is not a picture that can be read.
    """
    try:
        image = ImageFile(path.read_bytes(), "it is damaged, or of no format that is known", MOST_PIXELS)
        pixels = _scaled(image.rgb(), short_side, only_shrink)
    except FileNotFoundError:
        raise MuseError(f"{path} does not exist") from None
    except (OSError, BadMemberError) as error:
        raise MuseError(f"{path} cannot be read as a picture: {error}") from None
    if notes is not None:
        notes.update(image.notes)
    return np.asarray(pixels, dtype=np.float32).transpose(2, 0, 1) / 255.0


def _scaled(image: Image.Image, short_side: int | None, only_shrink: bool) -> Image.Image:
    shorter = min(image.size)
    if short_side is None or shorter == short_side or (only_shrink and shorter < short_side):
        return image
    width, height = (max(1, round(side * short_side / shorter)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)


def picture_png(picture: Picture) -> bytes:
    """Return a picture as PNG; values outside [0, 1] are clipped and bytes are rounded."""
    pixels = np.rint(picture.clip(0.0, 1.0).transpose(1, 2, 0) * 255.0).astype(np.uint8)
    return image_png(Image.fromarray(pixels))


def image_png(image: Image.Image) -> bytes:
    """Return a drawn image as PNG."""
    stream = BytesIO()
    image.save(stream, format="png")
    return stream.getvalue()
