"""Whole pictures of every kind: orientations, depths, alpha, frames, extreme sizes, and masks that fit or not."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from muse_core.data.sample import Sample
from muse_core.data.source import open_source
from muse_core.errors import ExitCode, MuseError
from muse_core.pictures import read_picture
from tests.fuzz.judge import Ended, muse
from tests.fuzz.kinds import Bug, Cases, Rng
from tests.fuzz.pictures import Wrong, blamed, sharded

RED = (230, 30, 30)
SIZES = ((24, 20), (20, 24), (16, 16), (1, 1), (1, 40), (2000, 1), (1, 3000), (17_000, 1), (3, 16_400), (66_000, 1))
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpg": ("JPEG", {"quality": 95}), "png": ("PNG", {}), "webp": ("WEBP", {"lossless": True}), "tif": ("TIFF", {}),
    "gif": ("GIF", {}), "bmp": ("BMP", {}), "ppm": ("PPM", {}), "avif": ("AVIF", {}), "jp2": ("JPEG2000", {}),
}  # fmt: skip
MODES = ("RGB", "RGB", "RGBA", "LA", "L", "P", "1", "CMYK", "I;16", "I", "F", "YCbCr")
OPTIONS = ((), ("--resize", "8"), ("--format", "webp"), ("--format", "jpg", "--verify"), ("--verify",))
LONGEST_INFERRED = 5000


def odd_pictures(folder: Path, cases: list[int], of: Cases) -> Iterator[Bug]:
    """Every picture is read alike by all, or named by all; masks lie where they were drawn."""
    inside, masks = folder / "in", folder / "masks"
    inside.mkdir(parents=True)
    masks.mkdir()
    for case in cases:
        made(case, of.rng(case), inside, masks)
    option = OPTIONS[int(of.rng(cases[0]).integers(len(OPTIONS)))]
    more = (*option, *(("--masks", str(masks)) if any(masks.iterdir()) else ()))
    bugs: list[Wrong] = list(sharded(inside, folder, len(cases), more))
    bugs += [(Ended(("shard", *more), 0, "", ""), what) for what in differences(inside, folder / "shards", not option)]
    bugs += inferred(inside, folder)
    yield from blamed(bugs, folder, cases, of, odd_pictures)


def made(case: int, rng: Rng, inside: Path, masks: Path) -> None:
    """Write a picture whose upper left quarter is red, and half of the time a mask of that."""
    width, height = SIZES[int(rng.integers(len(SIZES)))] if rng.random() < 0.5 else SIZES[int(rng.integers(3))]
    suffix, mode = str(rng.choice(list(KINDS))), str(rng.choice(MODES))
    kind, how = KINDS[suffix]
    orientation = int(rng.integers(0, 10))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image, labels = quarter(width, height)
    content = saved(
        in_mode(image, mode), kind, **how, **({"exif": exif} if suffix not in ("gif", "bmp", "ppm") else {})
    )
    if content is None:  # a format that cannot hold this
        content = saved(image, "PNG") or b""
    if rng.random() < 0.2 and suffix in ("png", "tif", "gif"):
        frames = {"save_all": True, "append_images": [Image.new("RGB", image.size)]}
        content = saved(image, kind, **how, **frames) or content
    (inside / f"{case:05d}.{suffix}").write_bytes(content)
    if rng.random() < 0.5:
        drawn = {0: labels, 1: labels, 2: np.rot90(labels), 3: labels[1:]}[int(rng.integers(4))]
        if drawn.size:
            (masks / f"{case:05d}.png").write_bytes(saved(Image.fromarray(np.ascontiguousarray(drawn)), "PNG") or b"")


def quarter(width: int, height: int) -> tuple[Image.Image, np.ndarray[Any, Any]]:
    """A picture whose upper left quarter is red, and the mask of it."""
    pixels, labels = np.full((height, width, 3), 40, np.uint8), np.zeros((height, width), np.uint8)
    corner = np.s_[: max(1, height // 2), : max(1, width // 2)]
    pixels[corner], labels[corner] = RED, 1
    return Image.fromarray(pixels), labels


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Turn a picture into another mode."""
    grey = np.asarray(image)[..., 0]
    if mode in ("I;16", "I", "F"):
        return Image.fromarray(grey.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]) * 200)
    return image.convert(mode)


def saved(image: Image.Image, kind: str, **how: Any) -> bytes | None:
    """Write a picture; None where the format cannot hold it."""
    stream = io.BytesIO()
    try:
        image.save(stream, kind, **how)
    except Exception:  # each format refuses in its own way what it cannot hold
        return None
    return stream.getvalue()


def differences(inside: Path, shards: Path, plain: bool) -> Iterator[str]:
    """What is read of shards otherwise than of the files that they were made of."""
    if not shards.is_dir():
        return
    left = (shards / "skipped.csv").read_text() if (shards / "skipped.csv").exists() else ""
    names = [path.name for path in sorted(inside.iterdir()) if f"{path.name}," not in left]
    read = [one for one in open_source(str(shards)).once() if isinstance(one, Sample)]
    if len(read) != len(names):
        yield f"{len(names)} files were stored, {len(read)} are read"
        return
    for name, sample in zip(names, read, strict=True):
        yield from (f"{name}: {what}" for what in wrong_in(inside / name, sample, plain))


def wrong_in(path: Path, sample: Sample, plain: bool) -> Iterator[str]:
    """What is wrong with one sample."""
    try:
        alone = np.rint(read_picture(path).transpose(1, 2, 0) * 255).astype(np.uint8)
    except MuseError as error:
        yield f"is stored, though alone {error.what}"
        return
    if plain and not np.array_equal(alone, sample.image):
        yield f"{sample.image.shape} in shards, {alone.shape} alone, or other pixels"
    elif (alone.shape[0] > alone.shape[1]) != (sample.image.shape[0] > sample.image.shape[1]) and max(alone.shape) < 99:
        yield "lies in shards and stands alone"
    if sample.mask is not None and sample.mask.shape != sample.image.shape[:2]:
        yield "its mask has another size"
    elif plain and sample.mask is not None and not under_red(sample):
        yield "its mask lies elsewhere"


def under_red(sample: Sample) -> bool:
    """Whether the mask is where the picture is red, as far as it is in colour and large enough to say."""
    assert sample.mask is not None
    red = sample.image[..., 0].astype(int) - sample.image[..., 1] > 120
    return min(red.shape) < 8 or not red.any() or bool((sample.mask[red] == 1).mean() > 0.9)


def inferred(inside: Path, folder: Path) -> Iterator[Wrong]:
    """Infer what is short enough for a network that looks at all of it at once."""
    files = [path for path in sorted(inside.iterdir()) if shorter(path)]
    if not files:
        return
    out = str(folder / "out")
    ended = muse("infer", *map(str, files), "--checkpoint", "tiny", "--size-px", "16", "--out", out, "--json")
    if ended.bug:
        yield ended, ""
    elif ended.code not in (ExitCode.DONE, ExitCode.FILE):
        yield ended, f"exit code {ended.code}"
    elif ended.code == ExitCode.DONE and len(ended.json["images"]) + len(ended.json["unread"]) != len(files):
        yield ended, "a picture is neither written nor named"


def shorter(path: Path) -> bool:
    """Whether a picture is short enough to be inferred."""
    with Image.open(path) as image:
        return max(image.size) <= LONGEST_INFERRED
