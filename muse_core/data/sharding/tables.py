"""Captions or classes from a csv or tsv: one row per picture."""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import PurePosixPath

from muse_core.data.coverage import Coverage
from muse_core.data.labels import NO_LABEL, BadLabelError, parse_label
from muse_core.data.sample import UNKNOWN_LABEL
from muse_core.data.sharding.bases import Bases
from muse_core.data.sharding.places import read_range
from muse_core.errors import MuseError
from muse_core.file_names import is_picture
from muse_core.text_files import composed, text_in

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

_TRUTHS = frozenset({"true", "false"})
_COMMA = re.compile(r"[+-]?\d+,\d+")
_SEPARATOR = re.compile(r'"?sep=(.)"?\n', re.IGNORECASE)

Row = tuple[int, list[str]]
"""The number of a row, of which the header is the first, and its fields."""

Pair = tuple[int, str, str]
"""The number of a row, the picture that it names, and what it says of it."""


class Table:
    """Rows of a csv or tsv, found by a picture's path, by its name, or by either without suffix.

    Args:
        path: the file, or its address.
        columns: what the column with the values may be called.
        labels: whether values are labels, as `parse_label` reads them: indices where all are numbers, else names, each
            as it is written. What is none, also true and false, is refused with its row.
        source: the folder of the pictures, where it is one of this machine.

    Raises:
        MuseError: it cannot be read, has no such column or no value, or says two things of one picture.
    """

    def __init__(self, path: str, columns: Sequence[str], *, labels: bool = False, source: str | None = None) -> None:
        self.path, self.name = path, path.rpartition("/")[2]
        self.coverage = Coverage(self.name)
        self._bases = Bases(source, path)
        self._numbers: list[tuple[int, str]] = []
        self._words: list[tuple[int, str]] = []
        self._rows: dict[str, str] = {}
        self._by_suffix: dict[str, str] = {}
        self._used: set[str] = set()
        self._several: dict[str, None] = {}
        text, delimiter = _parted(path, columns)
        found = _pairs(path, text, delimiter, columns)
        for number, file, value in self._labels(found, delimiter) if labels else found:
            if self._rows.setdefault(file, value) != value:
                raise MuseError(f"{path}, row {number}: says both {self._rows[file]!r} and {value!r} of {file}")
            self._by_suffix.setdefault(_in_lower_case(file), file)
        if not any(self._rows.values()):
            raise MuseError(f"{path} says nothing of any picture: its column of values is empty")
        self.coverage.pattern = f"no row for {{image}}; its first row is for {next(iter(self._rows))}"

    def value(self, path: str) -> str | None:
        """Return what the table says of a picture, None when it has no row for it."""
        key = self._key(path)
        if key is not None:
            if key in self._used:
                self._several.setdefault(key)
            self._used.add(key)
        self.coverage.note_of(path, fits=key is not None)
        return None if key is None else self._rows[key]

    def _key(self, path: str) -> str | None:
        """Return the row of a picture: that of its path, wherever that begins, else of its name, or None."""
        # Cameras write IMG.JPG where a table has IMG.jpg; a row of exactly this name comes first.
        found = ((name if name in self._rows else None, at) for name, at in self._names(path))
        lower = ((self._by_suffix.get(_in_lower_case(name)), at) for name, at in self._names(path))
        known = (one for one in chain(found, lower) if one[0] is not None)
        return next((key for key, at in known if not (at and self._bases.other(at, path))), None)

    def _names(self, path: str) -> Iterator[tuple[str, str]]:
        """Yield what a row may call a picture, the closest first, and as which path it does where it is not the own."""
        for one in ("", *self._bases.of(path)):
            whole = PurePosixPath(_as_compared(one or path))
            yield str(whole), one
            yield str(whole.with_suffix("")), one
        yield whole.name, ""
        yield whole.stem, ""

    def _labels(self, found: Iterable[Pair], delimiter: str) -> list[Pair]:
        """Return what the values of rows mean as labels, "" for no class."""
        pairs, meant = list(found), list[int | str]()
        for number, _, value in pairs:
            try:
                meant.append(label := _label(value, delimiter))
            except BadLabelError as problem:
                raise MuseError(f"{self.path}, row {number}: {problem}: {value[:40]!r}") from None
            if label != UNKNOWN_LABEL:
                first = self._words if isinstance(label, str) else self._numbers
                first[:] = first or [(number, value)]
        named = bool(self._words)
        known = zip(pairs, meant, strict=True)
        return [
            (number, file, "" if label == UNKNOWN_LABEL else composed(value) if named else str(label))
            for (number, file, value), label in known
        ]

    @property
    def numbered(self) -> bool:
        """Whether all its labels are numbers."""
        return not self._words

    def values(self) -> set[str]:
        """Return everything it says of any picture."""
        return set(self._rows.values())

    def mixed(self) -> str:
        """Say where numbers and words stand among its labels, which makes all of them names; "" where they do not."""
        if not (self._numbers and self._words):
            return ""
        shown = ", ".join(f"row {row}: {value!r}" for row, value in sorted(self._numbers + self._words))
        said = f"{self.name} holds numbers and names ({shown})"
        return f"{said}: all of them are names of classes, sorted as text, each as it is written"

    def unused(self) -> list[str]:
        """Return the pictures it speaks of that nobody asked for."""
        return sorted(self._rows.keys() - self._used)

    def in_words(self) -> str:
        """Say which rows were taken for more than one picture, "" when none was."""
        count = len(self._several)
        return (
            f"{self.name}: {count:,} rows fit several images each (first: {next(iter(self._several))})" if count else ""
        )


def _label(value: str, delimiter: str) -> int | str:
    if value.lower() in _TRUTHS:
        raise BadLabelError(NO_LABEL)
    # Programs that part columns with semicolons write 1.0 as 1,0.
    return parse_label(value.replace(",", ".") if delimiter == ";" and _COMMA.fullmatch(value) else value)


def _as_compared(file: str) -> str:
    name = composed(file.strip().replace("\\", "/"))
    return name if "://" in name or not name else posixpath.normpath(name)


def _in_lower_case(file: str) -> str:
    """Return the name of an image with its suffix in lower case; other names as they are."""
    stem, dot, suffix = file.rpartition(".")
    return f"{stem}{dot}{suffix.lower()}" if is_picture(file) else file


def _pairs(path: str, text: str, delimiter: str, columns: Sequence[str]) -> Iterator[Pair]:
    rows = _rows(path, text, delimiter)
    header = [name.strip().lower() for name in next(rows, (1, []))[1]]
    file, value = _column(header, FILE_COLUMNS), _column(header, columns)
    if file is None or value is None:
        raise MuseError(
            f"{path} needs a column with pictures ({', '.join(FILE_COLUMNS[:4])}, ...) and one with values "
            f"({', '.join(columns[:3])}, ...); it has {', '.join(header) or 'none'}"
        )
    for number, row in rows:
        if not any(field.strip() for field in row):  # what spreadsheets leave at the end
            continue
        if len(row) != len(header):
            raise MuseError(f"{path}, row {number}: {len(row)} columns where the header has {len(header)}")
        yield number, _as_compared(row[file]), row[value].strip()


def _parted(path: str, columns: Sequence[str]) -> tuple[str, str]:
    """Return the text of a table and what parts its columns."""
    text, said = _without_separator_line(_text(path))
    return text, said or _delimiter(path, text, columns)


def _rows(path: str, text: str, delimiter: str) -> Iterator[Row]:
    lines = text.split("\n")
    width = lines[0].count(delimiter)
    if delimiter == "\t" and all(line.count("\t") == width for line in lines if line):
        # A line is a row here, so that a mark that opens and does not close takes no other row with it.
        return ((number, _plain(line)) for number, line in enumerate(lines, start=1))
    return _quoted(path, text, delimiter)


def _without_separator_line(text: str) -> tuple[str, str]:
    """Return a table without the line by which Excel says what parts its columns, and what it said; "" for nothing."""
    said = _SEPARATOR.match(text)
    return (text[said.end() :], said[1]) if said else (text, "")


def _text(path: str) -> str:
    try:
        text = text_in(read_range(path), path)
    except OSError as error:
        raise MuseError(f"{path} cannot be read as a table: {error.strerror or error}") from None
    if "\0" in text:
        raise MuseError(f"{path}, line {text[: text.index(chr(0))].count(chr(10)) + 1}: holds a byte that is zero")
    return text


def _delimiter(path: str, text: str, columns: Sequence[str]) -> str:
    """Return what parts the columns: a tab in a tsv, else the first of comma, semicolon and tab that makes a header."""
    header = text.partition("\n")[0]
    for delimiter in "\t" if path.lower().endswith(".tsv") else ",;\t":
        names = [name.strip().strip('"').lower() for name in header.split(delimiter)]
        if _column(names, FILE_COLUMNS) is not None and _column(names, columns) is not None:
            return delimiter
    return "\t" if path.lower().endswith(".tsv") else ","


def _plain(line: str) -> list[str]:
    """Split a line of a tsv; a field is unquoted only where its quotes are whole."""
    return [_unquoted(field) for field in line.split("\t")] if line else []


def _unquoted(field: str) -> str:
    inner = field[1:-1].replace('""', "")
    whole = len(field) > 1 and field[0] == field[-1] == '"' and '"' not in inner
    return field[1:-1].replace('""', '"') if whole else field


def _quoted(path: str, text: str, delimiter: str) -> Iterator[Row]:
    """Rows in which a quoted field may run over several lines, as csv has them."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number, lines, width = 0, text.split("\n"), 0
    while True:
        number, begins = number + 1, reader.line_num
        try:
            row = next(reader, None)
        except csv.Error as error:
            why = "a quotation mark opens and is never closed" if "end of data" in str(error) else str(error)
            raise MuseError(f"{path}, row {number}: {why}", hint=_HINT) from None
        if row is None:
            return
        width = width or len(row)
        if _swallowed(lines[begins + 1 : reader.line_num], delimiter, width):
            raise MuseError(
                f"{path}, row {number}: a quotation mark opens, and rows follow before it closes", hint=_HINT
            )
        yield number, row


_HINT = 'in a quoted value, a quotation mark is written twice: "a ""big"" cat"'


def _swallowed(lines: Sequence[str], delimiter: str, width: int) -> bool:
    """Say whether lines inside a quoted field look like rows of their own: a file of pictures, and as many columns."""
    for line in lines:
        fields = line.split(delimiter)
        if len(fields) == width and any(is_picture(field.strip().strip('"')) for field in fields):
            return True
    return False


def _column(header: list[str], names: Sequence[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)
