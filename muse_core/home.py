"""The user's own folders: `~` in paths, and where caches go."""

import atexit
import os
import shutil
import tempfile
import warnings
from pathlib import Path

from muse_core.errors import MuseWarning

CACHE = "MUSE_CACHE"


def expanded(path: str | Path) -> Path:
    """Return a path with `~` and `~name` replaced; where nobody has that name, or a home, the path as it stands."""
    return Path(os.path.expanduser(path))  # Path.expanduser raises where there is nobody


def user_cache() -> Path:
    """Return the folder in which the user's programs keep what they can make again; it need not exist."""
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache")


def cache_place() -> Path:
    """Return where caches are kept if that can be written: $MUSE_CACHE, or a folder in the user's cache."""
    return expanded(os.environ.get(CACHE) or user_cache() / "muse")


def cache_folder() -> Path:
    """Return the folder of `cache_place` in which features, embeddings and the places of runs are kept.

    One that cannot be written costs a warning: what is kept then lies in a temporary folder until the process ends.
    """
    asked = cache_place()
    problem = _refusal(asked)
    if not problem:
        return asked
    aside = Path(tempfile.mkdtemp(prefix="muse-cache-"))
    atexit.register(shutil.rmtree, aside, ignore_errors=True)
    os.environ[CACHE] = str(aside)  # for the rest of this process, and for those it starts
    warnings.warn(f"nothing is kept for the next time: {asked}: {problem} ({CACHE} names the cache)", MuseWarning, 2)
    return aside


def _refusal(folder: Path) -> str:
    if folder.parts[:1] and folder.parts[0].startswith("~"):
        return "no such home folder"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".muse-"):
            return ""
    except OSError as error:
        return error.strerror or str(error)
