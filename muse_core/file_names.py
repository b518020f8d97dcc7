"""What the name of a file says: an image, or something that nobody means as data."""

from __future__ import annotations

from muse_core.image_files import SUFFIXES

PICTURES = frozenset(SUFFIXES)
MASK = "seg.png"
FOLDERS = frozenset({"__macosx", "@eadir", ".ipynb_checkpoints", ".appledouble"})
FILES = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
RESOURCE_FORK = "._"
"""What tar on a Mac puts before a name, for the file that holds its extended attributes."""


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
