"""Captions or classes from a csv: one row per picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from muse_core.data.sharding.places import read_range
from muse_core.errors import MuseError

FILE_COLUMNS = (
    "file_name",
    "filename",
    "file",
    "filepath",
    "path",
    "image",
    "image_path",
    "name",
    "key",
    "id",
    "imageid",
)
CAPTION_COLUMNS = ("caption", "captions", "text", "title", "description")
CLASS_COLUMNS = ("class", "label", "classes", "category", "target", "cls", "predictionstring")


class Table:
    """Rows of a csv or tsv, found by a picture's path, by its name, or by either without suffix.

    Args:
        path: the file, or its address.
        columns: what the column with the values may be called.

    Raises:
        MuseError: it cannot be read, has no such column, or says two things of one picture.
    """

    def __init__(self, path: str, columns: Sequence[str]) -> None:
        self.path = path
        self._rows: dict[str, str] = {}
        self._used: set[str] = set()
        for file, value in _rows(path, columns):
            if self._rows.setdefault(file, value) != value:
                raise MuseError(f"{path} says both {self._rows[file]!r} and {value!r} of {file}")

    def value(self, path: str) -> str:
        """Return what the table says of a picture, "" when nothing."""
        whole = PurePosixPath(path)
        for key in (path, str(whole.with_suffix("")), whole.name, whole.stem):
            if key in self._rows:
                self._used.add(key)
                return self._rows[key]
        return ""

    def values(self) -> set[str]:
        """Return everything it says of any picture."""
        return set(self._rows.values())

    def unused(self) -> list[str]:
        """Return the pictures it speaks of that nobody asked for."""
        return sorted(self._rows.keys() - self._used)


def _rows(path: str, columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    try:
        text = read_range(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MuseError(f"{path} cannot be read as a table: {error}") from None
    reader = csv.reader(io.StringIO(text), delimiter="\t" if path.endswith(".tsv") else ",")
    header = [name.strip().lower() for name in next(reader, [])]
    file, value = _column(header, FILE_COLUMNS), _column(header, columns)
    if file is None or value is None:
        raise MuseError(
            f"{path} needs a column with pictures ({', '.join(FILE_COLUMNS[:4])}, ...) and one with values "
            f"({', '.join(columns[:3])}, ...); it has {', '.join(header) or 'none'}"
        )
    for number, row in enumerate(reader, start=2):
        if row and len(row) != len(header):
            raise MuseError(f"{path}, row {number}: {len(row)} columns where the header has {len(header)}")
        if row:
            yield row[file].strip().removeprefix("./"), row[value].strip()


def _column(header: list[str], names: Sequence[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)
