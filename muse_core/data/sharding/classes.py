"""Which index each item's class has: by folders, by a table, or by the labels that lie beside the pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from muse_core.data.labels import BadLabelError, in_order
from muse_core.data.sample import UNKNOWN_LABEL
from muse_core.data.sharding.items import Item, Left, Looked
from muse_core.errors import MuseError

NONE_OF_THEM = "label is none of the classes"

LOOK_LIKE_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


class FolderClasses:
    """What decides whether folders are classes: all pictures exactly one folder deep, in several, without captions.

    items: images noted so far. captioned: how many of them have a caption or a json. first: the first of these.
    """

    def __init__(self) -> None:
        self.items = 0
        self.captioned, self.first = 0, ""
        self._spelled: dict[str, str] = {}  # the first folder of each label, as the disk has it
        self._twins: tuple[str, str] | None = None
        self._one_deep = True

    def note(self, entry: Item | Left) -> None:
        """Take in one entry of a listing."""
        if isinstance(entry, Item):
            self.items += 1
            folder = entry.name.partition("/")[0]
            first = self._spelled.setdefault(entry.label, folder)
            if entry.label and first != folder:
                self._twins = self._twins or (first, folder)
            self._one_deep &= entry.name.count("/") == 1
            if entry.text or any(part.size for kind, part in entry.parts.items() if kind in ("txt", "json")):
                self.captioned += 1
                self.first = self.first or entry.name

    def folders(self, classes: str) -> tuple[str, ...]:
        """Return the classes in their order, none where folders are no classes; `classes` as in `ShardOptions`.

        Raises:
            BadLabelError: two names are one number, or differ in nothing but how Unicode writes them.
        """
        if classes != "folders" and (self.captioned or not self._are_likely):
            return ()
        if self._twins:
            one, other = map(ascii, self._twins)
            raise BadLabelError(f"{one} and {other} are one name in two spellings of Unicode, and two classes")
        return in_order(self._spelled.keys() - {""})

    @property
    def _are_likely(self) -> bool:
        return self._one_deep and (len(self._spelled) > 1 or self._twins is not None)

    def in_words(self, classes: str) -> str:
        """Say that captions keep folders from being classes, "" where they do not."""
        if classes != "auto" or not self._are_likely or not self.captioned:
            return ""
        return (
            f"folders are not taken for classes, as {self.captioned:,} of {self.items:,} images have a caption or json "
            f"(first: {self.first}); --classes folders takes them"
        )


@dataclass(frozen=True)
class Numbering:
    """The indices of classes.

    names: in their order, of folders, of a table or of labels. numbers: those of a table are the indices themselves.
    """

    names: tuple[str, ...] = ()
    numbers: bool = False
    index: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def of(names: Iterable[str], numbers: bool = False) -> Numbering:
        """Number names in their order."""
        ordered = tuple(names)
        return Numbering(ordered, numbers, {name: number for number, name in enumerate(ordered)})

    def label(self, item: Item, looked: Looked) -> tuple[int | None, str]:
        """Return the label to store, None for what lies beside the picture already, and what is wrong with it."""
        if self.numbers and item.label:
            return int(item.label), ""
        if item.label in self.index:
            return self.index[item.label], ""
        if looked.bad_label:
            return None, looked.bad_label
        if isinstance(looked.label, str) and (self.names or self.numbers):
            found = self.index.get(looked.label)
            return found, NONE_OF_THEM if found is None else ""
        # A number of its own would be another class where the indices are those of names.
        return UNKNOWN_LABEL if self.names and looked.label != UNKNOWN_LABEL else None, ""


def words_as_classes(found: Iterable[tuple[Item, Looked]]) -> tuple[str, ...]:
    """Return the classes that labels beside pictures name, in their order; none where they are numbers.

    Raises:
        MuseError: some are names and others numbers.
    """
    words: dict[str, str] = {}
    number = ""
    for item, looked in found:
        if isinstance(looked.label, str):
            words.setdefault(looked.label, item.name)
        elif looked.label != UNKNOWN_LABEL:
            number = number or item.name
    if words and number:
        word, name = next(iter(words.items()))
        raise MuseError(
            f"the label of {name} is a name ({word[:40]!r}) and that of {number} a number",
            hint="--classes csv:FILE names the class of every image, --classes none takes none",
        )
    return in_order(words)
