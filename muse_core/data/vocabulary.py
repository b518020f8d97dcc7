"""What class numbers mean: names from an index.json, from built-in scenes, from a list, and ImageNet's WordNet ids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from muse_core.errors import MuseError
from muse_core.text_files import composed

IMAGENET_SIZE = 1000

_WORDNET = re.compile(r"n\d{8}")
_REASONS = 5
_SHOWN = 8  # names in an error; more would hide what it says


@dataclass(frozen=True)
class ClassName:
    """One class.

    shown: its name in tables and sentences. keys: what it is joined by, the surest first: identifiers, then names.
    """

    shown: str
    keys: tuple[str, ...]


Classes = tuple[ClassName, ...]


@dataclass(frozen=True)
class Vocabulary:
    """What the numbers of a source mean; None where nothing names them.

    classes: of the labels 0, 1, ... masks: of the mask values 1, 2, ...; 0 is what has no name, 255 is ignored.
    """

    classes: Classes | None = None
    masks: Classes | None = None


def classes_of_names(names: Sequence[str], keys: Sequence[str] = ()) -> Classes | None:
    """Make classes of their names in order; None of no names.

    keys: identifiers of the same classes, such as WordNet ids, where the data have them.
    """
    if len(keys) != len(names):
        keys = names
    return tuple(ClassName(name, _keys(key, name)) for key, name in zip(keys, names, strict=True)) or None


def _keys(*names: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(normal(name) for name in names))


def normal(name: str) -> str:
    """Names are equal whichever way their accents are stored, and whatever white space is around them."""
    return composed(name).strip()


@lru_cache(maxsize=1)
def scene_classes() -> Classes:
    """Return the classes of the built-in scenes: shown as phrases with their article, joined by short names as well."""
    from muse_core.data.scenes import CLASSES

    return tuple(ClassName(one.phrase, _keys(one.name, one.phrase)) for one in CLASSES)


def vocabulary_of_index(index: Mapping[str, Any] | None) -> Vocabulary:
    """Return what an index.json says of the numbers beside it.

    Shards of built-in scenes are known by their names: "icecream" is no word, and their masks hold the same classes.
    """
    names, ids, masks = (_strings(index, field) for field in ("classes", "class_keys", "mask_classes"))
    if names and names == [one.keys[0] for one in scene_classes()]:
        return Vocabulary(scene_classes(), classes_of_names(masks) or scene_classes())
    return Vocabulary(classes_of_names(names, ids), classes_of_names(masks))


def _strings(index: Mapping[str, Any] | None, field: str) -> list[str]:
    listed = (index or {}).get(field)
    return [str(name) for name in listed] if isinstance(listed, list) else []


def listed_classes(names: Sequence[str]) -> Classes:
    """Make classes of a list of names; open_clip's 1,000 of ImageNet are joined by their WordNet ids as well."""
    if len(names) == IMAGENET_SIZE:
        from open_clip import IMAGENET_CLASSNAMES

        if list(names) == list(IMAGENET_CLASSNAMES):
            return classes_of_names(names, imagenet_classes()[0]) or ()
    return classes_of_names(names) or ()


def imagenet_classes() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the 1,000 WordNet ids in the order of their indices, which is sorted, and open_clip's names for them."""
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data.imagenet_info import ImageNetInfo

    published: Any = ImageNetInfo("imagenet-1k")
    wnids = tuple(published.label_names())
    if list(wnids) != sorted(wnids) or len(wnids) != len(IMAGENET_CLASSNAMES):
        raise MuseError("the installed timm and open_clip disagree about ImageNet-1k", hint="pip install -U timm")
    return wnids, tuple(IMAGENET_CLASSNAMES)


def in_words(classes: Classes) -> Classes:
    """Return the classes with ImageNet's names for those that are called by its WordNet ids alone."""
    if not any(has_wordnet_id(one) for one in classes):
        return classes
    words = dict(zip(*imagenet_classes(), strict=True))
    return tuple(
        ClassName(words[one.keys[0]], _keys(*one.keys, words[one.keys[0]]))
        if one.keys[0] in words and len(one.keys) == 1
        else one
        for one in classes
    )


def has_wordnet_id(one: ClassName) -> bool:
    """Say whether a class is known by a WordNet id."""
    return _WORDNET.fullmatch(one.keys[0]) is not None


def vocabulary_of(source: object) -> Vocabulary:
    """Return what the numbers of a source mean: its vocabulary, or the names of its classes where it has only these."""
    own = getattr(source, "vocabulary", None)
    return own if isinstance(own, Vocabulary) else Vocabulary(classes_of_names(getattr(source, "classes", None) or ()))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 class", "3 classes", "1,000 images"."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def reasons_in_words(reasons: Mapping[str, int], examples: Mapping[str, str] | None = None) -> str:
    """Return how often there was each reason, the most frequent five first, with an example where one is known.

    Empty where there is none.
    """
    most = sorted(reasons.items(), key=lambda found: -found[1])[:_REASONS]
    first = {reason: f" (first: {example})" for reason, example in (examples or {}).items()}
    return "; ".join(f"{count:,} x {reason}{first.get(reason, '')}" for reason, count in most)


def shown(classes: Classes) -> str:
    """Return classes for a sentence, the first of them by name: "1,000 classes (tench, goldfish, ...)"."""
    return f"{counted(len(classes), 'class')} ({shortened([one.shown for one in classes])})"


def shortened(names: Sequence[str]) -> str:
    """Join names with commas; of many, the first few and how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
