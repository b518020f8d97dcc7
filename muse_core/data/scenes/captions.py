"""Captions of scenes: what is there, how it lies, and sometimes what is behind it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from muse_core.data.scenes.vocabulary import MAX_WORDS, SceneClass

Point = tuple[float, float]

_SHORTEST_STEP = 0.12  # of the side: centres closer than this along an axis are not called left, right, above or below


def caption(
    rng: np.random.Generator,
    classes: Sequence[SceneClass],
    centres: Sequence[Point],
    size: int,
    colour: str,
    texture: str,
) -> str:
    """Describe objects at `centres` (x, y in pixels) on a background; the main object comes first."""
    text = _objects(rng, classes, centres, size)
    style = rng.random()
    if style < 0.15:
        text = _if_short(f"a picture of {text}", text)
    elif style < 0.25:
        text = _if_short(f"there {'are' if classes[0].plural else 'is'} {text}", text)
    if rng.random() < 0.4:
        text = _if_short(f"{text} on {_background(rng, colour, texture)}", text)
    return text


def _if_short(longer: str, shorter: str) -> str:
    return longer if len(longer.split()) <= MAX_WORDS else shorter


def _objects(rng: np.random.Generator, classes: Sequence[SceneClass], centres: Sequence[Point], size: int) -> str:
    main, *others = classes
    parts = [_relation(rng, centres[0], centre, size) for centre in centres[1:]]
    if not others:
        return main.phrase
    if len(others) == 1:
        word = parts[0]
        if word in ("left of", "right of") and rng.random() < 0.3:
            word = f"to the {word}"
        return f"{main.phrase} {word} {others[0].phrase}"
    if parts[0] == parts[1] or rng.random() < 0.3:
        word = parts[0] if parts[0] == parts[1] else "with"
        return f"{main.phrase} {word} {others[0].phrase} and {others[1].phrase}"
    return f"{main.phrase} {parts[0]} {others[0].phrase} and {parts[1]} {others[1].phrase}"


def _relation(rng: np.random.Generator, here: Point, there: Point, size: int) -> str:
    """How `here` lies as seen from `there`; one in four is only said to be with it."""
    dx, dy = here[0] - there[0], here[1] - there[1]
    if rng.random() < 0.25 or max(abs(dx), abs(dy)) < _SHORTEST_STEP * size:
        return "with"
    if abs(dx) > abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"


def _background(rng: np.random.Generator, colour: str, texture: str) -> str:
    style = rng.random()
    if texture == "plain":
        words = [colour] if style < 0.6 else ["plain", colour]
    elif texture == "gradient":
        words = [colour, "gradient"]
    else:
        words = [texture, colour] if style < 0.6 else [texture] if style < 0.8 else [colour]
    article = "an" if words[0][0] in "aeiou" else "a"
    return " ".join([article, *words, "background"])
