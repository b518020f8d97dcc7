"""Compose sprites into captioned, labelled, masked pictures: a pure function of (designers, size, seed).

Letters: S side of the picture, K objects in it (1 to 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from muse_core.data.scenes.captions import caption
from muse_core.data.scenes.sprites import SPRITE, available, load_sheet
from muse_core.data.scenes.vocabulary import CLASSES, COLOURS, TEXTURES
from muse_core.errors import MuseError

OBJECT_COUNTS = (0.45, 0.35, 0.20)
"""Share of scenes with one, two and three objects."""

MAIN_SIDE = (0.40, 0.72)
OTHER_SIDE = (0.22, 0.36)
"""Longer side of an object before rotation, as a fraction of S."""

MAX_ROTATION = 20.0
"""Degrees, either way."""

_STREAM = 0x5CE7E5  # keeps these random numbers apart from any other use of the same seed
_LAYOUTS = 16  # arrangements tried; the one in which objects overlap least is kept
_LEVELS = (12, 17, 24, 34, SPRITE)  # sides at which sprites are kept
_MARGIN = 2  # transparent pixels around a sprite, so that interpolation fades out at its border

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SceneObject:
    """One object: class index, who drew it, and the box (x0, y0, x1, y1) in pixels, end exclusive, of what is visible.

    side: longer side before rotation, in pixels. rotation: degrees, counter-clockwise. flipped: mirrored.
    """

    class_index: int
    designer: str
    box: tuple[int, int, int, int]
    side: float
    rotation: float
    flipped: bool


@dataclass(frozen=True)
class Scene:
    """One picture and everything known about it.

    image: (S, S, 3) uint8 RGB. label: class index of the main object, which is `objects[0]`.
    mask: (S, S) uint8, 0 background, k the k-th object counted from 1, where its alpha is above one half and no
    later object covers it. colour, texture: names of the background.
    """

    image: Bytes
    caption: str
    label: int
    objects: tuple[SceneObject, ...]
    mask: Bytes
    colour: str
    texture: str

    def class_mask(self) -> Bytes:
        """(S, S) uint8: 0 background, class index + 1 elsewhere."""
        lookup = np.array([0, *(one.class_index + 1 for one in self.objects)], dtype=np.uint8)
        return lookup[self.mask]


@dataclass(frozen=True)
class _Placed:
    """A sprite ready to be drawn: premultiplied (h, w, 4) pixels and where its top left corner goes."""

    pixels: Bytes
    x: int
    y: int


class SceneMaker:
    """Makes scenes from the artwork of some designers.

    Args:
        designers: names from `DESIGNERS`; each object is drawn by one of those who drew its class.
        size: side of the picture in pixels.
        colour_jitter: 0 leaves the artwork as drawn. At 1 hue turns by up to 90 degrees and saturation and value
            change by up to a half. Meant for pre-training only.
    """

    def __init__(self, designers: Sequence[str], size: int = 64, *, colour_jitter: float = 0.0) -> None:
        if not designers:
            raise MuseError("scenes need at least one designer", hint="SceneMaker(('noto',))")
        self.designers = tuple(designers)
        self.size = size
        self.colour_jitter = colour_jitter
        drawn = np.stack([available(name) for name in self.designers])
        self._drawers = [tuple(np.flatnonzero(column)) for column in drawn.T]
        self._classes = np.array([index for index, who in enumerate(self._drawers) if who])

    def scene(self, seed: int) -> Scene:
        """The scene of a seed (any integer from 0)."""
        rng = np.random.default_rng([_STREAM, seed])
        count = 1 + int(np.searchsorted(np.cumsum(OBJECT_COUNTS), rng.random(), side="right"))
        classes = [int(index) for index in rng.choice(self._classes, count, replace=False)]
        drawers = [int(self._drawers[index][rng.integers(len(self._drawers[index]))]) for index in classes]
        sides = self._sides(rng, count)
        rotations = rng.uniform(-MAX_ROTATION, MAX_ROTATION, count)
        flips = rng.random(count) < 0.5
        sprites = [
            self._turned(self.designers[who], index, side, rotation, flip)
            for who, index, side, rotation, flip in zip(drawers, classes, sides, rotations, flips, strict=True)
        ]
        if self.colour_jitter:  # its own stream, so that layout and caption stay those of the seed
            tint = np.random.default_rng([_STREAM, seed, 1])
            sprites = [_recoloured(tint, sprite, self.colour_jitter) for sprite in sprites]
        placed = _arrange(rng, sprites, self.size)
        colour, texture = int(rng.integers(len(COLOURS))), int(rng.integers(len(TEXTURES)))
        image = _background(rng, self.size, colour, texture)
        mask = np.zeros((self.size, self.size), np.uint8)
        for k, one in enumerate(placed, start=1):
            _draw(image, mask, one, k)
        objects = tuple(
            SceneObject(index, self.designers[who], _box(mask, k), float(side), float(rotation), bool(flip))
            for k, (index, who, side, rotation, flip) in enumerate(
                zip(classes, drawers, sides, rotations, flips, strict=True), start=1
            )
        )
        names = (COLOURS[colour][0], TEXTURES[texture])
        text = caption(rng, [CLASSES[index] for index in classes], _centres(placed), self.size, *names)
        return Scene(_jitter(rng, image), text, classes[0], objects, mask, *names)

    def _sides(self, rng: np.random.Generator, count: int) -> Floats:
        low = np.array([MAIN_SIDE[0], *[OTHER_SIDE[0]] * (count - 1)])
        high = np.array([MAIN_SIDE[1], *[OTHER_SIDE[1]] * (count - 1)])
        return np.asarray(rng.uniform(low, high) * self.size)

    def _turned(self, designer: str, index: int, side: float, rotation: float, flip: bool) -> Bytes:
        """A sprite scaled, mirrored and rotated: premultiplied (n, n, 4)."""
        level = next((one for one in _LEVELS if one >= side), SPRITE)
        source, scale = _scaled(designer, index, level), level / side
        angle = np.deg2rad(rotation)
        cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
        n = int(np.ceil(side * (abs(cos) + abs(sin)) / scale)) + 2
        mirror = -1.0 if flip else 1.0
        middle, half = source.width / 2, n / 2
        matrix = (
            mirror * cos, -mirror * sin, middle - mirror * (cos - sin) * half,
            sin, cos, middle - (sin + cos) * half,
        )  # fmt: skip
        turned = source.transform((n, n), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
        pixels = np.asarray(turned)
        rows, columns = np.flatnonzero(pixels[..., 3].any(1)), np.flatnonzero(pixels[..., 3].any(0))
        return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@cache
def _scaled(designer: str, index: int, side: int) -> Image.Image:
    """A sprite at one of a few sizes, premultiplied, so that the last step never shrinks by much and cannot alias."""
    straight = load_sheet(designer)[index].astype(np.uint16)
    straight[..., :3] = straight[..., :3] * straight[..., 3:] // 255
    whole = Image.frombytes("RGBX", (SPRITE, SPRITE), straight.astype(np.uint8).tobytes())
    padded = Image.new("RGBX", (side + 2 * _MARGIN,) * 2, (0, 0, 0, 0))
    padded.paste(whole.resize((side, side), Image.Resampling.LANCZOS), (_MARGIN, _MARGIN))
    return padded


def _recoloured(rng: np.random.Generator, pixels: Bytes, strength: float) -> Bytes:
    """Turn hue and scale saturation and value of premultiplied (h, w, 4) pixels, with one matrix."""
    angle = rng.uniform(-strength, strength) * np.pi / 2
    saturation, value = 1 + rng.uniform(-strength, strength, 2) / 2
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    hue = np.cos(angle) * np.eye(3) + (1 - np.cos(angle)) / 3 + np.sin(angle) * cross
    grey = np.broadcast_to([0.299, 0.587, 0.114], (3, 3))
    matrix = value * (saturation * np.eye(3) + (1 - saturation) * grey) @ hue
    alpha = pixels[..., 3:]
    colours = np.clip(pixels[..., :3] @ matrix.T.astype(np.float32), 0, alpha)
    return np.concatenate([colours.astype(np.uint8), alpha], axis=2)


def _arrange(rng: np.random.Generator, sprites: Sequence[Bytes], size: int) -> list[_Placed]:
    """Place sprites wholly inside the picture, so that they overlap little."""
    extents = np.array([sprite.shape[1::-1] for sprite in sprites])  # (K, 2) width, height
    corners = (rng.random((_LAYOUTS, len(sprites), 2)) * (size - extents + 1)).astype(np.int64)
    overlap = np.zeros(_LAYOUTS)
    for first in range(len(sprites)):
        for second in range(first + 1, len(sprites)):
            ends = np.minimum(corners[:, first] + extents[first], corners[:, second] + extents[second])
            shared = np.maximum(ends - np.maximum(corners[:, first], corners[:, second]), 0)
            overlap += shared.prod(1) / extents[second].prod()
    best = corners[int(overlap.argmin())]
    return [_Placed(sprite, int(x), int(y)) for sprite, (x, y) in zip(sprites, best, strict=True)]


def _centres(placed: Sequence[_Placed]) -> list[tuple[float, float]]:
    return [(one.x + one.pixels.shape[1] / 2, one.y + one.pixels.shape[0] / 2) for one in placed]


def _draw(image: Bytes, mask: Bytes, one: _Placed, k: int) -> None:
    """Lay one sprite over the picture and enter it in the mask, both in place."""
    height, width = one.pixels.shape[:2]
    window = np.s_[one.y : one.y + height, one.x : one.x + width]
    alpha = one.pixels[..., 3:].astype(np.uint16)
    behind = image[window] * (255 - alpha) // 255
    image[window] = np.minimum(behind + np.minimum(one.pixels[..., :3], alpha), 255)
    mask[window][one.pixels[..., 3] > 127] = k


def _box(mask: Bytes, k: int) -> tuple[int, int, int, int]:
    visible = mask == k
    columns, rows = np.flatnonzero(visible.any(0)), np.flatnonzero(visible.any(1))
    if not len(rows):
        return (0, 0, 0, 0)
    return (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _background(rng: np.random.Generator, size: int, colour: int, texture: int) -> Bytes:
    """(S, S, 3): one of the twelve colours under one of the five textures."""
    base = np.array(COLOURS[colour][1], np.float32)
    depth = np.float32(rng.uniform(16, 34) * rng.choice([-1.0, 1.0]))
    shade = _pattern(rng, size, TEXTURES[texture])
    return np.clip(base + depth * shade[..., None], 0, 255).astype(np.uint8)


def _pattern(rng: np.random.Generator, size: int, texture: str) -> NDArray[np.float32]:
    """(S, S) in about [-1, 1]."""
    if texture == "plain":
        return np.zeros((size, size), np.float32)
    if texture == "noisy":
        cell = max(1, size // 64)
        grains = np.asarray(rng.standard_normal((-(-size // cell),) * 2, np.float32) / 2, np.float32)
        return np.repeat(np.repeat(grains, cell, 0), cell, 1)[:size, :size]
    angle, period = rng.uniform(0, 2 * np.pi), rng.uniform(0.12, 0.30)
    along, across = _axes(size, float(angle))
    if texture == "gradient":
        return np.asarray(2 * along, np.float32)
    bands = np.floor(along / np.float32(period))
    if texture == "checkered":
        bands = bands + np.floor(across / np.float32(period))
    return np.asarray(bands % 2, np.float32)


def _axes(size: int, angle: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two (S, S) coordinates in about [-0.5, 0.5], turned by an angle in radians."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    x, y = line[None, :], line[:, None]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return np.asarray(cos * x + sin * y, np.float32), np.asarray(cos * y - sin * x, np.float32)


def _jitter(rng: np.random.Generator, image: Bytes) -> Bytes:
    """Change contrast by up to a fifth and brightness by up to 20 levels."""
    contrast, brightness = rng.uniform(0.8, 1.2), rng.uniform(-20, 20)
    levels = (np.arange(256) - 128) * contrast + 128 + brightness
    return np.asarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8)[image])
