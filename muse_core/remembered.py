"""Runs that lie outside the runs folder, remembered so that `latest` and `muse ls runs` find them.

Each is one small file in the cache that holds its path: several processes at once are not in each other's way, and one
that is lost costs nothing but typing the path. Nothing in it is trusted: an entry counts when this user wrote it, when
it is whole, and when its path leads to a run. A run that was moved is remembered again once it is resumed.
"""

import contextlib
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from muse_core.files import write_atomically
from muse_core.home import cache_folder, cache_place
from muse_core.run_files import is_run

FOLDER = "runs"
LONGEST = 4096
"""Bytes of a path."""
STALE_S = 90 * 24 * 3600
"""Seconds for which a run that is not there, perhaps because a disk is not, is remembered all the same."""


def remember(run: Path) -> None:
    """Note where a run lies.

    Raises:
        OSError: the disk refuses.
    """
    path = os.fsencode(run.resolve())
    folder = cache_folder() / FOLDER
    write_atomically(folder / _name(path), path)
    for entry, known in _entries(folder):
        if not is_run(known) and entry.stat().st_mtime < time.time() - STALE_S:
            entry.unlink(missing_ok=True)


def remembered() -> list[Path]:
    """List the runs that were noted and are still there; an empty list where nothing can be read."""
    return sorted(path for _, path in _entries(cache_place() / FOLDER) if is_run(path))


def _entries(folder: Path) -> Iterator[tuple[Path, Path]]:
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = [name for name in os.listdir(folder) if re.fullmatch(r"[0-9a-f]{32}", name)]
    for name in names:
        with contextlib.suppress(OSError):
            path = _path_in(folder / name)
            if path is not None:
                yield folder / name, path


def _path_in(entry: Path) -> Path | None:
    state = entry.lstat()
    is_own = not hasattr(os, "getuid") or state.st_uid == os.getuid()
    if not stat.S_ISREG(state.st_mode) or not is_own or state.st_size > LONGEST:
        return None
    content = entry.read_bytes()
    path = Path(os.fsdecode(content))
    return path if _name(content) == entry.name and path.is_absolute() else None


def _name(path: bytes) -> str:
    return hashlib.sha256(path).hexdigest()[:32]
