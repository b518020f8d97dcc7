"""Files that are either complete or not there: everything is written aside and renamed."""

import contextlib
import errno
import hashlib
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from muse_core.command_lines import quote
from muse_core.errors import FULL, MuseError, NotWritableError
from muse_core.json_text import json_text as plain_json, utf8
from muse_core.text_files import json_of

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

HOLD = ".held"
"""File in a folder that is kept by one process at a time; it says which, and stays behind."""

Strangers = Callable[[Path], Sequence[str]]
"""Lists what is in a folder and was not written by muse."""

_written_here = count()
_LOOKING_S = 0.02
"""Longer than `is_abandoned` keeps a folder to see whether somebody does."""
_LONG_NAME = 200
"""Bytes; file systems end at 255."""
_scratch_here: set[Path] = set()
_held_here: set[Path] = set()


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader, or a power cut, sees the old content or the new, never half of it.

    Parent folders are made. Raises OSError when the disk refuses.
    """
    with file_aside(path, utf8(content) if isinstance(content, str) else content) as aside:
        aside.replace(path)
    sync_folder(path.parent)


@contextmanager
def file_aside(path: Path, content: bytes) -> Iterator[Path]:
    """Write a hidden file beside `path`, flushed to the disk; it is gone after the block, unless renamed."""
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    # A name that is nearly as long as names may be leaves no room for more.
    stem = path.name if len(os.fsencode(path.name)) < _LONG_NAME else hashlib.sha256(os.fsencode(path.name)).hexdigest()
    aside = path.with_name(f".{stem}.{os.getpid()}.{next(_written_here)}.tmp")
    _scratch_here.add(aside)
    try:
        with naming(path):
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield aside
    finally:
        aside.unlink(missing_ok=True)
        _scratch_here.discard(aside)


@contextmanager
def naming(path: Path, inside: Path | None = None) -> Iterator[None]:
    """Let a refusal to write name a path as it was asked for: users know nothing of what is made aside.

    inside: of what is refused only files in this folder, and what is named already; the block also reads other files.

    Raises:
        NotWritableError: the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        full = error.filename is None and error.errno in FULL
        if inside is None or full or isinstance(error, NotWritableError) or _lies_in(error.filename, inside):
            raise NotWritableError(path, error) from error
        raise


def _lies_in(name: object, folder: Path) -> bool:
    return isinstance(name, str | os.PathLike) and os.path.abspath(name).startswith(os.path.abspath(folder))


def refuse_unwritable(path: Path, *, into: bool = False) -> None:
    """Refuse a file or folder that cannot be made: what is above it is a link to nothing, a file, or not ours to write.

    into: files are to be written into it, if it is there.

    Raises:
        MuseError: naming the path, and what is in its way.
    """
    above = next((one for one in (*([path] if into else []), *path.parents) if os.path.lexists(one)), None)
    if above is None:  # the folder in which this was typed is gone
        return
    if above.is_symlink() and not above.exists():
        target = os.readlink(above)
        raise MuseError(f"{path} cannot be written: {above} is a link to {target}, which is not there", _ELSEWHERE)
    if not above.is_dir():
        raise MuseError(f"{path} cannot be written: {above} is a file, not a folder", _ELSEWHERE)
    if not os.access(above, os.W_OK | os.X_OK):
        raise MuseError(
            f"{path} cannot be written: nothing may be written to {above}", "a folder that you may write to"
        )


_ELSEWHERE = "another place to write to"


def remove_scratch() -> None:
    """Remove what this process has begun to write and not finished: it is about to end in the middle of its work."""
    for aside in list(_scratch_here):
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(OSError):
            aside.unlink()


def anything(folder: Path) -> list[str]:
    """List what is in a folder: all of it is somebody's."""
    return sorted(entry.name for entry in folder.iterdir())


@contextmanager
def written_aside(folder: Path, strangers: Strangers = anything) -> Iterator[Path]:
    """Fill a hidden folder; only if the block succeeds it appears as `folder`.

    An older one gives way if `strangers` finds nothing in it that is not muse's.
    """
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    with naming(folder):
        aside.mkdir(parents=True)
    _scratch_here.add(aside)
    try:
        with naming(folder, inside=aside):
            yield aside
        publish(aside, folder, strangers)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    finally:
        _scratch_here.discard(aside)


def undo_aside(parent: Path, prefix: str) -> list[str]:
    """Undo what `written_aside` left of folders whose names begin with `prefix` when its process was killed.

    Half-filled ones are removed; one that was being replaced, and has no successor yet, is put back. Only for who knows
    that nobody writes there. Returns the names of what was removed.
    """
    for old in sorted(parent.glob(f".{prefix}*.old")):
        target = parent / old.name[1:].rsplit(".", 2)[0]
        if not target.exists():
            old.rename(target)
    left = sorted(one for one in parent.glob(f".{prefix}*") if re.fullmatch(r"\..+\.\d+\.(tmp|old)", one.name))
    for one in left:
        shutil.rmtree(one)
    return [one.name for one in left]


def publish(aside: Path, folder: Path, strangers: Strangers = anything) -> None:
    """Make a finished folder appear as `folder`, in place of an older one in which `strangers` finds nothing.

    Raises:
        MuseError: it finds something; the older one stays.
    """
    with naming(folder):
        for file in aside.rglob("*"):
            _sync_file(file)
        _replace_folder(aside, folder, strangers)
    sync_folder(folder.parent)


def _replace_folder(new: Path, target: Path, strangers: Strangers) -> None:
    if not os.path.lexists(target):
        new.rename(target)
        return
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    target.rename(old)
    # Asked once more where nobody finds it under its name: somebody may have put a file there during the work.
    foreign = strangers(old)
    if foreign:
        old.rename(target)
        raise MuseError(
            f"{target} holds files that are not muse's, so it is not replaced: {', '.join(foreign[:3])}",
            hint=f"move these, or write to another folder, such as {free_name(target)}",
        )
    new.rename(target)
    shutil.rmtree(old)


@contextmanager
def held(folder: Path, shown: Path | None = None) -> Iterator[None]:
    """Keep a folder, made if need be, to this process; nobody else gets it until the block or the process ends.

    Where the file system knows no locks, nothing is kept. shown: how errors name it, where that is not its path.

    Raises:
        MuseError: another process has it, or another part of this one.
    """
    shown = shown or folder
    with naming(shown):
        folder.mkdir(parents=True, exist_ok=True)
    here = folder.resolve()
    if here in _held_here:
        raise _in_use(shown, "this process")
    with naming(shown):
        opened = (folder / HOLD).open("a+", encoding="utf-8")
    with opened as file:
        file.seek(0)
        holder = file.read(200).strip()
        if not _locked(file.fileno()):
            raise _in_use(shown, holder or "another process")
        if holder and re.fullmatch(r"process \d+ on \S*", holder) is None:
            raise MuseError(
                f"{folder / HOLD} was not written by muse", hint=f"move it, or --out {quote(free_name(folder))}"
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        _held_here.add(here)
        try:
            yield
        finally:
            _held_here.discard(here)


def is_abandoned(folder: Path) -> bool:
    """Return whether a process of this machine kept `folder` and has ended without a word.

    False where it cannot be told: nobody ever kept it, it was kept on another machine, or its file system has no locks.
    """
    hold = folder / HOLD
    if fcntl is None or folder.resolve() in _held_here:  # closing the file here would end this process's own hold
        return False
    try:
        with hold.open(encoding="utf-8") as file:
            was_here = file.read(200).strip().endswith(f" on {platform.node()}")
            return was_here and _is_free(file.fileno())
    except (OSError, ValueError):
        return False


def _is_free(handle: int) -> bool:
    try:
        fcntl.lockf(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # given back when the file is closed
    except OSError:
        return False
    return True


def _locked(handle: int) -> bool:
    if fcntl is None:
        return True
    for pause in (_LOOKING_S, _LOOKING_S, 0.0):
        try:
            # Not flock, which a forked reader would share and keep after its parent was killed.
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                return True
            time.sleep(pause)
        else:
            return True
    return False


def _in_use(folder: Path, who: str) -> MuseError:
    return MuseError(
        f"{folder} is in use: {who} writes to it", hint=f"wait for it, or --out {quote(free_name(folder))}"
    )


def contents(folder: Path) -> list[Path]:
    """List what is in a folder, less the file that keeps it."""
    return [entry for entry in folder.iterdir() if entry.name != HOLD]


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write one JSON document, indented, atomically."""
    write_atomically(path, json_text(document))


def json_text(document: Mapping[str, Any]) -> str:
    """Lay a JSON document out as muse's files have it."""
    return plain_json(document) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        MuseError: the file is missing, is not JSON, or is not an object.
    """
    try:
        document = json_of(path.read_bytes())
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
    while os.path.lexists(candidate):
        candidate = path.with_name(f"{path.name}-{number}")
        number += 1
    return candidate


def claim_folder(path: Path) -> Path:
    """Make the folder `path`, or the first of path-2, path-3, ... that is free; each who asks gets its own."""
    refuse_unwritable(path)
    while True:
        chosen = free_name(path)
        with naming(path), contextlib.suppress(FileExistsError):
            chosen.mkdir(parents=True)
            return chosen


def _sync_file(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder to the disk, where the file system can."""
    # A rename is only durable once its folder is; file systems that cannot sync a folder are left to themselves.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
