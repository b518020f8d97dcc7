"""What the name of a file says, and what it names: an image, something that nobody means as data, no file at all."""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections.abc import Sequence

from muse_core.image_files import SUFFIXES

PICTURES = frozenset(SUFFIXES)
MASK = "seg.png"
FOLDERS = frozenset({"__macosx", "@eadir", ".ipynb_checkpoints", ".appledouble"})
FILES = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
RESOURCE_FORK = "._"
"""What tar on a Mac puts before a name, for the file that holds its extended attributes."""

NO_FILE = "no file but a pipe, socket or device"
"""Why something with a name is never opened: whoever reads a pipe waits for its writer, for ever if there is none."""


def is_special(path: str | os.PathLike[str]) -> bool:
    """Return whether there is something that is neither a file nor a folder."""
    try:
        return is_special_mode(os.stat(path).st_mode)
    except OSError:
        return False


def is_special_mode(mode: int) -> bool:
    """Return the same of a mode as `os.stat` gives it."""
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def special_in_words(where: str, names: Sequence[str]) -> str:
    """Say that what is no file is left out: how many there are, and which is the first."""
    return f"left out of {where}: {len(names):,} x {NO_FILE} (first: {names[0]})"


def refuse_special(path: str | os.PathLike[str]) -> None:
    """Refuse to open what is no file.

    Raises:
        OSError: naming it.
    """
    if is_special(path):
        raise OSError(errno.EINVAL, NO_FILE, os.fspath(path))


def parted(pattern: str) -> tuple[str, str]:
    """Split a pattern into the folder that has exactly this name, "" where none has, and what it matches there.

    The folder ends with a slash: signs of patterns in its name are part of it.
    """
    end = len(pattern)
    while (end := pattern.rfind("/", 0, end)) >= 0:
        if os.path.isdir(pattern[: end + 1]):
            return pattern[: end + 1], pattern[end + 1 :]
    return "", pattern


def matches(pattern: str) -> list[str]:
    """Return the sorted names that a pattern with wildcards matches, in a folder that is taken literally."""
    folder, rest = parted(pattern)
    return sorted(glob.glob(glob.escape(folder) + rest, recursive=True))


def is_picture(name: str) -> bool:
    """Return whether a file counts as an image by its name; its content is looked at later."""
    lower = name.lower()
    return lower.rpartition(".")[2] in PICTURES and not lower.startswith(".") and not lower.endswith(f".{MASK}")


def stem_of(name: str) -> str:
    """Return a name without its last suffix."""
    return name.rpartition(".")[0] or name


def is_clutter(path: str) -> bool:
    """Return whether archivers, desktops or notebooks put a file beside data; folders are parted by slashes."""
    *folders, name = path.rstrip("/").lower().split("/")
    if name.startswith(RESOURCE_FORK) or name in FILES or name in FOLDERS:
        return True
    return any(folder in FOLDERS or folder.startswith(RESOURCE_FORK) for folder in folders)
