"""Damaged pictures and captions: through shard, inspect, eval and infer."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from muse_core.errors import ExitCode
from tests.fuzz.judge import Ended, muse
from tests.fuzz.kinds import Bug, Cases
from tests.fuzz.mutate import damaged, wrong

Wrong = tuple[Ended, str]
Again = Callable[[Path, list[int], Cases], Iterator[Bug]]

BASES = (
    ("jpg", "JPEG", "RGB"), ("jpg", "JPEG", "L"), ("jpg", "JPEG", "CMYK"), ("png", "PNG", "RGB"), ("png", "PNG", "P"),
    ("png", "PNG", "I;16"), ("png", "PNG", "RGBA"), ("png", "PNG", "1"), ("webp", "WEBP", "RGB"),
    ("webp", "WEBP", "RGBA"), ("tif", "TIFF", "RGB"), ("bmp", "BMP", "RGB"),
)  # fmt: skip


@cache
def picture(number: int) -> tuple[str, bytes]:
    """A picture of one of several formats and modes, with its suffix."""
    suffix, kind, mode = BASES[number % len(BASES)]
    pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = number // len(BASES) % 9
    grey = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    image = grey if mode == "I;16" else image.convert(mode)
    image.save(stream, kind, **({"exif": exif} if kind != "BMP" else {}))
    return suffix, stream.getvalue()


def pictures(folder: Path, cases: list[int], of: Cases) -> Iterator[Bug]:
    """Damaged pictures: every one of them is written, or named and counted."""
    inside = folder / "in"
    inside.mkdir(parents=True)
    for case in cases:
        suffix, content = picture(case)
        (inside / f"{case:05d}.{suffix}").write_bytes(damaged(content, of.rng(case)))
    bugs = [*_inferred(inside, folder, len(cases)), *sharded(inside, folder, len(cases))]
    yield from blamed(bugs, folder, cases, of, pictures)


def captions(folder: Path, cases: list[int], of: Cases) -> Iterator[Bug]:
    """Whole pictures with damaged captions beside them, as text or as JSON."""
    inside = folder / "in"
    inside.mkdir(parents=True)
    for case in cases:
        suffix, content = picture(case)
        (inside / f"{case:05d}.{suffix}").write_bytes(content)
        (inside / f"{case:05d}.{'json' if case % 2 else 'txt'}").write_bytes(_caption(case, of.rng(case)))
    yield from blamed(list(sharded(inside, folder, len(cases))), folder, cases, of, captions)


def _caption(case: int, rng: np.random.Generator) -> bytes:
    text = "ein Bild – 図\n".encode()
    if case % 2 == 0:
        return damaged(text, rng)
    record = {"caption": text.decode(), "label": 3, "width": 24, "height": 20, "text": ["a", {"b": None}]}
    content = json.dumps(wrong(record, rng), default=str).encode()
    return damaged(content, rng) if case % 4 == 3 else content


def blamed(bugs: list[Wrong], folder: Path, cases: list[int], of: Cases, again: Again) -> Iterator[Bug]:
    """Find out which case of a group is to blame."""
    if not bugs:
        return
    if len(cases) == 1:
        yield from (of.bug(cases[0], ended, what) for ended, what in bugs)
        return
    alone = [bug for case in cases for bug in again(folder / f"alone{case}", [case], of)]
    yield from alone or (of.bug(cases[0], ended, f"only together: {what or ended.bug}") for ended, what in bugs)


def _inferred(inside: Path, folder: Path, count: int) -> Iterator[Wrong]:
    ended = muse(
        "infer", str(inside), "--checkpoint", "tiny", "--size-px", "16", "--out", str(folder / "out"), "--json"
    )
    if ended.bug:
        yield ended, ""
    elif ended.code not in (ExitCode.DONE, ExitCode.FILE):
        yield ended, f"exit code {ended.code}"
    elif ended.code == ExitCode.DONE and len(ended.json["images"]) + len(ended.json["unread"]) != count:
        yield ended, "a picture is neither written nor named"


def sharded(inside: Path, folder: Path, count: int, options: tuple[str, ...] = ()) -> Iterator[Wrong]:
    """Store pictures, look at what is stored, and measure it: no count may differ."""
    shards = str(folder / "shards")
    how = ("--workers", "1", "--limit-errors", "100%", *options)
    ended = muse("shard", str(inside), "--out", shards, *how, "--json")
    if ended.bug:
        yield ended, ""
    if ended.code != ExitCode.DONE:
        return
    skipped = sum(ended.json["skipped"].values())
    if ended.json["count"] + skipped != count:
        yield ended, f"{ended.json['count']} stored and {skipped} skipped of {count}"
    looked = muse("inspect", shards, "--deep", "--json")
    if looked.bug:
        yield looked, ""
    read = muse("eval", "tiny", "--data", shards, "--metric", "psnr", "--size-px", "16", "--json")
    yield from _counted(read, ended.json["count"], looked)
    shutil.rmtree(folder / "out", ignore_errors=True)


def _counted(read: Ended, stored: int, looked: Ended) -> Iterator[Wrong]:
    if read.bug:
        yield read, ""
    elif read.code == ExitCode.DONE:
        counts = read.json["counts"]
        if counts["seen"] + sum(counts["skipped"].values()) != stored:
            yield read, f"{counts} of {stored} samples"
        if looked.code == ExitCode.DONE and counts["skipped"]:
            yield read, f"inspect --deep finds nothing wrong, and {counts['skipped']} cannot be read"
