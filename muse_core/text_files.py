"""Text of files, read as its author meant it, whichever program saved it: captions, tables, lists, JSON.

Byte-order marks are dropped and every kind of line end counts. What is not UTF-8 is refused with the encoding that was
probably meant: other encodings read nearly any bytes as some text, so that taking one of them would be a guess.
"""

import codecs
import json
import re
import unicodedata
from os import PathLike
from pathlib import Path
from typing import Any

from muse_core.errors import MuseError

BYTE_ORDER_MARK = "\ufeff"

_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # before UTF-16, with whose mark it begins
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_LINE_END = re.compile(r"\r\n|\r|\n")
_HAS_TO_BE_QUOTED = re.compile(r'"(?=[^"]*(?:[,;\t]|""))(?:[^"]|"")+"')
"""A field whose separators and quotation marks are why it is quoted; "cat" needs no marks, so they are its own."""
_MANY_ZEROS = 0.3
"""Fraction of zero bytes that text of no alphabet has in UTF-8, and most text has in UTF-16."""


class NotTextError(ValueError):
    """Bytes that are not text in UTF-8; the message names the encoding that they probably are in."""


class RepeatedKeyError(ValueError):
    """A document that gives keys twice; `problems` has one sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def text_of(content: bytes) -> str:
    r"""Return the text in some bytes, without a byte-order mark and with "\n" as its only line end.

    Raises:
        NotTextError: it is not UTF-8.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            raise NotTextError(f"not UTF-8 ({encoding})")
    if content.count(0) > _MANY_ZEROS * len(content):
        raise NotTextError("not UTF-8 (probably UTF-16)")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise NotTextError("not UTF-8 (probably Latin-1)") from None
    return _LINE_END.sub("\n", text.removeprefix(BYTE_ORDER_MARK))


def lines_of(text: str) -> list[str]:
    """Return the lines of a list, one entry a line: without white space around them, empty ones left out.

    Where every line stands between quotation marks, or one that has to in a csv, a program put them there, and they go.
    """
    lines = [line.strip() for line in _LINE_END.split(text) if line.strip()]
    every = all(len(line) > 2 and line[0] == line[-1] == '"' for line in lines)
    return [
        line[1:-1].replace('""', '"').strip() if every or _HAS_TO_BE_QUOTED.fullmatch(line) else line for line in lines
    ]


def read_text_file(path: str | PathLike[str]) -> str:
    """Read a file of this machine as `text_of` reads its bytes.

    Raises:
        OSError: it is not there, or cannot be read.
        MuseError: it is not UTF-8.
    """
    return text_in(Path(path).read_bytes(), path)


def text_in(content: bytes, path: str | PathLike[str]) -> str:
    """Return the text of a file that was read from `path`.

    Raises:
        MuseError: it is not UTF-8.
    """
    try:
        return text_of(content)
    except NotTextError as problem:
        raise MuseError(f"{path} is {problem}", hint="save it as UTF-8") from None


def composed(name: str) -> str:
    """Return a name as it is compared: file systems and programs spell accents in one sign or in two (NFC, NFD)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def readable(name: str) -> str:
    """Return a name as text that can be written: bytes of it that are not UTF-8 are spelled as escapes."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a surrogate pair, which is no byte of a file's name
        return name.encode("utf-8", "backslashreplace").decode()


def json_of(content: bytes | str) -> Any:
    """Read a JSON document of settings, in which no key may stand twice.

    Raises:
        ValueError: it is not text, not JSON, or gives a key twice (`RepeatedKeyError`).
        RecursionError: it is nested too deeply.
    """
    text = content if isinstance(content, str) else text_of(content)
    return json.loads(text.removeprefix(BYTE_ORDER_MARK), object_pairs_hook=_unrepeated)


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    repeated = [key for number, (key, _) in enumerate(pairs) if key in document or document.update({key: number})]
    if repeated:
        raise RepeatedKeyError([f"{key} is given twice" for key in repeated])
    return dict(pairs)
