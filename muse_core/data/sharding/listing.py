"""What a source holds, as `muse shard` is told to see it: any tree, or a data set in its published layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from muse_core.data.coverage import Coverage
from muse_core.data.labels import in_order
from muse_core.data.sharding.items import Item, Left
from muse_core.data.sharding.options import ShardOptions
from muse_core.data.sharding.places import Place
from muse_core.data.sharding.tables import CAPTION_COLUMNS, CLASS_COLUMNS, Table
from muse_core.data.sharding.tars import tars
from muse_core.data.sharding.tree import Beside, Masks, tree
from muse_core.data.vocabulary import imagenet_classes
from muse_core.errors import MuseError
from muse_core.file_names import MASK, is_clutter
from muse_core.text_files import lines_of, text_in

IMAGENET_ROOTS = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")
IMAGENET_VAL_TABLE = "LOC_val_solution.csv"
ADE_ROOTS = ("", "ADEChallengeData2016")
ADE_SPLITS = {"training": "train", "validation": "val"}


@dataclass(frozen=True)
class Asked:
    """What was asked for beside images, by what `Item.lacks` calls it; it holds when all items have been listed."""

    coverages: Mapping[str, Coverage] = field(default_factory=dict)
    remarks: Callable[[], list[str]] = list

    def judge(self) -> list[str]:
        """Return what is to be said of it; how many images have it is counted once it is known which are stored.

        Raises:
            MuseError: something fits no image at all.
        """
        for coverage in self.coverages.values():
            coverage.refuse_none()
        return self.remarks()


@dataclass
class Listing:
    """Items of a source, and what their labels mean.

    order: label keys in the order of their indices; None when it is to be decided from the folders that were listed.
    names: of the classes, when they differ from the keys. numbers: labels are the indices themselves. splits: what the
    source itself is divided into. asked: to be judged when all items are listed. more: further facts for index.json.
    """

    items: Iterator[Item | Left]
    order: tuple[str, ...] | None = ()
    names: tuple[str, ...] = ()
    numbers: bool = False
    splits: tuple[str, ...] = ()
    asked: Asked = field(default_factory=Asked)
    more: Mapping[str, Any] = field(default_factory=dict)


def open_listing(place: Place, options: ShardOptions) -> Listing:
    """Begin to list a source.

    Raises:
        MuseError: it is not there, or not laid out as the recipe expects.
    """
    if not place.is_folder():
        raise MuseError(f"{place.path()} is not a folder", hint="muse shard FOLDER_OF_PICTURES")
    return _RECIPES[options.recipe](place) if options.recipe else _any_tree(place, options)


def _any_tree(place: Place, options: ShardOptions) -> Listing:
    captions, classes = options.table
    beside = Beside(
        txt=options.captions in ("auto", "txt"),
        masks=Masks.of(options.masks) if options.masks else None,
        captions=Table(captions, CAPTION_COLUMNS, source=_here(place)) if captions else None,
        classes=Table(classes, CLASS_COLUMNS, labels=True, source=_here(place)) if classes else None,
    )
    if beside.masks is not None and not beside.masks.place.is_folder():
        raise MuseError(f"{options.masks} is not a folder of masks")
    items = _then_unused(tree(place, beside), beside)
    if beside.classes is None:
        return Listing(items, order=None if options.classes in ("auto", "folders") else (), asked=_asked(beside))
    values = beside.classes.values() - {""}
    numbers = beside.classes.numbered
    return Listing(items, order=() if numbers else in_order(values), numbers=numbers, asked=_asked(beside))


def _here(place: Place) -> str | None:
    return place.path() if place.is_local else None


def _asked(beside: Beside) -> Asked:
    tables = tuple(filter(None, (beside.captions, beside.classes)))
    asked = {"captions": beside.captions, "classes": beside.classes, "masks": beside.masks}
    coverages = {kind: one.coverage for kind, one in asked.items() if one is not None}
    mixed = beside.classes.mixed() if beside.classes else ""
    return Asked(coverages, lambda: [words for words in (mixed, *(one.in_words() for one in tables)) if words])


def _then_unused(items: Iterator[Item | Left], beside: Beside) -> Iterator[Item | Left]:
    yield from items
    for table in filter(None, (beside.captions, beside.classes)):
        name = table.path.rpartition("/")[2]
        yield from (Left(row, f"{name} names it, but there is no such picture") for row in table.unused())


def _imagenet(place: Place) -> Listing:
    """Folders named by WordNet ids, under train/ and val/ or not; val may be flat with Kaggle's table beside it."""
    wnids, names = imagenet_classes()
    root = next((root for root in IMAGENET_ROOTS if _has(place, root, "train") or _has(place, root, "val")), None)
    known = frozenset(wnids)
    if root is None:
        if not any(entry.name in known for entry in place.entries()):
            raise MuseError(
                f"{place.path()} holds neither train/ nor val/ nor folders such as {wnids[0]}",
                hint="SOURCE is the folder that holds train/ and val/",
            )
        return Listing(_of_classes(tree(place, Beside(txt=False)), known), wnids, names, more={"class_keys": wnids})
    splits = tuple(split for split in ("train", "val") if _has(place, root, split))
    items = (item for split in splits for item in _imagenet_split(place, root, split, known))
    return Listing(items, wnids, names, splits=splits, more={"class_keys": wnids})


def _imagenet_split(place: Place, root: str, split: str, known: frozenset[str]) -> Iterator[Item | Left]:
    folder = place.folder(f"{root}/{split}" if root else split)
    table = None
    if not any(entry.is_folder and not is_clutter(entry.name) for entry in folder.entries()):
        if not place.exists(IMAGENET_VAL_TABLE):
            raise MuseError(
                f"{folder.path()} has no class folders, and {place.path(IMAGENET_VAL_TABLE)} is not there",
                hint=f"sort the pictures into folders by class, or put {IMAGENET_VAL_TABLE} there",
            )
        table = Table(place.path(IMAGENET_VAL_TABLE), CLASS_COLUMNS)
    for item in tree(folder, Beside(txt=False, classes=table)):
        if isinstance(item, Item):  # Kaggle's table has boxes behind the class
            item = item._replace(split=split, label=item.label.partition(" ")[0])
        yield from _of_classes([item._replace(name=f"{split}/{item.name}")], known)


def _of_classes(items: Iterator[Item | Left] | list[Item | Left], known: frozenset[str]) -> Iterator[Item | Left]:
    for item in items:
        if isinstance(item, Item) and item.label not in known:
            yield Left(item.name, f"class {item.label or 'none'} is not one of ImageNet-1k", error=True)
        else:
            yield item


def _ade20k(place: Place) -> Listing:
    """The scene-parsing layout: images/training with annotations/training, and the same of validation."""
    root = next((root for root in ADE_ROOTS if _has(place, root, "images/training", "images/validation")), None)
    if root is None:
        raise MuseError(
            f"{place.path()} holds no images/training and no images/validation",
            hint="SOURCE is the folder ADEChallengeData2016",
        )
    base = place.folder(root) if root else place
    found = {folder: split for folder, split in ADE_SPLITS.items() if base.is_folder(f"images/{folder}")}
    items = (item for folder, split in found.items() for item in _ade_split(base, folder, split))
    names = _ade_names(base)
    return Listing(items, splits=tuple(found.values()), more={"mask_classes": names} if names else {})


def _ade_split(base: Place, folder: str, split: str) -> Iterator[Item | Left]:
    annotations = f"annotations/{folder}"
    masks = Masks(base.folder(annotations), annotations, Coverage(annotations))
    for item in tree(base.folder(f"images/{folder}"), Beside(txt=False, masks=masks)):
        named = item._replace(name=f"{folder}/{item.name}")
        if isinstance(named, Left):
            yield named
        elif MASK not in named.parts:
            yield Left(named.name, "no annotation", error=True)
        else:
            yield named._replace(split=split, label="")


def _ade_names(base: Place) -> list[str]:
    """What mask values 1, 2, ... mean, from objectInfo150.txt; value 0 is "other"."""
    if not base.exists("objectInfo150.txt"):
        return []
    lines = lines_of(text_in(base.read("objectInfo150.txt"), base.path("objectInfo150.txt")))
    return [line.split("\t")[4].strip() for line in lines[1:] if line.count("\t") >= 4]


def _pairs(place: Place) -> Listing:
    """Pictures with captions: tars of them, or the same unpacked into folders."""
    folders = ["", *(entry.name for entry in place.entries() if entry.is_folder)]
    has_tars = any(
        entry.name.lower().endswith(".tar") and not entry.is_special and not is_clutter(entry.name)
        for folder in folders
        for entry in place.entries(folder)
    )
    if has_tars:
        return Listing(tars(place))
    return Listing(item._replace(label="") if isinstance(item, Item) else item for item in tree(place, Beside()))


def _has(place: Place, root: str, *folders: str) -> bool:
    return any(place.is_folder(f"{root}/{folder}" if root else folder) for folder in folders)


_RECIPES: Mapping[str, Callable[[Place], Listing]] = {
    "imagenet1k": _imagenet,
    "ade20k": _ade20k,
    "cc12m": _pairs,
    "blip3o": _pairs,
}
