"""Folders, here or at an address that fsspec knows: listed, read in ranges, and written so that files are whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from muse_core.errors import ExitCode, MuseError
from muse_core.file_names import is_special_mode, refuse_special
from muse_core.files import naming, write_atomically
from muse_core.home import expanded
from muse_core.json_text import utf8
from muse_core.offline import refuse_address


class Entry(NamedTuple):
    """One name in a folder. size: bytes, or -1 when the file cannot be looked at. is_special: it is no file."""

    name: str
    is_folder: bool
    size: int
    is_special: bool = False


class Place:
    """A folder.

    Args:
        where: a path, or an address such as s3://bucket/folder.

    Raises:
        MuseError: nothing installed knows such addresses.
    """

    def __init__(self, where: str) -> None:
        self._fs, root = _file_system(where)
        self.root = root.rstrip("/") or "/"
        self.is_local = self._fs is None
        self.shared = self.is_local or getattr(self._fs, "protocol", "") != "memory"
        """Whether another process sees the same files."""

    def path(self, name: str = "") -> str:
        """Return what `read_range` takes: a full path or address."""
        path = f"{self.root}/{name}" if name else self.root
        return path if self._fs is None else str(self._fs.unstrip_protocol(path))

    def folder(self, name: str) -> Place:
        """Return a folder inside this one, which need not exist."""
        return Place(self.path(name))

    def is_folder(self, name: str = "") -> bool:
        """Say whether there is such a folder."""
        path = f"{self.root}/{name}" if name else self.root
        return os.path.isdir(path) if self._fs is None else bool(self._fs.isdir(path))

    def exists(self, name: str) -> bool:
        """Say whether there is a file of this name now, whatever was listed before."""
        if self._fs is None:
            return os.path.isfile(f"{self.root}/{name}")
        self._fs.invalidate_cache()
        return bool(self._fs.isfile(f"{self.root}/{name}"))

    def entries(self, name: str = "") -> list[Entry]:
        """List one folder, in the order in which full paths sort: a folder counts as its name with a slash.

        Raises:
            OSError: it cannot be listed.
        """
        path = f"{self.root}/{name}" if name else self.root
        found = _scan(path) if self._fs is None else self._listed(path)
        return sorted(found, key=lambda entry: f"{entry.name}/" if entry.is_folder else entry.name)

    def identity(self, name: str) -> str:
        """Return what two links to the same folder have in common."""
        return os.path.realpath(f"{self.root}/{name}") if self._fs is None else name

    def read(self, name: str) -> bytes:
        """Read a whole file."""
        return read_range(self.path(name))

    def write(self, name: str, content: bytes | str) -> None:
        """Write a small file that readers see whole or not at all."""
        if self._fs is None:
            write_atomically(Path(self.root) / name, content)
        else:  # object stores show an object when all of it has arrived
            self._fs.makedirs(os.path.dirname(f"{self.root}/{name}"), exist_ok=True)
            self._fs.pipe_file(f"{self.root}/{name}", utf8(content) if isinstance(content, str) else content)

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Write a large file piece by piece; here, it has its name only if the block succeeds."""
        target = f"{self.root}/{name}"
        if self._fs is not None:
            self._fs.makedirs(os.path.dirname(target), exist_ok=True)
            with self._fs.open(target, "wb") as stream:
                yield cast(BinaryIO, stream)
            return
        with naming(Path(target)):
            os.makedirs(os.path.dirname(target), exist_ok=True)
        aside = f"{target}.{os.getpid()}.tmp"
        try:
            with naming(Path(target), inside=Path(aside)):
                with open(aside, "wb") as stream:
                    yield stream
                    stream.flush()
                    os.fsync(stream.fileno())
                os.replace(aside, target)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise

    def remove(self, name: str = "") -> None:
        """Remove a file, or a folder with all that is in it, if it is there."""
        path = f"{self.root}/{name}" if name else self.root
        if self._fs is None:
            shutil.rmtree(path) if os.path.isdir(path) else Path(path).unlink(missing_ok=True)
        elif self._fs.exists(path):
            self._fs.rm(path, recursive=True)

    def _listed(self, path: str) -> Iterator[Entry]:
        for info in self._fs.ls(path, detail=True):
            name = info["name"].rstrip("/")
            if name != path.rstrip("/"):  # some stores list a folder inside itself
                is_folder = info["type"] == "directory"
                yield Entry(name.rpartition("/")[2], is_folder, 0 if is_folder else int(info["size"] or 0))


def read_range(path: str, start: int = 0, size: int | None = None) -> bytes:
    """Read bytes of a file given by a full path or an address; fewer where the file ends."""
    if "://" not in path:
        refuse_special(path)
        with open(path, "rb", buffering=0) as stream:  # one read is all: a buffer would cost more than the read
            if start:
                stream.seek(start)
            return stream.read(-1 if size is None else size)
    fs, inside = _file_system(path)
    return bytes(fs.cat_file(inside, start=start, end=None if size is None else start + size))


def open_file(path: str) -> BinaryIO:
    """Open a file given by a full path or an address, for reading with seeks."""
    if "://" not in path:
        refuse_special(path)
        return open(path, "rb")
    fs, inside = _file_system(path)
    return cast(BinaryIO, fs.open(inside, "rb"))


def _scan(path: str) -> Iterator[Entry]:
    with os.scandir(path) as found:
        for entry in found:
            try:
                is_folder = entry.is_dir()
                seen = entry.stat()
            except OSError:  # a link to nothing, or to itself
                yield Entry(entry.name, is_folder=False, size=-1)
                continue
            yield Entry(entry.name, is_folder, 0 if is_folder else seen.st_size, is_special_mode(seen.st_mode))


def _file_system(where: str) -> tuple[Any, str]:
    """The file system of an address and the path in it; None for files of this machine."""
    if "://" not in where:
        return None, os.path.abspath(expanded(where))
    protocol, _, rest = where.partition("://")
    if protocol in ("file", "local"):
        return None, rest
    refuse_address(where)
    from fsspec.core import url_to_fs

    try:
        fs, path = url_to_fs(where)
    except ValueError:
        raise MuseError(f"addresses that begin with {protocol}:// are not known", hint="a path, s3://, gs://") from None
    except ImportError as error:
        raise MuseError(f"{protocol}:// needs a package: {error}", exit_code=ExitCode.MACHINE) from None
    return fs, str(path)
