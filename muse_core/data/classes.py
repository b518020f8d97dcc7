"""Classes by name: the one place where the numbers of several sets of data come to mean the same.

A number is a class only within the set that gave it; `index.json` names it. Wherever two sets meet, classes are joined
by name, or the sets are refused with both lists shown. A set without names keeps its numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from muse_core.data.sample import UNKNOWN_LABEL, UNKNOWN_MASK, Sample, Skip
from muse_core.data.vocabulary import (
    Classes,
    ClassName,
    Vocabulary,
    counted,
    has_wordnet_id,
    in_words,
    listed_classes,
    normal,
    shortened,
    shown,
    vocabulary_of,
)
from muse_core.errors import MuseError

if TYPE_CHECKING:
    from muse_core.data.source import Source

NO_CLASS_MASK = 254
"""Value that stands in masks, after renumbering, for a number that is none of the joined classes."""

MOST_MASKS = NO_CLASS_MASK - 1


@dataclass(frozen=True)
class Renumbering:
    """How the numbers of one set become those of the joined classes; None leaves them as they are.

    labels: the number of each label 0, 1, ... masks: of each mask value 1, 2, ..., counted from 0. count, mask_count:
    how many classes there are when all are joined, 0 where nothing names them. A label that is no class becomes `count`
    plus itself, a mask value `NO_CLASS_MASK`: whoever uses them refuses them; training uses neither, and goes on.
    """

    labels: tuple[int, ...] | None = None
    masks: tuple[int, ...] | None = None
    count: int = 0
    mask_count: int = 0

    @property
    def changes(self) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None] | None:
        """What distinguishes features and masks that were read with it from others; None where no number changes."""
        labels, masks = _unless_same(self.labels), _unless_same(self.masks)
        return None if labels is masks is None else (labels, masks)

    def __call__(self, item: Sample | Skip) -> Sample | Skip:
        """Return an item of the source with the joined numbers."""
        if isinstance(item, Skip):
            return item
        label, mask = self._label(item.label), self._mask(item.mask)
        return item if label == item.label and mask is item.mask else replace(item, label=label, mask=mask)

    def _label(self, label: int) -> int:
        if label == UNKNOWN_LABEL or not self.count:
            return label
        if self.labels is not None and 0 <= label < len(self.labels):
            return self.labels[label]
        return label if self.labels is None and label < self.count else self.count + label

    def _mask(self, mask: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
        return mask if mask is None or self._values is None else self._values[mask]

    @cached_property
    def _values(self) -> NDArray[np.uint8] | None:
        """The new value of each of the 256 that a mask can hold."""
        if self.masks is None or (_unless_same(self.masks) is None and len(self.masks) == self.mask_count):
            return None
        values = np.full(256, NO_CLASS_MASK, np.uint8)
        values[0], values[UNKNOWN_MASK] = 0, UNKNOWN_MASK
        for number, joined in enumerate(self.masks):
            values[number + 1] = joined + 1
        return values


def _unless_same(numbers: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """None for numbers that stay what they are. Where not one is known, all change."""
    return None if numbers and numbers == tuple(range(len(numbers))) else numbers


@dataclass(frozen=True)
class Joint:
    """Several sets with one vocabulary: each item of set k has to pass through `renumberings[k]`."""

    vocabulary: Vocabulary
    renumberings: tuple[Renumbering, ...]

    @property
    def changes(self) -> list[Any] | None:
        """What distinguishes features that were read with it from others; None where no number changes."""
        changes = [one.changes for one in self.renumberings]
        return changes if any(changes) else None


def numbers_in(theirs: Classes, ours: Classes) -> tuple[int | None, ...]:
    """Return the number among our classes of each of theirs, None for one that ours lack.

    Raises:
        MuseError: a name of theirs stands for several of ours.
    """
    direct = _matched(theirs, ours)
    if not ours or None not in direct or any(map(has_wordnet_id, theirs)) == any(map(has_wordnet_id, ours)):
        return direct
    return _matched(in_words(theirs), in_words(ours))  # WordNet ids on one side, words on the other


def _matched(theirs: Classes, ours: Classes) -> tuple[int | None, ...]:
    numbers: dict[str, list[int]] = {}
    for number, one in enumerate(ours):
        for key in one.keys:
            numbers.setdefault(key, []).append(number)
    return tuple(_number(one, number, numbers) for number, one in enumerate(theirs))


def _number(one: ClassName, own: int, numbers: Mapping[str, list[int]]) -> int | None:
    several = ""
    for key in one.keys:
        candidates = numbers.get(key, [])
        if len(candidates) == 1 or own in candidates:
            return own if own in candidates else candidates[0]
        several = several or (key if candidates else "")
    if several:
        raise MuseError(
            f"{len(numbers[several])} classes are called {several!r}, so classes cannot be joined by name",
            hint="give each class a name of its own, in index.json or in the list",
        )
    return None


def united(sets: Sequence[Classes | None]) -> tuple[Classes | None, tuple[tuple[int, ...] | None, ...]]:
    """Join the classes of several sets by name, those of the first that has names first.

    Returns:
        all classes, and for each set the joined number of each of its own. None for a set without names, whose numbers
        stay; where the named sets number differently they mean nothing, and none is known.
    """
    whole: list[ClassName] = []
    numbers: list[tuple[int, ...] | None] = []
    for classes in sets:
        numbers.append(None if classes is None else _added(classes, whole))
    agree = all(_unless_same(one) is None for one in numbers)
    return tuple(whole) or None, tuple(one if one is not None or agree else () for one in numbers)


def _added(classes: Classes, whole: list[ClassName]) -> tuple[int, ...]:
    """Return the numbers of a set among all classes, behind which those that it is the first to have are put."""
    joined = []
    for one, number in zip(classes, numbers_in(classes, tuple(whole)), strict=True):
        joined.append(len(whole) if number is None else number)
        if number is None:
            whole.append(one)
    return tuple(joined)


def join(vocabularies: Sequence[Vocabulary]) -> Joint:
    """Let the numbers of several sets mean the same classes, labels and masks each by their names.

    Masks of more classes than a byte can hold are not joined: all but those of the first set then mean nothing.

    Raises:
        MuseError: a name stands for several classes.
    """
    classes, labels = united([one.classes for one in vocabularies])
    masks, values = united([one.masks for one in vocabularies])
    if masks and len(masks) > MOST_MASKS and any(_unless_same(one) is not None for one in values):
        masks, values = None, (None, *[() for _ in values[1:]])
    counts = len(classes or ()), len(masks or ())
    renumberings = tuple(Renumbering(*numbers, *counts) for numbers in zip(labels, values, strict=True))
    return Joint(Vocabulary(classes, masks), renumberings)


class Renumbered:
    """A source whose numbers are those of joined classes, and in all else the source it was made from.

    labels: whether labels are used, so that one which is no class is refused.
    """

    def __init__(
        self, source: Source, vocabulary: Vocabulary, renumbering: Renumbering, *, labels: bool = True
    ) -> None:
        self.source, self.vocabulary, self.renumbering, self._labels = source, vocabulary, renumbering, labels
        self.name, self.max_lanes = source.name, source.max_lanes
        self.shards = getattr(source, "shards", ())
        self.remarks = getattr(source, "remarks", ())

    @property
    def fields(self) -> frozenset[str]:
        """What samples carry."""
        return self.source.fields

    @property
    def count(self) -> int | None:
        """Samples in all, or None when that is not known without reading."""
        return self.source.count

    @property
    def changes(self) -> list[Any] | None:
        """What distinguishes features that were read through it from others; None where no number changes."""
        changes = [changes_of(self.source), self.renumbering.changes]
        return changes if any(changes) else None

    def lane(self, index: int, lanes: int, *, seed: int, start: int = 0) -> Iterator[Sample | Skip]:
        """A lane of the source, with the joined numbers."""
        return map(self.renumbering, self.source.lane(index, lanes, seed=seed, start=start))

    def once(self, index: int = 0, readers: int = 1, run: int = 1) -> Iterator[Sample | Skip]:
        """Every sample of the source, with the joined numbers.

        Raises:
            MuseError: a label is none of the classes.
        """
        named = vocabulary_of(self.source).classes or self.vocabulary.classes
        for item in self.source.once(index, readers, run):
            if self._labels and isinstance(item, Sample):
                refuse_beyond(self.source, item.label, named)
            yield self.renumbering(item)


def refuse_beyond(source: Source, label: int, classes: Classes | None) -> None:
    """Refuse a label that is none of the classes, where these have names.

    Raises:
        MuseError: with the number as it is stored, and the classes.
    """
    if classes is None or label < len(classes):
        return
    stored = label - len(classes) if getattr(source, "is_joint", False) else label
    raise MuseError(
        f"{source.name} has the label {stored}, but there are only {shown(classes)}",
        hint="a name for each label in index.json, or in --classes FILE: the first for label 0",
    )


def stored(source: Source) -> Source:
    """Return the source of what is stored, where its numbers were made those of other classes."""
    return stored(source.source) if isinstance(source, Renumbered) else source


def refuse_nameless(source: object, values: Iterable[int]) -> None:
    """Refuse values of masks that are none of the classes, where these have names.

    Raises:
        MuseError: naming one of them, and the classes.
    """
    masks = vocabulary_of(source).masks
    nameless = [value for value in values if masks and len(masks) < value != UNKNOWN_MASK]
    if masks and nameless:
        name = getattr(source, "name", "")
        value = "a value that is none" if nameless[-1] == NO_CLASS_MASK else f"the value {nameless[-1]}, which is none"
        raise MuseError(
            f"a mask of {name} holds {value} of its {shown(masks)}",
            hint="a name for each value from 1 on under mask_classes in index.json, or none at all",
        )


def changes_of(source: object) -> Any:
    """Return how the numbers of a source differ from those stored, as far as that belongs into the key of a cache."""
    return getattr(source, "changes", None)


def joined(first: Source, second: Source, by: Literal["classes", "masks"] = "classes") -> tuple[Source, Source]:
    """Let the numbers of two sources mean the same: those of the first stay, the second's follow by name.

    by: what the two are compared in; where both name it, they must share a name.

    Raises:
        MuseError: they share none, which shows both lists; or one name stands for several classes.
    """
    vocabularies = [vocabulary_of(first), vocabulary_of(second)]
    ours, theirs = (getattr(one, by) for one in vocabularies)
    if ours and theirs and not any(number is not None for number in numbers_in(theirs, ours)):
        kind = "class" if by == "classes" else "class of masks"
        raise MuseError(
            f"{first.name} and {second.name} have no {kind} in common: {first.name} has {shown(ours)}, "
            f"{second.name} has {shown(theirs)}",
            hint=f"give equal classes equal names: '{'classes' if by == 'classes' else 'mask_classes'}' in index.json",
        )
    if vocabularies == [Vocabulary(), Vocabulary()]:
        return first, second
    joint = join(vocabularies)
    if by == "masks" and ours and theirs and joint.vocabulary.masks is None:
        raise MuseError(f"masks of {first.name} and {second.name} hold more than {MOST_MASKS} classes together")
    mine, yours = joint.renumberings
    used = by == "classes"
    return (
        Renumbered(first, joint.vocabulary, mine, labels=used),
        Renumbered(second, joint.vocabulary, yours, labels=used),
    )


def onto(source: Source, names: Sequence[str]) -> tuple[Source, list[str]]:
    """Let the labels of a source be the numbers of a list of class names.

    By name where the list has all names of the source; by number where the source has none, or as many as the list and
    no name in another place. Folders that are called by numbers are those numbers.

    Returns:
        the source with the list's numbers, and notes about names that were not in the list.

    Raises:
        MuseError: neither is so, which shows both lists.
    """
    listed = listed_classes(names)
    own = vocabulary_of(source).classes
    numbers = None if own is None else numbers_in(own, listed)
    notes = []
    if own is not None and numbers is not None and None in numbers:
        numbers = _by_number(own, listed, numbers)
        if numbers is None:
            raise _not_listed(source.name, own, listed)
        notes = [_renamed(own, listed, numbers)]
    labels = None if numbers is None else tuple(number for number in numbers if number is not None)
    return Renumbered(source, Vocabulary(listed), Renumbering(labels, None, len(listed))), notes


def _by_number(own: Classes, listed: Classes, named: Sequence[int | None]) -> tuple[int, ...] | None:
    """Return the number in a list of each class, some of which it does not name; None where that is not clear."""
    folders = [one.keys[0] for one in own]
    if all(folder.isdecimal() for folder in folders) and all(number is None for number in named):
        values = [int(folder) for folder in folders]
        if max(values) < len(listed):
            return tuple(values)
        own_order = tuple(sorted(values).index(value) for value in values)  # they begin at 1, say
        return own_order if len(own) == len(listed) else None
    in_place = all(number in (None, place) for place, number in enumerate(named))
    return tuple(range(len(own))) if in_place and len(own) == len(listed) else None


def _renamed(own: Classes, listed: Classes, numbers: Sequence[int | None]) -> str:
    pairs = [(one.shown, listed[number].shown) for one, number in zip(own, numbers, strict=True) if number is not None]
    other = [f"{name} as {called}" for name, called in pairs if normal(name) != normal(called)]
    return f"{counted(len(other), 'class')} not named in the list, taken by number: {shortened(other)}"


def _not_listed(name: str, own: Classes, listed: Classes) -> MuseError:
    absent = [one.shown for one, number in zip(own, numbers_in(own, listed), strict=True) if number is None]
    differ = f"; not in the list: {shortened(absent)}" if len(absent) < len(own) else ", none of them"
    return MuseError(
        f"{name} has {shown(own)}, and the list of classes has {shown(listed)}{differ}",
        hint="--classes FILE with the names in index.json, or with as many lines, the first for label 0",
    )
