"""What is named as data and is none: a picture, a folder of latents, any other file. Told before anything is read."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from pathlib import Path

from muse_core.command_lines import quote
from muse_core.data.places import folder_of, is_address, is_packed
from muse_core.data.shards import Shard, read_index
from muse_core.errors import MuseError
from muse_core.file_names import NO_FILE, is_picture, is_special
from muse_core.home import expanded

DATA = "data are a folder of images, shards (.tar) or demo"
_LATENTS = "muse-latents/"
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def refuse_other(where: str) -> None:
    """Refuse a place here that is no data; of a folder no more than its index is read, of a file 512 bytes.

    Raises:
        MuseError: naming what it is.
    """
    if is_address(where):
        return
    path = expanded(where)
    if is_special(path):
        raise MuseError(f"{where} is {NO_FILE}", hint=DATA)
    if path.is_file():
        refuse_other_file(path, where)
    elif path.is_dir():
        refuse_latents([str(path)])


def refuse_other_file(path: Path, shown: str) -> None:
    """Refuse a file that is no tar. What has the name of one is let through: readers count its damage.

    Raises:
        MuseError: it is an image, by its name, or something else.
    """
    if path.name.lower().endswith(_TARS) or _begins_a_tar(path):
        return
    if is_picture(path.name):
        raise MuseError(f"{shown} is an image, not a folder of them", hint=f"muse infer {quote(shown)}; {DATA}")
    raise MuseError(f"{shown} is no tar", hint=DATA)


def refuse_other_shards(shards: Iterable[Shard]) -> None:
    """Refuse shards that were found, where some are no tars, or their folder is one of latents.

    Raises:
        MuseError: naming the first.
    """
    here = [shard.where for shard in shards if not is_address(shard.where)]
    for where in here:
        refuse_other_file(Path(where), where)
    refuse_latents(dict.fromkeys(map(folder_of, here)))


def refuse_latents(folders: Iterable[str]) -> None:
    """Refuse folders of latents where images are wanted.

    Raises:
        MuseError: an index says that one is that.
    """
    for folder in folders:
        if holds_latents(folder):
            raise MuseError(
                f"{folder} holds latents, not images",
                hint=f"the images that they were made of; muse inspect {quote(folder)}",
            )


def holds_latents(folder: str | Path) -> bool:
    """Return whether the index of a folder here says that it is one of latents.

    Raises:
        MuseError: the index cannot be read.
    """
    return str((read_index(folder) or {}).get("format", "")).startswith(_LATENTS)


def _begins_a_tar(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            head = stream.read(tarfile.BLOCKSIZE)
    except OSError:  # who reads it says why not
        return True
    if len(head) == tarfile.BLOCKSIZE and not any(head):  # a tar that holds nothing
        return True
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return is_packed(head)
    return True
