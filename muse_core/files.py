"""Files that are either complete or not there: everything is written aside and renamed."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from muse_core.errors import MuseError


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
    except (OSError, ValueError) as error:
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
