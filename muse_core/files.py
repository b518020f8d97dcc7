"""Files that are either complete or not there: everything is written aside and renamed."""

import contextlib
import errno
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from muse_core.errors import MuseError

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

HOLD = ".held"
"""File in a folder that is kept by one process at a time; it says which, and stays behind."""

_held_here: set[Path] = set()


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader, or a power cut, sees the old content or the new, never half of it.

    Parent folders are made. Raises OSError when the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode() if isinstance(content, str) else content
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """Fill a hidden folder; only if the block succeeds it appears as `folder`, in place of an older one."""
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        publish(aside, folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def undo_aside(parent: Path, prefix: str) -> list[str]:
    """Undo what `written_aside` left of folders whose names begin with `prefix` when its process was killed.

    Half-filled ones are removed; one that was being replaced, and has no successor yet, is put back. Only for who knows
    that nobody writes there. Returns the names of what was removed.
    """
    for old in sorted(parent.glob(f".{prefix}*.old")):
        target = parent / old.name[1:].rsplit(".", 2)[0]
        if not target.exists():
            old.rename(target)
    left = sorted(parent.glob(f".{prefix}*"))
    for one in left:
        shutil.rmtree(one)
    return [one.name for one in left]


def publish(aside: Path, folder: Path) -> None:
    """Make a finished folder appear as `folder`, in place of an older one."""
    for file in aside.rglob("*"):
        _sync_file(file)
    _replace_folder(aside, folder)
    _sync_folder(folder.parent)


def _replace_folder(new: Path, target: Path) -> None:
    if not target.exists():
        new.rename(target)
        return
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    target.rename(old)
    new.rename(target)
    shutil.rmtree(old)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep a folder, made if need be, to this process; nobody else gets it until the block or the process ends.

    Where the file system knows no locks, nothing is kept.

    Raises:
        MuseError: another process has it, or another part of this one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    here = folder.resolve()
    if here in _held_here:
        raise _in_use(folder, "this process")
    with (folder / HOLD).open("a+", encoding="utf-8") as file:
        if not _locked(file.fileno()):
            file.seek(0)
            raise _in_use(folder, file.read().strip() or "another process")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        _held_here.add(here)
        try:
            yield
        finally:
            _held_here.discard(here)


def _locked(handle: int) -> bool:
    if fcntl is None:
        return True
    try:
        # Not flock, which a forked reader would share and keep after its parent was killed.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


def _in_use(folder: Path, who: str) -> MuseError:
    return MuseError(f"{folder} is in use: {who} writes to it", hint=f"wait for it, or --out {free_name(folder)}")


def contents(folder: Path) -> list[Path]:
    """List what is in a folder, less the file that keeps it."""
    return [entry for entry in folder.iterdir() if entry.name != HOLD]


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write one JSON document, indented, atomically."""
    write_atomically(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        MuseError: the file is missing, is not JSON, or is not an object.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MuseError(f"{path} does not exist") from None
    except (OSError, ValueError, RecursionError) as error:
        raise MuseError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(document, dict):
        raise MuseError(f"{path} holds {type(document).__name__}, expected a JSON object")
    return document


def free_name(path: Path) -> Path:
    """Return `path`, or the first of path-2, path-3, ... that does not exist."""
    candidate, number = path, 2
    while candidate.exists():
        candidate = path.with_name(f"{path.name}-{number}")
        number += 1
    return candidate


def _sync_file(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    # A rename is only durable once its folder is; file systems that cannot sync a folder are left to themselves.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
