"""Which seeds and which designers each split may use: nothing that is measured on was ever trained on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from muse_core.data.scenes.compose import Scene, SceneMaker
from muse_core.data.scenes.sprites import DESIGNERS
from muse_core.errors import MuseError
from muse_core.suggestions import choices

_TRAINING = tuple(designer.name for designer in DESIGNERS if not designer.held_out)
_HELD_OUT = tuple(designer.name for designer in DESIGNERS if designer.held_out)


@dataclass(frozen=True)
class Split:
    """A set of scenes: its designers, and `capacity` seeds from `first_seed` on."""

    designers: tuple[str, ...]
    first_seed: int
    capacity: int = 10**9

    def seed(self, index: int) -> int:
        """The seed of the scene at an index from 0."""
        if not 0 <= index < self.capacity:
            raise MuseError(f"scene {index} lies outside the split", hint=f"use an index from 0 to {self.capacity - 1}")
        return self.first_seed + index


SPLITS: dict[str, Split] = {
    "train": Split(_TRAINING, 0),
    "val": Split(_TRAINING, 2 * 10**9),
    "ood": Split(_HELD_OUT, 3 * 10**9),
}
"""train and val share designers but no seed; ood (out of domain) is drawn by a designer no split trains on."""


def find_split(split: str) -> Split:
    """The split of a name, or a refusal that lists the names."""
    if split not in SPLITS:
        raise MuseError(f"no built-in scenes named '{split}'", hint=choices(split, SPLITS))
    return SPLITS[split]


@lru_cache(maxsize=16)
def maker(split: str, size: int = 64) -> SceneMaker:
    """The scene maker of a split, for pictures of `size` pixels."""
    return SceneMaker(find_split(split).designers, size)


def scene_at(split: str, index: int, size: int = 64) -> Scene:
    """The scene at an index of a split."""
    return maker(split, size).scene(find_split(split).seed(index))
