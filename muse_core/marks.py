"""The mark that muse leaves inside a file that it writes, and by which it knows the file again.

PNG has a text chunk, HTML a meta tag, SVG a metadata element, PDF a comment, a JSON object the key "made_by".
The mark says the purpose of the file, a digest of what it was made of, and a digest of the rest of the file: a file
that was changed afterwards is the user's. Formats that hold no mark are known by the index of their folder
(`ownership`).
"""

import hashlib
import json
import re
import stat
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muse_core.json_text import finite, utf8

LARGEST = 256 << 20
"""Bytes; a file beyond it is none of ours, and is not read."""
KEY = "made_by"

_PNG = b"\x89PNG\r\n\x1a\n"
_PDF = b"%PDF-"
_PDF_END = b"startxref"  # before it a comment may stand: no place in the file that the file names comes later
_HEADER = 33  # signature and IHDR, after which a text chunk may stand
_WORDS = re.compile(r"muse (?P<purpose>[\w-]+)(?: of (?P<of>[0-9a-f]{12}))? sha256 (?P<digest>[0-9a-f]{16})")
_COMMENT = re.compile(rb"%(muse [^\r\n]*)\n\Z")
_WRAPPED = re.compile(rb'<meta name="muse" content="(muse [^"<]*)">|<metadata id="muse">(muse [^"<]*)</metadata>')
_HEAD = re.compile(rb"<head(?: [^>]*)?>", re.IGNORECASE)
_SVG = re.compile(rb"<svg(?:\s[^>]*)?>")


@dataclass(frozen=True)
class Mark:
    """What a file is for, such as "recon" or "report", and a digest of what it was made of, where that matters."""

    purpose: str
    of: str = ""


def made_of(*parts: object) -> str:
    """Return a digest of what a file is made of, for `Mark.of`: it tells two inputs apart and names neither."""
    return _digest(utf8("\0".join(map(str, parts))), 12)


def with_mark(content: bytes | str, mark: Mark) -> bytes:
    """Put the mark into a PNG, HTML, SVG or PDF file; other formats hold none and come back as they are."""
    data = utf8(content) if isinstance(content, str) else content
    rest, _ = _split(data)
    words = _words(mark, rest).encode()
    if rest.startswith(_PNG):
        return rest[:_HEADER] + _chunk(b"muse\0" + words) + rest[_HEADER:]
    if rest.startswith(_PDF) and (end := rest.rfind(_PDF_END)) > 0:
        return rest[:end] + b"%%%s\n" % words + rest[end:]
    for opening, wrapped in (
        (_HEAD, b'<meta name="muse" content="%s">'),
        (_SVG, b'<metadata id="muse">%s</metadata>'),
    ):
        found = opening.search(rest) if _is_page(rest) == (opening is _HEAD) and _is_text(rest) else None
        if found:
            return rest[: found.end()] + wrapped % words + rest[found.end() :]
    return data


def marked_document(document: Mapping[str, Any], mark: Mark) -> dict[str, Any]:
    """Return a JSON object with the mark under "made_by"."""
    rest = finite({key: value for key, value in document.items() if key != KEY})  # as it will be read back
    return {**rest, KEY: _words(mark, _canonical(rest))}


def mark_of(path: Path) -> Mark | None:
    """Return the mark of a file; None when it has none, was changed since, is a link, or cannot be read."""
    try:
        state = path.lstat()
        if not stat.S_ISREG(state.st_mode) or not 0 < state.st_size <= LARGEST:
            return None
        with path.open("rb") as stream:
            start = stream.read(1 << 16)
            looked_into = b"muse" in start or start.startswith(_PDF)  # whose mark is at the end
            if not looked_into and start.lstrip()[:1] != b"{":  # most files are none of ours
                return None
            return mark_in(start + stream.read())
    except OSError:
        return None


def has_png_mark(path: Path) -> bool:
    """Return whether a file is a PNG that may hold a mark: of one among millions no more than its beginning is read."""
    try:
        with path.open("rb", buffering=0) as stream:
            start = stream.read(_HEADER + 13)
    except OSError:
        return False
    return start.startswith(_PNG) and start[_HEADER + 4 :] == b"tEXtmuse\0"


def mark_in(content: bytes) -> Mark | None:
    """Return the mark in the content of a file, if the rest is as it was written."""
    if content.lstrip()[:1] == b"{":
        return _mark_in_document(content)
    rest, words = _split(content)
    return _read(words, rest)


def _mark_in_document(content: bytes) -> Mark | None:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    words = document.pop(KEY, None)
    return _read(words, _canonical(document)) if isinstance(words, str) else None


def _read(words: str, rest: bytes) -> Mark | None:
    found = _WORDS.fullmatch(words)
    if found is None or found["digest"] != _digest(rest, 16):
        return None
    return Mark(found["purpose"], found["of"] or "")


def _split(content: bytes) -> tuple[bytes, str]:
    """Take the mark out: the rest of the content, and the words of the mark, empty where it has none."""
    if content.startswith(_PNG):
        return _split_png(content)
    if content.startswith(_PDF):
        return _split_pdf(content)
    found = _WRAPPED.search(content) if _is_text(content) else None
    if found is None:
        return content, ""
    words = found[1] or found[2]
    return content[: found.start()] + content[found.end() :], words.decode("utf-8", "replace")


def _split_png(content: bytes) -> tuple[bytes, str]:
    length = int.from_bytes(content[_HEADER : _HEADER + 4], "big")
    end = _HEADER + 12 + length
    chunk = content[_HEADER:end]
    if not chunk[4:].startswith(b"tEXtmuse\0"):
        return content, ""
    return content[:_HEADER] + content[end:], chunk[13:-4].decode("latin-1")


def _split_pdf(content: bytes) -> tuple[bytes, str]:
    end = content.rfind(_PDF_END)
    found = _COMMENT.search(content, max(0, end - 200), end) if end > 0 else None
    if found is None:
        return content, ""
    return content[: found.start()] + content[end:], found[1].decode("utf-8", "replace")


def _chunk(text: bytes) -> bytes:
    body = b"tEXt" + text
    return struct.pack(">I", len(text)) + body + struct.pack(">I", zlib.crc32(body))


def _is_text(content: bytes) -> bool:
    return content[:512].lstrip().startswith(b"<")


def _is_page(content: bytes) -> bool:
    return content[:512].lstrip().lower().startswith((b"<!doctype html", b"<html"))


def _words(mark: Mark, rest: bytes) -> str:
    of = f" of {mark.of}" if mark.of else ""
    return f"muse {mark.purpose}{of} sha256 {_digest(rest, 16)}"


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _digest(content: bytes, letters: int) -> str:
    return hashlib.sha256(content).hexdigest()[:letters]
