"""The identity of a source, and whether a file of it is read otherwise by another version of the reader."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from muse_core.data.classes import stored
from muse_core.data.decode import IMAGE_SUFFIXES, RawSample
from muse_core.data.folders import FolderSource
from muse_core.data.mixing import MixedSource
from muse_core.data.places import is_address
from muse_core.data.shards import Shard, ShardSource, read_shard
from muse_core.data.source import SceneSource, Source
from muse_core.errors import BadMemberError
from muse_core.identity import ENDS, WHOLE, Content, Fact, Identity, Part, look
from muse_core.image_files import ImageFile


def identity_of(source: Source, known: Identity | None = None) -> Identity:
    """Return what a source holds.

    Of shards: names, sizes, and the checksums that index.json has; where it has none, a hash of the first and last MiB.
    Of shards at addresses: what their index.json says, and nothing is fetched. Of folders: names, sizes, and a hash of
    the first and last 64 KiB of each image and what lies beside it. Of built-in scenes: their artwork.

    Args:
        source: from `open_source`.
        known: what was recorded before; where a file is as it was, it is not looked at again.
    """
    source = stored(source)
    if isinstance(source, MixedSource):
        pairs = zip(source.sources, source.weights.tolist(), strict=True)
        return Identity(tuple(_part(one, known, {"ratio": round(weight, 9)}) for one, weight in pairs))
    return Identity((_part(source, known, {}),))


def _part(source: Source, known: Identity | None, facts: dict[str, Fact]) -> Part:
    if isinstance(source, SceneSource):
        scenes: dict[str, Fact] = {"scenes": source.split, "size": source.size, "count": source.count}
        return Part({**facts, **scenes, "artwork": artwork()})
    if isinstance(source, ShardSource):
        seen = known.known() if known else {}
        hashed = {file.name for file in known.files if file.digest.startswith(ENDS)} if known else set()
        return Part(facts, tuple(_content(shard, seen, shard.name in hashed) for shard in source.shards))
    if isinstance(source, FolderSource):
        seen = known.known() if known else {}
        return Part(facts, tuple(_file(path, name, seen) for name, path in source.files()))
    # A source of another kind says no more of itself than its name.
    return Part({**facts, "count": source.count}, (Content(source.name),))


def _content(shard: Shard, seen: Mapping[str, Content], by_ends: bool) -> Content:
    """by_ends: it was recorded by its ends, which can only be compared with ends."""
    if is_address(shard.where):
        return Content(shard.name, shard.size, f"{WHOLE}{shard.sha256}" if shard.sha256 else "")
    if shard.sha256 and not by_ends:
        return Content(shard.name, shard.size, f"{WHOLE}{shard.sha256}")
    return _file(Path(shard.where), shard.name, seen, shard.size, small=False)


def _file(
    path: Path, name: str, seen: Mapping[str, Content], size: int | None = None, *, small: bool = True
) -> Content:
    try:
        return look(path, name, seen, small=small)
    except OSError:  # readers count what cannot be read; here it cannot be compared
        return Content(name, size)


@cache
def artwork() -> str:
    """Return the version of the drawings that scenes are composed of: a hash of their files."""
    digest = hashlib.sha256()
    folder = files("muse_core.data.scenes") / "artwork"
    for file in sorted(folder.iterdir(), key=lambda one: one.name):
        if file.name.endswith(".webp"):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def has_affected(source: Source) -> bool:
    """Return whether some image of a source is read otherwise now than by reader 1.

    Headers are looked at; of addresses nothing is fetched, and the answer is yes.
    """
    source = stored(source)
    if isinstance(source, MixedSource):
        return any(has_affected(one) for one in source.sources)
    if isinstance(source, SceneSource):
        return False
    return not isinstance(source, ShardSource) or any(map(is_affected_shard, source.shards))


def is_affected_shard(shard: Shard) -> bool:
    """Return whether a shard holds an image that is read otherwise now than by reader 1."""
    return is_address(shard.where) or any(is_affected(image) for image in _images(shard))


def _images(shard: Shard) -> Iterator[bytes]:
    for item in read_shard(shard):
        if isinstance(item, RawSample):
            yield from (item.members[suffix] for suffix in IMAGE_SUFFIXES if suffix in item.members)


def is_affected(content: bytes) -> bool:
    """Return whether this reader reads an image otherwise than reader 1; not what neither can open."""
    try:
        return ImageFile(content).is_affected
    except BadMemberError:
        return False
