"""May I write here? Nothing that muse did not write is replaced or removed, and two results never share a name.

A file that the user named is refused where something is there, unless with --overwrite. A name that muse chose steps
aside: x.png, x-2.png, ... A folder is replaced with --overwrite only where every file in it is muse's. A link is never
written through: it counts as a file that is there, and is itself what --overwrite replaces.
"""

import errno
import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muse_core.errors import ExitCode, MuseError
from muse_core.files import HOLD, Strangers, anything, file_aside, free_name, refuse_unwritable, sync_folder
from muse_core.marks import Mark, has_png_mark, mark_of, with_mark

HASHED = 1 << 20
"""Bytes up to which a manifest holds a checksum; of larger files it holds the size."""

_ENDINGS = frozenset(
    ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "html", "json", "npz", "pdf", "svg", "tar")
)
"""Endings that promise what is in a file; other names may be given to anything."""

_SCRATCH = re.compile(r"\..+\.(tmp|old)")
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


class OutputNames:
    """Names that were given within one command; names that some file systems take for one count as one."""

    def __init__(self) -> None:
        self._given: set[tuple[str, str]] = set()

    def is_free(self, path: Path) -> bool:
        """Say whether no output of this command has the name."""
        return self._key(path) not in self._given

    def first_free(self, path: Path) -> Path:
        """Return `path`, or path-2, path-3, ..., that no output of this command has yet, and give it."""
        chosen = next(candidate for candidate in _numbered(path) if self.is_free(candidate))
        self.give(chosen)
        return chosen

    def give(self, path: Path) -> None:
        """Note that an output has the name."""
        self._given.add(self._key(path))

    @staticmethod
    def _key(path: Path) -> tuple[str, str]:
        return os.path.abspath(path.parent), folded(path.name)


def folded(name: str) -> str:
    """Return what names have in common that differ in case or in the form of their accents only."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


class NameTakenError(MuseError):
    """Something has the name of a file that is to be written."""


def refuse_taken(path: Path | None, overwrite: bool, read: Iterable[str | Path | None] = (), ending: str = "") -> None:
    """Refuse a file that the user named and that cannot be written there, before any work is done.

    Args:
        path: the file. overwrite: whether it may be replaced.
        read: what the command reads: files, folders, and words that are none. A file of theirs is never replaced; in a
            folder that is read, muse's own files may be.
        ending: of such files; a name that promises another kind, such as a page called photo.png, is refused.

    Raises:
        MuseError: the name ends as files of another kind do, or nothing can be written there.
        NameTakenError: it is there and `overwrite` is off, it is no file, or it is read.
    """
    if path is None:
        return
    if ending:
        _refuse_other_ending(path, ending)
    refuse_unwritable(path)
    if not os.path.lexists(path):
        return
    if any(_is_read(path, Path(source)) for source in read if source):
        raise NameTakenError(f"{path} is read by this command", hint=f"another name, such as {free_file(path)}")
    if not _is_replaceable(path):
        raise NameTakenError(f"{path} is there and is not a file", hint=f"another name, such as {free_file(path)}")
    if not overwrite:
        hint = f"--overwrite to replace it, or another name, such as {free_file(path)}"
        raise NameTakenError(f"{path} is there already", hint=hint)


def _refuse_other_ending(path: Path, ending: str) -> None:
    if path.suffix.lower().lstrip(".") in _ENDINGS - {ending}:
        raise MuseError(
            f"{path.name} does not end in .{ending}, which is what is written",
            hint=f"write to {path.with_suffix(f'.{ending}').name}",
            exit_code=ExitCode.SETTINGS,
        )


def _is_read(path: Path, source: Path) -> bool:
    if not os.path.exists(source):  # a word such as demo:val, or a mix
        return False
    if source.is_dir():
        return Path(os.path.realpath(source)) in Path(os.path.realpath(path)).parents and mark_of(path) is None
    return os.path.realpath(path) == os.path.realpath(source)


def write_file(
    path: Path,
    content: bytes | str,
    mark: Mark,
    *,
    overwrite: bool = False,
    step_aside: bool = False,
    names: OutputNames | None = None,
) -> Path:
    """Write a file with its mark, complete or not at all; parent folders are made.

    Args:
        path: where. content: as it is without the mark.
        mark: purpose, and digest of what it is made of.
        overwrite: replace whatever file has the name: the user gave it.
        step_aside: the name is muse's choice: replace only what muse made of the same thing, else take a free name.
        names: the names that this command gave before, none of which is given again.

    Returns:
        Where it was written.

    Raises:
        NameTakenError: something is there, and neither `overwrite` nor `step_aside` was given.
        MuseError: nothing can be written there.
        OSError: the disk refuses.
    """
    refuse_unwritable(path)
    with file_aside(path, with_mark(content, mark)) as aside:
        for candidate in _numbered(path) if step_aside else iter([path]):
            if names is not None and not names.is_free(candidate):
                continue
            replace = (overwrite and candidate == path) or (step_aside and mark_of(candidate) == mark)
            if _appear(aside, candidate, replace=replace):
                sync_folder(candidate.parent)
                if names is not None:
                    names.give(candidate)
                return candidate
    refuse_taken(path, overwrite)
    raise NameTakenError(f"{path} was there for a moment", hint="the same command again")


def free_file(path: Path) -> Path:
    """Return `path`, or the first of NAME-2.png, NAME-3.png, ... that is not there."""
    return next(candidate for candidate in _numbered(path) if not os.path.lexists(candidate))


def is_result(path: Path) -> bool:
    """Say whether muse made an image out of another one, which is therefore no input when a folder is named."""
    mark = mark_of(path) if has_png_mark(path) else None
    return mark is not None and mark.purpose in ("recon", "compare", "attention")


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that muse writes.

    noun: as sentences name it. own_files: the files in a folder that are muse's, as relative paths with slashes, first
    the one by which the folder is known; None where the folder is of another kind.
    option: names such a folder on the command line.
    """

    noun: str
    own_files: Callable[[Path], Iterable[str] | None]
    option: str = "--out"

    def strangers(self, folder: Path) -> list[str]:
        """List what is in a folder and is not muse's; what a process that was killed had only begun is."""
        return _strangers(folder, self.own_files(folder))

    def in_the_way(self, overwrite: bool) -> Strangers:
        """Return what finds the files that keep a folder from being replaced: without `overwrite`, any at all."""
        return self.strangers if overwrite else anything

    def refuse(self, folder: Path, overwrite: bool, ways: Sequence[str] = (), *, in_place: bool = False) -> None:
        """Refuse a folder that holds something, unless it is of this kind, wholly muse's, and `overwrite` is on.

        Args:
            folder: where to write. overwrite: whether an earlier one may go.
            ways: what else may be typed when there is an earlier one.
            in_place: it is written to where it is, so that it may be a link to a folder.

        Raises:
            MuseError: the folder stays as it is.
        """
        refuse_unwritable(folder, into=in_place and folder.is_dir())
        if not os.path.lexists(folder):
            return
        another = f"{self.option} {free_name(folder)}"
        if folder.is_symlink() and not folder.exists():
            what = f"{folder} is a link to {os.readlink(folder)}, which is not there"
            raise MuseError(what, hint=f"make that folder, or {another}" if in_place else another)
        if folder.is_symlink() and not in_place:
            raise MuseError(f"{folder} is a link", hint=f"{self.option} {folder.resolve()}")
        if not folder.is_dir():
            raise MuseError(f"{folder} is a file, not a folder", hint=another)
        own = self.own_files(folder)
        strange = _strangers(folder, own)
        if own is None and strange:
            raise MuseError(
                f"{folder} is not empty and holds no {self.noun.removeprefix('a ').removeprefix('an ')}", hint=another
            )
        if own is not None and not overwrite:
            hint = ", or ".join([*ways, "--overwrite to replace what is there", another])
            raise MuseError(f"{folder} is not empty: it holds {self.noun} already", hint=hint)
        if strange:
            raise self._more(folder, strange)

    def _more(self, folder: Path, strange: Sequence[str]) -> MuseError:
        others = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        return MuseError(
            f"{folder} holds more than {self.noun}, so it is not replaced: {', '.join(strange[:3])}{others}",
            hint=f"move these, or {self.option} {free_name(folder)}",
        )

    def clear(self, folder: Path) -> None:
        """Remove muse's files from a folder, and the folders that this leaves empty; links are not followed.

        Raises:
            MuseError: something else is in it; nothing is removed then.
        """
        own = list(self.own_files(folder) or ())
        strange = _strangers(folder, own or None)
        if strange:
            raise self._more(folder, strange)
        begun = [name for name in files_in(folder) if name not in own and name.rpartition("/")[2] != HOLD]
        for name in [*begun, *reversed(own)]:  # the file by which the folder is known goes last
            (folder / name).unlink(missing_ok=True)
        for inner, _, _ in os.walk(folder, topdown=False):
            if Path(inner) != folder:
                os.rmdir(inner)


def _strangers(folder: Path, own: Iterable[str] | None) -> list[str]:
    known = {folded(name) for name in own or ()}
    return [
        name
        for name in files_in(folder)
        if folded(name) not in known and not _is_scratch(name.rpartition("/")[2], in_ours=own is not None)
    ]


def files_in(folder: Path) -> Iterator[str]:
    """List all files below a folder as relative paths with slashes; a link is a file, wherever it leads."""
    for inner, folders, files in os.walk(folder):
        linked = [name for name in folders if os.path.islink(os.path.join(inner, name))]
        for name in sorted([*files, *linked]):
            yield Path(inner, name).relative_to(folder).as_posix()


def manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and, of small files, checksum of every file in a folder, for the index that will lie in it."""
    return {name: _entry(folder / name) for name in files_in(folder)}


def unchanged(folder: Path, listed: object) -> set[str]:
    """Return the files of a folder's manifest that are still as they were written."""
    if not isinstance(listed, Mapping):
        return set()
    return {str(name) for name, entry in listed.items() if _is_as_listed(folder / str(name), entry)}


def _is_as_listed(path: Path, entry: object) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode) and _entry(path) == entry
    except OSError:
        return False


def _entry(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    return {"bytes": size, **({"sha256": hashlib.sha256(path.read_bytes()).hexdigest()} if size <= HASHED else {})}


def is_scratch(name: str) -> bool:
    """Return whether a file's name is that of one which was being written aside."""
    return _SCRATCH.fullmatch(name) is not None


def _is_scratch(name: str, *, in_ours: bool) -> bool:
    return name == HOLD or (in_ours and is_scratch(name))


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    number = 2
    while True:
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1


def _is_replaceable(path: Path) -> bool:
    mode = path.lstat().st_mode
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _appear(aside: Path, path: Path, *, replace: bool) -> bool:
    """Give a finished file its name; False where the name is taken. Of two processes that ask at once one gets it."""
    if replace and os.path.lexists(path) and _is_replaceable(path):
        aside.replace(path)
        return True
    try:
        os.link(aside, path, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _appear_without_links(aside, path)
    return True


def _appear_without_links(aside: Path, path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    aside.replace(path)
    return True
