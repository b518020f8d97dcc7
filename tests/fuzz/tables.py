"""Broken tables, stems that occur twice, and names that are not UTF-8: through shard, and back through its readers."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from muse_core.data.sample import Sample, Skip
from muse_core.data.source import open_source
from muse_core.errors import ExitCode
from tests.fuzz.judge import Ended, HangError, guarded, muse
from tests.fuzz.kinds import Bug, Cases, Rng
from tests.fuzz.mutate import ODD, damaged
from tests.fuzz.pictures import picture

STEMS: tuple[bytes, ...] = (
    b"a", b"b", b"a", b"x.y", b"caf\xe9", b"\xff\xfe", "K\u00e4fer".encode(), "Ka\u0308fer".encode(), b"1", b"01",
    b"10", b" b", b"-1", b"c,d", b'e"f', b"g\nh", b"._a", b"\xf0\x9f", b"n" * 200,
)  # fmt: skip
FOLDERS: tuple[bytes, ...] = (b"", b"1", b"01", b"10", b"cat", b"caf\xe9", b"train", b"__MACOSX", "K\u00e4fer".encode())
SIDECARS = ("txt", "TXT", "json", "JSON", "cls", "CLS", "seg.png", "png")
QUOTES = ('"', '""', '"x', 'x"', '" ', "'", '"\n"')
LABELS = ("cat", "dog", "3", "3.0", "3", "-1", "", "cat", "n02085620", "nan", "2.5")
ENDS = ("\n", "\r\n", "\r")
T = TypeVar("T")
MARK = "\N{RING OPERATOR}"
"""A sign that each caption of a table begins with, and that occurs nowhere else."""


def tables(folder: Path, cases: list[int], of: Cases) -> Iterator[Bug]:
    """Every image is stored or named, its readers read it, and no caption holds that of another row."""
    for case in cases:
        here = folder / f"{case}"
        here.mkdir(parents=True)
        yield from (of.bug(case, ended, what) for ended, what in _tried(here, of.rng(case)))
        shutil.rmtree(here)


def _tried(here: Path, rng: Rng) -> Iterator[tuple[Ended, str]]:
    inside = here / "in"
    names = _images(inside, rng)
    _beside(inside, names, rng)
    ended = muse(
        "shard", str(inside), "--out", str(here / "out"), "--workers", "1", "--json", *_asked(here, names, rng)
    )
    if ended.bug:
        yield ended, ""
    if ended.code != ExitCode.DONE:
        if (here / "out").exists():
            yield ended, f"exit code {ended.code}, and something lies under --out"
        return
    yield from ((ended, what) for what in _read_back(here / "out", ended, len(names)))


def _images(inside: Path, rng: Rng) -> list[bytes]:
    """Write some images, of which several may have one stem; return their names."""
    suffix, content = picture(0)
    names = []
    for _ in range(int(rng.integers(2, 7))):
        folder, stem = _one(FOLDERS, rng), _one(STEMS, rng)
        name = os.path.join(folder, stem + f".{_one((suffix, 'png', 'JPG'), rng)}".encode())
        path = Path(os.fsdecode(os.path.join(os.fsencode(inside), name)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        names.append(name)
    return [name for name in dict.fromkeys(names) if not (name.startswith(b"__MACOSX") or b"._" in name)]


def _beside(inside: Path, names: list[bytes], rng: Rng) -> None:
    for name in names:
        if rng.random() < 0.3:
            suffix, odd = _one(SIDECARS, rng), _one(ODD, rng)
            text = f'{{"label": {odd!r}, "caption": "x"}}' if suffix.lower() == "json" else str(odd)
            path = os.path.join(os.fsencode(inside), os.path.splitext(name)[0] + f".{suffix}".encode())
            if not os.path.exists(path):
                Path(os.fsdecode(path)).write_bytes(text.encode("utf-8", "replace"))


def _asked(here: Path, names: list[bytes], rng: Rng) -> list[str]:
    """Write a table of captions or of classes, and return the options that ask for it."""
    kind = _one(("captions", "classes", "none"), rng)
    options = [*_one(([], ["--classes", "folders"], ["--resize", "8"], ["--verify"]), rng)]
    if kind == "none" or (kind == "classes" and "--classes" in options):
        return options
    path = here / _one(("t.csv", "t.tsv", "T.TSV", "T.CSV"), rng)
    part = "\t" if path.suffix.lower() == ".tsv" else ","
    rows = [b"file_name" + part.encode() + (b"caption" if kind == "captions" else b"label")]
    for number, name in enumerate(names):
        value = f"{MARK}{number}" if kind == "captions" else _one(LABELS, rng)
        if rng.random() < 0.1:
            quote = _one(QUOTES, rng)
            value = quote + value if rng.random() < 0.5 else value + quote
        if name.isascii() or rng.random() < 0.1:
            rows.append(_named(name, part, rng) + part.encode() + value.encode())
    content = _one(ENDS, rng).encode().join([*rows, b""])
    if rng.random() < 0.3:
        content = damaged(content, rng)
    if rng.random() < 0.2:
        content = _one((b"\xef\xbb\xbf", b"\xff\xfe", b"\0"), rng) + content
    path.write_bytes(content)
    return [*options, f"--{kind}", f"csv:{path}"]


def _named(name: bytes, part: str, rng: Rng) -> bytes:
    """Spell a name as tables do: with its folders or without, and mostly quoted where it needs that."""
    name = os.path.basename(name) if rng.random() < 0.3 else name
    needs = part == "," and any(sign in name for sign in b',"\n')
    return b'"' + name.replace(b'"', b'""') + b'"' if needs and rng.random() < 0.9 else name


def _read_back(out: Path, ended: Ended, count: int) -> Iterator[str]:
    document = ended.json
    if not document["count"]:
        yield "nothing stored, and exit code 0"
    if document["count"] + sum(document["skipped"].values()) < count:
        yield f"{document['count']} stored and {document['skipped']} skipped of {count}"
    try:
        with guarded():
            read = list(open_source(str(out)).once())
    except (Exception, HangError) as error:
        yield f"what was written cannot be read: {type(error).__name__}: {error}"
        return
    for one in read:
        if isinstance(one, Skip):
            yield f"what was written with exit code 0 is damaged: {one.reason}"
        elif isinstance(one, Sample) and one.caption.count(MARK) > 1:
            yield f"a caption holds another row: {one.caption!r}"
    if len(read) != document["count"]:
        yield f"{len(read)} read of {document['count']} stored"


def _one(values: tuple[T, ...], rng: Rng) -> T:
    return values[int(rng.integers(len(values)))]
