"""Where samples come from: one interface for built-in scenes, shards and folders of images, read in lanes.

A lane is a fixed logical reader, independent of processes and workers. It is an endless, deterministic sequence with
exactly one item per raw sample: a `Sample`, or a `Skip` where one was damaged. A lane and a count are therefore all
that is needed to continue at the exact next sample.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import count as count_from
from typing import Protocol, runtime_checkable

from muse_core.data.places import is_address, is_here
from muse_core.data.sample import Sample, Skip
from muse_core.data.scenes import scene_at
from muse_core.data.scenes.splits import find_split
from muse_core.data.vocabulary import Vocabulary, scene_classes
from muse_core.errors import ExitCode, MuseError
from muse_core.home import expanded

Item = Sample | Skip

SCENE_SIZE = 64
SCENE_COUNT = 2000
_WEIGHT = re.compile(r"[0-9]*\.?[0-9]+")
_GRAMMAR = re.compile(r" \+ |::|[{}*?\[\]]")  # what a source is written with, beside paths
_SEED_STRIDE = 10**7  # each run seed gets its own stretch of scenes: ten million before it meets the next


@runtime_checkable
class Source(Protocol):
    """Anything that can be read in lanes for training and once for evaluation.

    name: as it was asked for. fields: what samples carry, of image, caption, label, mask.
    count: samples that `once` yields in all, None when that is not known without reading.
    max_lanes: how many lanes it can feed, None for any number.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def fields(self) -> frozenset[str]: ...  # noqa: D102
    @property
    def count(self) -> int | None: ...  # noqa: D102
    @property
    def max_lanes(self) -> int | None: ...  # noqa: D102

    def lane(self, index: int, lanes: int, *, seed: int, start: int = 0) -> Iterator[Item]:
        """Lane `index` of `lanes` from raw sample `start` on, for ever: one item per raw sample."""
        ...

    def once(self, index: int = 0, readers: int = 1, run: int = 1) -> Iterator[Item]:
        """Every raw sample once, in order; `readers` share them in turns of `run`, and this is number `index`."""
        ...


def reader_of(number: int, readers: int, run: int = 1) -> int:
    """Say which of `readers` reads raw sample `number`, when they take turns of `run` samples."""
    return number // run % readers


class SceneSource:
    """Built-in scenes: fresh for ever when read in lanes, the first `count` of the split when read once."""

    fields = frozenset({"image", "caption", "label", "mask"})
    max_lanes = None

    def __init__(self, split: str = "train", *, size: int = SCENE_SIZE, count: int = SCENE_COUNT) -> None:
        self.split, self.size, self.count = split, size, count
        self.name = f"demo:{split}"
        self._capacity = find_split(split).capacity

    @property
    def vocabulary(self) -> Vocabulary:
        """What labels and the values of masks mean."""
        return Vocabulary(scene_classes(), scene_classes())

    def lane(self, index: int, lanes: int, *, seed: int, start: int = 0) -> Iterator[Item]:
        """Scene `index + lanes * position`, shifted to the stretch that belongs to the seed."""
        first = seed * _SEED_STRIDE + index
        for position in count_from(start):
            yield self._sample((first + lanes * position) % self._capacity)

    def once(self, index: int = 0, readers: int = 1, run: int = 1) -> Iterator[Item]:
        """Scenes 0 to `count` of the split."""
        for scene in range(self.count):
            if reader_of(scene, readers, run) == index:
                yield self._sample(scene)

    def _sample(self, index: int) -> Sample:
        scene = scene_at(self.split, index, self.size)
        return Sample(f"{self.split}-{index:09d}", scene.image, scene.caption, scene.label, scene.class_mask())


def open_source(where: str, *, split: str = "train", size: int | None = None) -> Source:
    """Open built-in scenes, shards or a folder of images, or several of them mixed.

    Args:
        where: "demo", "demo:SPLIT" or "demo:SPLIT:COUNT" for scenes; else a folder of tars (or of one folder of tars
            per split), a tar, a glob, or a brace pattern such as "data/{000000..000127}.tar", as paths or as addresses
            (https://, s3://, whatever fsspec knows). A folder here without tars is read as image files. "0.7 a/ + 0.3
            b/" draws each sample from a/ or b/ in this ratio. A folder or file that has exactly this name is meant
            before any of that.
        split: which split, where `where` does not say.
        size: side of scenes in pixels; shards keep the size they were written with.
    """
    weighted = _parts(where)
    if len(weighted) > 1:
        from muse_core.data.mixing import MixedSource

        return MixedSource([_open_one(one, split, size) for _, one in weighted], [weight for weight, _ in weighted])
    return _open_one(where, split, size)


def refuse_no_data(where: str) -> None:
    """Refuse what `open_source` would, as far as names and the beginnings of files tell: at once, however much it is.

    Raises:
        MuseError: a part of it is a single picture, another file, or a folder of latents.
    """
    from muse_core.data.named import refuse_other

    for _, part in _parts(where):
        if not _is_scenes(part):
            refuse_other(part)


def _parts(where: str) -> list[tuple[float, str]]:
    """Return the parts of a mix with their weights, or all of what is no mix."""
    parts = [where] if is_here(where) else where.split(" + ")
    return [_weighted(part.strip()) for part in parts] if len(parts) > 1 else [(1.0, where)]


def absolute(where: str) -> str:
    """Return a source as it is named from any folder; built-in scenes and addresses stay as typed."""
    if is_here(where) and not _is_scenes(where):
        return str(expanded(where).absolute())
    here = os.getcwd()
    if _GRAMMAR.search(here):  # behind the name of such a folder a path would be read as something else
        return where
    return " + ".join(_absolute(part) for part in where.split(" + "))


def _absolute(part: str) -> str:
    weight, space, rest = part.partition(" ")
    if _WEIGHT.fullmatch(weight) and rest.strip():
        return f"{weight}{space}{_absolute(rest)}"
    if _is_scenes(part) or is_address(part):
        return part
    return "::".join(str(expanded(one).absolute()) for one in part.split("::"))


def _is_scenes(where: str) -> bool:
    """Return whether built-in scenes are meant, also where a folder has their name: ./demo is that folder."""
    return where == "demo" or where.startswith("demo:")


def _weighted(part: str) -> tuple[float, str]:
    weight, _, where = part.partition(" ")
    if _WEIGHT.fullmatch(weight) and where:
        return float(weight), where.strip()
    return 1.0, part


def remarks_of(source: object) -> tuple[str, ...]:
    """Return what whoever reads a source should know about what is read, in sentences."""
    return tuple(getattr(source, "remarks", ()))


def _open_stored(where: str, split: str) -> Source:
    from muse_core.data.folders import images_beside_tars, open_folder
    from muse_core.data.named import refuse_other, refuse_other_shards
    from muse_core.data.shards import ShardSource

    refuse_other(where)
    folder = None if is_address(where) else open_folder(where, split)
    if folder is not None:
        return folder
    shards = ShardSource(where, split=split)
    refuse_other_shards(shards.shards)
    shards.remarks = () if is_address(where) else images_beside_tars(where, split)
    return shards


def _open_one(where: str, split: str, size: int | None) -> Source:
    if not _is_scenes(where):
        return _open_stored(where, split)
    parts = where.split(":")
    name = parts[1] if len(parts) > 1 else split
    amount = parts[2] if len(parts) > 2 else str(SCENE_COUNT)
    if len(parts) > 3 or not amount.isdecimal() or int(amount) < 1:
        raise MuseError(f"'{where}' is not a set of scenes", hint="demo:val:2000", exit_code=ExitCode.USAGE)
    return SceneSource(name, size=size or SCENE_SIZE, count=int(amount))
