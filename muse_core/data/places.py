"""Where data lie: local paths, and the addresses that fsspec knows, such as https://, s3:// and gs://.

What is read from an address is fetched whole into a temporary file first: a shard is then read the same way wherever
it came from, and a connection that breaks is tried again before it costs samples.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from muse_core.errors import ExitCode, MuseError
from muse_core.file_names import refuse_special
from muse_core.home import expanded
from muse_core.offline import refuse_address
from muse_core.switches import is_on

ALLOW_PIPE = "MUSE_ALLOW_PIPE"
"""Set to 1, this variable lets `pipe:` addresses run commands."""

Packed = gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile

ATTEMPTS = 3
PAUSE_S = 0.5
FORBIDDEN = 403
_CHUNK = 1 << 20
_UNPACKERS: dict[bytes, Callable[[BinaryIO], Packed]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),
    b"BZ": bz2.BZ2File,
    b"\xfd7": lzma.LZMAFile,
}


def is_address(where: str) -> bool:
    """Whether this is an address rather than a local path."""
    return re.match(r"[a-z][a-z0-9+.-]*://", where) is not None or where.startswith("pipe:")


def is_packed(head: bytes) -> bool:
    """Return whether a file that begins so is packed with gzip, bzip2 or xz."""
    return head[:2] in _UNPACKERS


def is_here(where: str) -> bool:
    """Return whether something here has exactly this name: signs of patterns and mixes are then part of it."""
    return not is_address(where) and os.path.exists(expanded(where))


def refuse_pipe(where: str) -> None:
    """Refuse `pipe:` unless the user asked for it, because it runs a command.

    Raises:
        MuseError: it is there and was not asked for.
    """
    if re.search(r"(^|::|\{|,)\s*pipe:", where) and not is_on(ALLOW_PIPE):
        raise MuseError(
            f"'pipe:' would run a command of the data's choosing, and is refused: {where}",
            hint=f"{ALLOW_PIPE}=1 if you wrote that command yourself",
        )


def open_place(where: str) -> BinaryIO:
    """Open a file for reading and seeking; what is packed with gzip, bzip2 or xz is unpacked first.

    Raises:
        OSError: it cannot be opened or fetched.
    """
    if not is_address(where):
        refuse_special(where)
    stream = _fetched(where) if is_address(where) else Path(where).open("rb")  # noqa: SIM115
    unpack = _UNPACKERS.get(stream.read(2))
    stream.seek(0)
    return _unpacked(stream, unpack) if unpack else stream


def read_place(where: str) -> bytes | None:
    """The bytes of a small file, or None when there is none.

    Raises:
        MuseError: it is there, or may be, and cannot be read.
    """
    try:
        with open_place(where) as stream:
            return stream.read()
    except FileNotFoundError:
        return None
    except OSError as problem:
        if is_address(where) and isinstance(problem, PermissionError):
            return None  # so many stores answer when they do not want to say that something is not there
        raise MuseError(f"{where} cannot be read: {problem}") from problem


def refuse_unreadable(where: str) -> None:
    """Refuse a file that is not there or may not be read: of an address its entry is asked for, and nothing fetched.

    A `pipe:` is let through: asking would run its command.

    Raises:
        MuseError: naming the file, and why.
    """
    if where.startswith("pipe:"):
        return
    try:
        if is_address(where):
            refuse_address(where)
            _patiently(lambda: _asked(where))
        else:
            refuse_special(where)
            with Path(where).open("rb") as stream:
                stream.read(1)
    except FileNotFoundError:
        raise MuseError(f"{where} does not exist", hint=_HINT) from None
    except OSError as problem:
        raise MuseError(f"{where} cannot be read: {problem.strerror or problem}", hint=_HINT) from None


_HINT = "a folder, pattern or address of shards, or demo"


def _asked(where: str) -> None:
    with _as_refusals(where):
        files, path = _files(where)
        try:
            files.info(path)
        except FileNotFoundError as problem:
            # fsspec says so of whatever a web server answers; what it said is behind that.
            answer = problem.__cause__
            if not isinstance(answer, Exception) or getattr(answer, "status", None) in (404, 410):
                raise
            raise answer from None


def name_of(where: str) -> str:
    """The last part of a path or address."""
    return PurePosixPath(where.split("?")[0]).name if is_address(where) else Path(where).name


def folder_of(where: str) -> str:
    """All but the last part of a path or address."""
    return where.split("?")[0].rpartition("/")[0] if is_address(where) else str(Path(where).parent)


def joined(folder: str, name: str) -> str:
    """A file of a folder."""
    return f"{folder.rstrip('/')}/{name}" if is_address(folder) else str(Path(folder) / name)


def matching(pattern: str) -> list[str]:
    """The addresses that a pattern with wildcards matches, sorted.

    Raises:
        MuseError: the place cannot be listed.
    """
    try:
        files, path = _files(pattern)
        return sorted(files.unstrip_protocol(found) for found in files.glob(path))
    except MuseError:
        raise
    except Exception as problem:
        raise MuseError(
            f"{pattern} cannot be listed: {problem}", hint="name the shards: {000000..000127}.tar"
        ) from None


def _files(where: str) -> tuple[Any, str]:
    refuse_address(where)
    import fsspec

    try:
        files, path = fsspec.core.url_to_fs(where)
    except ImportError as problem:
        raise MuseError(f"{where} needs a package: {problem}", exit_code=ExitCode.MACHINE) from None
    except ValueError as problem:
        raise MuseError(f"{where} is no address that can be read: {problem}") from None
    return files, path


def _fetched(where: str) -> BinaryIO:
    aside = tempfile.NamedTemporaryFile(prefix="muse-")  # noqa: SIM115  the caller closes it
    try:
        _patiently(lambda: _fetch(where, aside.name))
    except BaseException:
        aside.close()
        raise
    aside.seek(0)
    return cast(BinaryIO, aside)


def _patiently(action: Callable[[], None]) -> None:
    """Try again what a connection that breaks refused; what is not there or not allowed is not asked for twice."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            action()
        except OSError as problem:
            if attempt == ATTEMPTS or isinstance(problem, FileNotFoundError | PermissionError):
                raise
            time.sleep(PAUSE_S * attempt)
        else:
            return


def _fetch(where: str, target: str) -> None:
    """Fetch into a file.

    Raises:
        OSError: whatever went wrong.
    """
    refuse_pipe(where)
    refuse_address(where)
    with _as_refusals(where):
        if where.startswith("pipe:"):
            with Path(target).open("wb") as file:
                command = where.removeprefix("pipe:")
                subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, stdout=file, check=True)
        else:
            files, path = _files(where)
            files.get_file(path, target)


@contextmanager
def _as_refusals(where: str) -> Iterator[None]:
    """Turn whatever goes wrong into an OSError, as each of fsspec's systems has errors of its own kind."""
    try:
        yield
    except (OSError, MuseError):
        raise
    except Exception as problem:
        kind = PermissionError if getattr(problem, "status", None) == FORBIDDEN else OSError
        raise kind(f"{where}: {problem or type(problem).__name__}") from problem


def _unpacked(stream: BinaryIO, unpack: Callable[[BinaryIO], Packed]) -> BinaryIO:
    aside = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
    with stream, unpack(stream) as content:
        try:
            while block := content.read1(_CHUNK):  # not read: it would drop what came before the damage
                aside.write(block)
        except (EOFError, OSError, zlib.error, lzma.LZMAError):
            # Cut short or damaged. What came before is kept; the tar in it then has no end, which its reader tells.
            aside.flush()
    aside.seek(0, io.SEEK_SET)
    return aside
