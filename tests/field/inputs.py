"""Small inputs of situations that people met, each under a name of its own; the same files each time."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

RED, BLUE, GREY = (200, 30, 30), (30, 30, 200), (40, 40, 40)


# ---------------------------------------------------------------- small parts


def scene(width: int, height: int) -> Pixels:
    """Dark grey; the upper left quarter is red."""
    pixels = np.full((height, width, 3), 40, np.uint8)
    pixels[: height // 2, : width // 2] = (230, 30, 30)
    return pixels


def mask_of(width: int, height: int, value: int = 1) -> Pixels:
    """0; the upper left quarter, where the red is, has `value`."""
    labels = np.zeros((height, width), np.uint8)
    labels[: height // 2, : width // 2] = value
    return labels


def noise(rng: np.random.Generator, side: int = 64) -> Pixels:
    return rng.integers(0, 256, (side, side, 3), dtype=np.uint8)


def near(rng: np.random.Generator, colour: tuple[int, int, int], side: int = 64) -> Pixels:
    """One colour with a little noise."""
    return (np.array(colour) + rng.normal(0, 8, (side, side, 3))).clip(0, 255).astype(np.uint8)


def flat(colour: tuple[int, int, int], width: int = 48, height: int = 32) -> Pixels:
    return np.full((height, width, 3), colour, np.uint8)


def coded(pixels: Pixels, kind: str = "JPEG", **how: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **({"quality": 95} if kind == "JPEG" else {}) | how)
    return stream.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def put(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


# ---------------------------------------------------------------- the cases


def a1_upright(here: Path) -> None:
    """Stored 48 wide, 32 high, orientation 6: a viewer shows it 32 wide, 48 high, the red at the upper right."""
    for suffix, kind, how in (
        ("jpg", "JPEG", {}),
        ("png", "PNG", {}),
        ("webp", "WEBP", {"lossless": True}),
        ("tif", "TIFF", {}),
    ):
        put(here / f"d/{suffix}.{suffix}", coded(scene(48, 32), kind, exif=turned(6), **how))
    put(here / "lying/p.png", coded(scene(48, 32), "PNG", exif=turned(6)))
    put(here / "upright/p.png", coded(np.rot90(scene(48, 32), -1), "PNG"))  # the same picture, no EXIF


def a2_turned_masks(here: Path) -> None:
    """In the stored pixels the red quarter lies exactly under mask value 1."""
    for orientation in (3, 6):
        for name, width, height in (("a", 64, 64), ("b", 96, 64)):
            put(here / f"d{orientation}/{name}.jpg", coded(scene(width, height), exif=turned(orientation)))
            put(here / f"m{orientation}/{name}.png", coded(mask_of(width, height), "PNG"))
    put(here / "d6u/b.jpg", coded(scene(96, 64), exif=turned(6)))
    put(here / "m6u/b.png", coded(np.rot90(mask_of(96, 64), -1), "PNG"))  # drawn on what a viewer shows: 64 x 96


def a3_deep_grey(here: Path) -> None:
    """A grey ramp from black to white over 48 columns."""
    ramp = np.linspace(0, 65535, 48)[None].repeat(32, 0)
    put(here / "d/ramp16.png", coded(ramp.astype(np.uint16), "PNG"))
    put(here / "d/ramp16.tif", coded(ramp.astype(np.uint16), "TIFF"))
    put(here / "d/ramp_int32.tif", coded((ramp // 257).astype(np.int32), "TIFF"))
    put(here / "plain/ramp8.png", coded((ramp / 257).round().astype(np.uint8), "PNG"))  # what all of them show


def a4_alpha(here: Path) -> None:
    pixels = np.zeros((32, 48, 4), np.uint8)
    pixels[..., :3] = (0, 255, 0)  # green that nobody sees
    pixels[8:24, 12:36] = (200, 40, 40, 255)
    put(here / "d/logo.png", coded(pixels, "PNG"))


def a5_thin(here: Path) -> None:
    ordinary = [(f"{i:03d}.jpg", coded(flat((i * 5, 30, 30), 64, 64))) for i in range(4)]
    tar(here / "without/0.tar", ordinary)
    tar(here / "with/0.tar", [*ordinary, ("999.png", coded(flat(RED, 20000, 1), "PNG"))])


def b1_missing_class(here: Path) -> None:
    rng, colours = np.random.default_rng(1), {"ant": (230, 20, 20), "bee": (20, 230, 20), "cat": (20, 20, 230)}
    for name, colour in colours.items():
        for i in range(12):
            put(here / f"train/{name}/{i}.jpg", coded(near(rng, colour)))
        for i in range(6 if name != "ant" else 0):
            put(here / f"val/{name}/{i}.jpg", coded(near(rng, colour)))


def b2_imagenet_subset(here: Path) -> None:
    rng = np.random.default_rng(2)
    for wordnet in ("n02085620", "n02110958", "n02123045"):  # Chihuahua 151, pug 254, tabby 281
        for i in range(4):
            put(here / f"d/{wordnet}/{i}.jpg", coded(noise(rng)))


def b3_numbered_folders(here: Path) -> None:
    for i in range(12):
        put(here / f"d/{i}/a.jpg", coded(flat((i * 20, 0, 0))))


def b4_text_labels(here: Path) -> None:
    for i in range(12):
        put(here / f"d/{i:02d}.jpg", coded(flat((i * 20, 0, 0))))
        put(here / f"d/{i:02d}.json", json.dumps({"caption": f"a cat {i}", "label": "cat"}))


def c1_open_quote(here: Path) -> None:
    for i in range(6):
        put(here / f"d/{i}.jpg", coded(flat(RED)))
    captions = ["a cat", '"Untitled, oil on canvas', "a dog", "a bird", "a fish", "a cow"]
    rows = "".join(f"{i}.jpg\t{caption}\n" for i, caption in enumerate(captions))
    put(here / "captions.tsv", "file_name\tcaption\n" + rows)


def c2_byte_order_mark(here: Path) -> None:
    tar(
        here / "t/0.tar",
        [
            ("a.jpg", coded(flat(RED, 64, 64))),
            ("a.txt", "\ufeffa cat".encode()),
            ("a.cls", b"0"),
            ("b.jpg", coded(flat(BLUE, 64, 64))),
            ("b.txt", b"a dog"),
            ("b.cls", b"1"),
        ],
    )
    put(here / "classes.txt", "\ufeffcat\ndog\n")


def c3_upper_case(here: Path) -> None:
    put(here / "d/A.JPG", coded(flat(RED)))
    put(here / "d/A.TXT", "a cat")


def c4_section_twice(here: Path) -> None:
    put(here / "s.yaml", "run:\n  seed: 7\noptim:\n  lr: 1e-3\nrun:\n  stage: 2\n")


def d1_masks_of_other_names(here: Path) -> None:
    for i in range(3):
        put(here / f"d/{i}.jpg", coded(scene(48, 32)))
        put(here / f"m/{i}_mask.png", coded(mask_of(48, 32), "PNG"))


def d2_no_captions(here: Path) -> None:
    rng = np.random.default_rng(4)
    tar(here / "t/0.tar", [(f"{i:05d}.jpg", coded(noise(rng, 32))) for i in range(16)])


def e1_late_damage(here: Path) -> None:
    rng = np.random.default_rng(5)
    for i in range(40):
        content = coded(noise(rng, 32))
        put(here / f"d/{i}.jpg", content[: len(content) // 2])  # the header is whole


def e2_mac_tars(here: Path) -> None:
    members = []
    for i in range(3):
        for suffix, content in (("jpg", coded(flat((i * 40, 0, 0), 64, 64))), ("txt", b"cat %d" % i)):
            members += [(f"d/._{i:05d}.{suffix}", b"Mac OS X        " * 8), (f"d/{i:05d}.{suffix}", content)]
    tar(here / "t/0.tar", members)
    tar(here / "u/0.tar", [(name.replace("d/", "./"), content) for name, content in members])


def e3_dotted_names(here: Path) -> None:
    picture = coded(flat(RED, 64, 64))
    tar(here / "t/0.tar", [("1.5 cats.jpg", picture), ("1.5 cats.txt", b"x"), ("a.b.jpg", picture), ("x.jpg", picture)])


def f1_moved_resume(here: Path) -> None:
    tar(here / "proj/d/0.tar", [(f"{i:03d}.jpg", coded(flat((i * 9, 30, 30), 64, 64))) for i in range(12)])
    tar(here / "other/d/0.tar", [(f"{i:03d}.jpg", coded(flat((0, 250, i), 64, 64))) for i in range(12)])
    (here / "third").mkdir()


def f2_changed_pictures(here: Path) -> None:
    """`second` has the names and sizes of `first`, and other pixels: green is 30 there and 250 here."""
    for i in range(400):
        put(here / f"first/{i:05d}.bmp", coded(flat((i % 250, 30, 30), 8, 8), "BMP"))
        put(here / f"second/{i:05d}.bmp", coded(flat((5, 250, i % 250), 8, 8), "BMP"))


def g1_same_stem(here: Path) -> None:
    put(here / "d/x.jpg", coded(flat(RED)))
    put(here / "d/x.png", coded(flat(BLUE), "PNG"))
    put(here / "y.jpg", coded(flat(RED)))
    put(here / "y-recon.png", "my own work")
    put(here / "y-attention.png", "my own work")


def g2_not_ours(here: Path) -> None:
    rng = np.random.default_rng(6)
    tar(here / "s/0.tar", [(f"{i}.jpg", coded(noise(rng))) for i in range(2)])
    put(here / "mine/job.json", '{"slurm": 1}')
    put(here / "mine/thesis.tex", "x")


def g3_mask_names(here: Path) -> None:
    rng = np.random.default_rng(7)
    for name in ("a", "b"):
        members = []
        for i in range(4):
            members += [(f"{i:05d}.jpg", coded(noise(rng))), (f"{i:05d}.seg.png", coded(mask_of(64, 64), "PNG"))]
        tar(here / f"{name}/000000.tar", members)


def h1_ascii_terminal(here: Path) -> None:
    put(here / "ünï 日本.jpg", coded(flat(RED)))


def h4_progress(here: Path) -> None:
    rng = np.random.default_rng(8)
    tar(here / "t/0.tar", [(f"{i:05d}.jpg", coded(noise(rng, 24))) for i in range(50)])


def i1_nothing_labelled(here: Path) -> None:
    """Under the rule ade20k 0 is ignored: the masks of `val` say nothing at all."""
    rng = np.random.default_rng(9)
    for name, count, labels in (("train", 6, mask_of(64, 64) + 1), ("val", 4, mask_of(64, 64) * 0)):
        members = []
        for i in range(count):
            members += [(f"{i}.jpg", coded(noise(rng))), (f"{i}.seg.png", coded(labels, "PNG"))]
        tar(here / f"{name}/0.tar", members)


def i2_black_and_white_masks(here: Path) -> None:
    rng = np.random.default_rng(10)
    for name in ("train", "val"):
        members = []
        for i in range(4):
            members += [(f"{i}.jpg", coded(noise(rng))), (f"{i}.seg.png", coded(mask_of(64, 64, 255), "PNG"))]
        tar(here / f"{name}/0.tar", members)


def i3_memory(here: Path) -> None:
    tar(here / "t/0.tar", [("0.jpg", coded(flat(RED, 64, 64)))])


CASES: dict[str, Callable[[Path], None]] = {
    "a1-upright": a1_upright,
    "a2-turned-masks": a2_turned_masks,
    "a3-deep-grey": a3_deep_grey,
    "a4-alpha": a4_alpha,
    "a5-thin": a5_thin,
    "b1-missing-class": b1_missing_class,
    "b2-imagenet-subset": b2_imagenet_subset,
    "b3-numbered-folders": b3_numbered_folders,
    "b4-text-labels": b4_text_labels,
    "c1-open-quote": c1_open_quote,
    "c2-byte-order-mark": c2_byte_order_mark,
    "c3-upper-case": c3_upper_case,
    "c4-section-twice": c4_section_twice,
    "d1-masks-of-other-names": d1_masks_of_other_names,
    "d2-no-captions": d2_no_captions,
    "e1-late-damage": e1_late_damage,
    "e2-mac-tars": e2_mac_tars,
    "e3-dotted-names": e3_dotted_names,
    "f1-moved-resume": f1_moved_resume,
    "f2-changed-pictures": f2_changed_pictures,
    "g1-same-stem": g1_same_stem,
    "g2-not-ours": g2_not_ours,
    "g3-mask-names": g3_mask_names,
    "h1-ascii-terminal": h1_ascii_terminal,
    "h4-progress": h4_progress,
    "i1-nothing-labelled": i1_nothing_labelled,
    "i2-black-and-white-masks": i2_black_and_white_masks,
    "i3-memory": i3_memory,
}
"""Not here: h2-full-disk and h3-log-level need no file; e4-lightning-checkpoint is made from weights of the tests."""
