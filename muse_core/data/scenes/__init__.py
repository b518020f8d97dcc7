"""Built-in data: captioned, labelled, masked scenes composed from real artwork, fresh for every seed."""

from muse_core.data.scenes.compose import Scene, SceneMaker, SceneObject
from muse_core.data.scenes.splits import SPLITS, Split, maker, scene_at
from muse_core.data.scenes.sprites import DESIGNERS, SPRITE, Designer, available, load_sheet
from muse_core.data.scenes.vocabulary import CLASSES, COLOURS, GROUPS, MAX_WORDS, TEXTURES, WORDS, SceneClass

__all__ = [
    "CLASSES",
    "COLOURS",
    "DESIGNERS",
    "GROUPS",
    "MAX_WORDS",
    "SPLITS",
    "SPRITE",
    "TEXTURES",
    "WORDS",
    "Designer",
    "Scene",
    "SceneClass",
    "SceneMaker",
    "SceneObject",
    "Split",
    "available",
    "load_sheet",
    "maker",
    "scene_at",
]
