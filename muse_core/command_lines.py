r"""Command lines that muse prints, as they are typed in bash again: whatever names hold, and whatever is printed on.

Names of files are bytes. Those that are no text, letters that stdout or stderr cannot show and signs that move a
cursor are spelled as escapes, as in $'caf\xc3\xa9'; other names stand as they are, in quotation marks where they need
them.
"""

import os
import shlex
import sys

_ESCAPED = {ord("'"): "\\'", ord("\\"): "\\\\"}


def quote(word: str | os.PathLike[str]) -> str:
    """Return one word of a command line."""
    text = os.fspath(word)
    return shlex.quote(text) if text.isprintable() and _can_be_shown(text) else _escaped(text)


def command_line(*words: str | os.PathLike[str]) -> str:
    """Return a command line of some words."""
    return " ".join(map(quote, words))


def _can_be_shown(text: str) -> bool:
    try:
        for encoding in {getattr(stream, "encoding", None) or "utf-8" for stream in (sys.stdout, sys.stderr)}:
            text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _escaped(text: str) -> str:
    try:
        content = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair: no name that can be typed
        content = text.encode("utf-8", "backslashreplace")
    letters = (_ESCAPED.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}") for byte in content)
    return f"$'{''.join(letters)}'"
