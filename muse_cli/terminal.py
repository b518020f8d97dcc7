"""Where text meets a terminal, a pipe or a file: what it can show, how wide it is, and what when it takes no more."""

import codecs
import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

NARROWEST, WIDEST = 20, 1000
"""Columns that text can be laid out in; other numbers in COLUMNS are no widths."""

COLORS = {"red": 31, "yellow": 33}


@contextmanager
def prepared(*, plain: bool) -> Iterator["Stream"]:
    """Let the standard streams be there and never raise, and variables about terminals say what a terminal can be.

    Args:
        plain: the user typed --no-color.

    Yields:
        stdout, whose `error` says at the end whether the result arrived.
    """
    _open_missing()
    variables = {name: os.environ.get(name) for name in ("COLUMNS", "TERMINAL_WIDTH", "NO_COLOR", "FORCE_COLOR")}
    streams = sys.stdout, sys.stderr
    stdout, stderr = map(Stream, streams)
    try:
        _settle_variables(plain)
        sys.stdout, sys.stderr = cast(TextIO, stdout), cast(TextIO, stderr)
        yield stdout
    finally:
        sys.stdout, sys.stderr = streams
        for name, value in variables.items():
            _set(name, value)


def _open_missing() -> None:
    """Put something in the place of streams that were closed, or the next file opened would take their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with suppress(OSError):
                os.fstat(number)
                continue
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def _settle_variables(plain: bool) -> None:
    for name in ("COLUMNS", "TERMINAL_WIDTH"):
        if name in os.environ and not _is_width(os.environ[name]):
            del os.environ[name]
    if plain:
        os.environ["NO_COLOR"] = "1"
    if os.environ.get("NO_COLOR") or os.environ.get("FORCE_COLOR") == "0":
        os.environ.pop("FORCE_COLOR", None)


def _is_width(text: str) -> bool:
    return text.isascii() and text.isdigit() and NARROWEST <= int(text[:9]) <= WIDEST


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def is_live() -> bool:
    """Return whether stderr is a terminal on which lines can be drawn anew."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


_ROW = re.compile(r"(?:[a-z][a-z ]{7}|memory) (?=\S)")
LABEL = 9


def fitted(text: str, width: int) -> str:
    """Break a row of a plan, a label of nine columns and a text, between words where it is too wide for a terminal.

    Other lines stay: what breaks them is the terminal, so that a command in them is copied as one line.
    """
    if len(text) <= width or not _ROW.match(text) or width < 2 * LABEL:
        return text
    indent = " " * LABEL
    lines = textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


def width() -> int:
    """Return the columns of the terminal that stderr is; those of $COLUMNS where it is set."""
    if _is_width(os.environ.get("COLUMNS", "")):
        return int(os.environ["COLUMNS"])
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def colored(text: str, color: str) -> str:
    """Return text for stderr in a color, where that shows and nobody asked for plain text."""
    if os.environ.get("NO_COLOR") or not (os.environ.get("FORCE_COLOR") or is_live()):
        return text
    return f"\x1b[{COLORS[color]}m{text}\x1b[0m"


class Stream:
    """A standard stream that takes any text and never raises: the first refusal is kept in `error`, the rest dropped.

    Whoever prints, a library or our own code, can then neither end a command nor change its exit code; what a refusal
    means is decided once, when the command ends.
    """

    def __init__(self, inner: TextIO) -> None:
        self._inner = inner
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write text; letters that the encoding lacks become escapes."""
        encoding = encoding_of(self._inner)
        self._try(self._inner.write, text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Hand on what is held."""
        self._try(self._inner.flush)

    def _try(self, action: Callable[..., object], *values: str) -> None:
        if self.error is not None:
            return
        try:
            action(*values)
        except OSError as error:
            self.error = error
            _discard(self._inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def as_json(document: Any, stream: TextIO) -> str:
    """Return JSON that the stream can encode: where it lacks letters, or where there are none, as escapes."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    try:
        text.encode(encoding_of(stream))
    except UnicodeEncodeError:
        return json.dumps(document, indent=2)
    return text


def encoding_of(stream: TextIO) -> str:
    """Return the encoding of a stream, UTF-8 where it names none that exists."""
    try:
        return codecs.lookup(getattr(stream, "encoding", None) or "utf-8").name
    except LookupError:
        return "utf-8"


def _discard(stream: TextIO) -> None:
    """Let a stream lead nowhere: Python fails at its end on what a stream still holds and cannot write."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
