"""One file is one image in every command: the cases that people met, and all commands side by side."""

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from muse_core.image_files import ALPHA, FRAMES
from muse_core.pictures import read_picture
from tests.field.conftest import Case, Muse
from tests.field.images import channels, deep, moving, saved, uneven, unknown_white
from tests.field.inputs import Pixels, coded, flat, mask_of, put, scene, tar, turned
from tests.field.seen_images import GREY_OF, is_red, samples, skipped, under_the_red

# ---------------------------------------------------------------- a1


def is_upright(pixels: Pixels) -> bool:
    red = np.zeros((48, 32), bool)
    red[:24, 16:] = True
    return pixels.shape == (48, 32, 3) and bool((is_red(pixels) == red).all())


def test_a1_orientation_counts_in_every_command(case: Case, muse: Muse) -> None:
    case("a1-upright")
    assert muse("shard", "d", "--out", "keep").code == 0
    assert muse("shard", "d", "--resize", "32", "--out", "small").code == 0
    assert muse("shard", "d", "--format", "webp", "--out", "webp").code == 0
    for where in ("keep", "small", "webp"):
        assert [is_upright(one.image) for one in samples(where)] == [True] * 4, where
    inferred = muse("infer", "d/jpg.jpg", "--checkpoint", "tiny", "--out", "o", "--json").json["images"]
    assert [(one["height"], one["width"]) for one in inferred] == [(48, 32)]
    with tarfile.open("keep/000000.tar") as stored:
        assert stored.extractfile("00000.jpg").read() == Path("d/jpg.jpg").read_bytes()  # type: ignore[union-attr]


def test_a1_scores_do_not_depend_on_how_the_camera_lay(case: Case, muse: Muse) -> None:
    case("a1-upright")
    scores = []
    for name in ("lying", "upright"):
        assert muse("shard", name, "--out", f"{name}-out").code == 0
        ended = muse("eval", "tiny", "--data", f"{name}-out", "--metric", "psnr", "--json")
        scores.append(ended.json["metrics"]["psnr"])
        assert ended.json["protocol"]["reader"] == 2
    assert scores[0] == scores[1]


def test_a1_what_was_turned_for_good_is_not_turned_again(case: Case, muse: Muse) -> None:
    case("a1-upright")
    assert muse("shard", "d", "--format", "jpg", "--out", "once").code == 0
    with tarfile.open("once/000000.tar") as stored:
        for member in stored.getmembers():
            put(Path("again") / member.name, stored.extractfile(member).read())  # type: ignore[union-attr]
    assert not any(Image.open(path).getexif() for path in Path("again").iterdir())
    assert muse("shard", "again", "--resize", "32", "--out", "twice").code == 0
    assert [is_upright(one.image) for one in samples("twice")] == [True] * 4


# ---------------------------------------------------------------- a2


@pytest.mark.parametrize(
    ("name", "shapes", "small"),
    [
        ("3", [(64, 64), (64, 96)], [(32, 32), (32, 48)]),
        ("6", [(64, 64), (96, 64)], [(32, 32), (48, 32)]),
        ("6u", [(96, 64)], [(48, 32)]),
    ],
)
def test_a2_masks_turn_with_their_images(
    case: Case, muse: Muse, name: str, shapes: list[tuple[int, int]], small: list[tuple[int, int]]
) -> None:
    case("a2-turned-masks")
    assert muse("shard", f"d{name}", "--masks", f"m{name}", "--out", "keep").code == 0
    assert muse("shard", f"d{name}", "--masks", f"m{name}", "--resize", "32", "--out", "small").code == 0
    for where, right in (("keep", shapes), ("small", small)):
        found = samples(where)
        assert [one.image.shape[:2] for one in found] == right
        assert [under_the_red(one) for one in found] == [1.0] * len(right)
        assert muse("inspect", where, "--deep").code == 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("option", [(), ("--resize", "16"), ("--format", "webp"), ("--format", "jpg", "--verify")])
def test_masks_of_every_orientation_lie_on_their_object(
    muse: Muse, tmp_path: Path, orientation: int, option: tuple[str, ...]
) -> None:
    for width, height in ((64, 64), (96, 64)):
        put(tmp_path / f"d/{width}.jpg", coded(scene(width, height), exif=turned(orientation)))
        put(tmp_path / f"m/{width}.png", coded(mask_of(width, height), "PNG"))
    assert muse("shard", "d", "--masks", "m", "--out", "o", *option).code == 0
    assert [under_the_red(one) for one in samples("o")] == [1.0, 1.0]


def test_masks_of_a_recipe_turn_too(muse: Muse, tmp_path: Path) -> None:
    for split in ("training", "validation"):
        put(tmp_path / f"ade/images/{split}/a.jpg", coded(scene(96, 64), exif=turned(6)))
        put(tmp_path / f"ade/annotations/{split}/a.png", coded(mask_of(96, 64), "PNG"))
    assert muse("shard", "ade", "--recipe", "ade20k", "--resize", "32", "--out", "o").code == 0
    found = [*samples("o/train"), *samples("o/val")]
    assert [(one.image.shape, under_the_red(one)) for one in found] == [((48, 32, 3), 1.0)] * 2


def test_masks_in_tars_turn_with_their_images_when_they_are_stored_anew(muse: Muse, tmp_path: Path) -> None:
    pair = [("0.jpg", coded(scene(96, 64), exif=turned(8))), ("0.seg.png", coded(mask_of(96, 64), "PNG"))]
    tar(tmp_path / "t/0.tar", [*pair, ("0.txt", b"a cat")])
    assert under_the_red(samples("t")[0]) == 1.0
    assert muse("shard", "t", "--recipe", "cc12m", "--resize", "32", "--out", "o").code == 0
    assert [(one.image.shape, under_the_red(one)) for one in samples("o")] == [((48, 32, 3), 1.0)]


def test_a_dry_run_says_what_would_be_left_out_and_dropped(muse: Muse, tmp_path: Path) -> None:
    for name, content in unknown_white().items():
        put(tmp_path / "d" / name, content)
    for one in channels():
        put(tmp_path / "d" / one.name, one.content)
    ended = muse("shard", "d", "--dry-run", "--json")
    assert ended.code == 0  # as writing them ends
    assert sum(ended.json["skipped"].values()) == 3
    assert ended.json["notes"] == [f"6 images {ALPHA}"]


def test_a_mask_of_neither_size_is_named(muse: Muse, tmp_path: Path) -> None:
    put(tmp_path / "d/a.jpg", coded(scene(96, 64), exif=turned(6)))
    put(tmp_path / "d/b.jpg", coded(scene(96, 64), exif=turned(6)))
    put(tmp_path / "m/a.png", coded(mask_of(96, 64), "PNG"))
    put(tmp_path / "m/b.png", coded(mask_of(64, 64), "PNG"))
    assert muse("shard", "d", "--masks", "m", "--out", "o").code == 0
    assert skipped("o") == {"b.jpg": "mask and image differ in size"}


def test_inspect_finds_masks_that_do_not_fit_and_counts_upright_sizes(muse: Muse, tmp_path: Path) -> None:
    good = [("a.jpg", coded(scene(96, 64), exif=turned(6))), ("a.seg.png", coded(mask_of(64, 96), "PNG"))]
    tar(tmp_path / "t/0.tar", good)
    ended = muse("inspect", "t", "--json")
    assert (ended.code, ended.json["common_sizes"]) == (0, {"64x96": 1})
    tar(tmp_path / "u/0.tar", [*good, ("b.jpg", good[0][1]), ("b.seg.png", coded(mask_of(64, 64), "PNG"))])
    assert "mask and image differ in size" in muse("inspect", "u").err


# ---------------------------------------------------------------- a3


def is_ramp(pixels: Pixels) -> bool:
    return all((pixels[:, column] == pixels[0, column, 0]).all() for column in GREY_OF) and all(
        pixels[0, column, 0] in right for column, right in GREY_OF.items()
    )


def test_a3_sixteen_bits_are_scaled_and_thirty_two_are_refused_by_name(case: Case, muse: Muse) -> None:
    case("a3-deep-grey")
    assert muse("shard", "d", "--out", "s").code == 0
    assert [is_ramp(one.image) for one in samples("s")] == [True, True]
    why = "32-bit and signed pixels are not read: which value is white is not known"
    assert skipped("s") == {"ramp_int32.tif": why}
    for name in ("d/ramp16.png", "d/ramp16.tif", "plain/ramp8.png"):
        assert is_ramp(np.rint(read_picture(Path(name)).transpose(1, 2, 0) * 255).astype(np.uint8)), name
    ended = muse("infer", "d/ramp16.png", "d/ramp_int32.tif", "plain", "--checkpoint", "tiny", "--out", "o", "--json")
    assert [round(one["psnr"], 1) for one in ended.json["images"]] == [27.1, 27.1]
    assert ended.json["unread"] == {"d/ramp_int32.tif": f"d/ramp_int32.tif cannot be read as a picture: {why}"}


def test_deep_files_are_stored_alike_by_every_way_of_storing(muse: Muse, tmp_path: Path) -> None:
    files = [one for one in deep()]
    for one in files:
        put(tmp_path / "d" / one.name, one.content)
    right = [one.pixels for one in sorted(files, key=lambda one: one.name)]
    for number, option in enumerate(((), ("--resize", "64"), ("--verify",))):
        assert muse("shard", "d", "--out", f"o{number}", *option).code == 0
        for sample, pixels in zip(samples(f"o{number}"), right, strict=True):
            np.testing.assert_array_equal(sample.image, pixels)


def test_what_is_refused_in_shards_is_refused_in_every_reader(muse: Muse, tmp_path: Path) -> None:
    members = [(f"{name[0]}.{'tif'}", content) for name, content in unknown_white().items()]
    tar(tmp_path / "t/0.tar", [*members, ("a.png", coded(scene(64, 64), "PNG"))])
    counts = muse("eval", "tiny", "--data", "t", "--metric", "psnr", "--json").json["counts"]
    assert counts["seen"] == 1
    assert sorted(counts["skipped"].values()) == [1, 2]
    assert all("which value is white is not known" in reason for reason in counts["skipped"])
    assert "which value is white is not known" in muse("inspect", "t").err
    for name, content in unknown_white().items():
        put(tmp_path / "d" / name, content)
    refused = muse("attn-viz", "d/float.tif", "--checkpoint", "tiny")
    assert (refused.code, "which value is white is not known" in refused.err) == (4, True)
    put(tmp_path / "d/ok.png", coded(scene(64, 64), "PNG"))
    assert muse("shard", "d", "--resize", "16", "--out", "small").code == 0
    assert set(skipped("small")) == set(unknown_white())


# ---------------------------------------------------------------- a4


def test_a4_transparency_is_dropped_and_said_once(case: Case, muse: Muse) -> None:
    case("a4-alpha")
    put(Path("d/other.png"), Path("d/logo.png").read_bytes())
    put(Path("d/whole.png"), coded(scene(48, 32), "PNG"))
    sharded = muse("shard", "d", "--out", "s")
    inferred = muse("infer", "d", "--checkpoint", "tiny", "--out", "o")
    measured = muse("eval", "tiny", "--data", "s", "--metric", "psnr")
    for ended in (sharded, inferred, measured):
        assert (ended.code, ended.err.count(f"2 images {ALPHA}")) == (0, 1)
    green = flat((0, 255, 0))
    green[8:24, 12:36] = (200, 40, 40)
    np.testing.assert_array_equal(samples("s")[0].image, green)
    assert f"image {ALPHA}" in muse("inspect", "s").out
    assert muse("shard", "d", "--resize", "32", "--out", "small", "--json").json["notes"] == [f"2 images {ALPHA}"]
    np.testing.assert_array_equal(samples("small")[0].image, green)


def test_frames_are_said_and_the_first_is_read(muse: Muse, tmp_path: Path) -> None:
    files = list(moving())
    for one in files:
        put(tmp_path / "d" / one.name, one.content)
    ended = muse("shard", "d", "--resize", "64", "--out", "o")
    assert (ended.code, ended.err.count(f"{len(files)} images {FRAMES}")) == (0, 1)
    for sample, one in zip(samples("o"), sorted(files, key=lambda one: one.name), strict=True):
        np.testing.assert_array_equal(sample.image, one.pixels) if one.name != "moving.webp" else None
    inferred = muse("infer", "d", "--checkpoint", "tiny", "--out", "r")
    assert f"{len(files)} images {FRAMES}" in inferred.err
    seen = muse("attn-viz", "d/moving.gif", "--checkpoint", "tiny", "--out", "a.png")
    assert (seen.code, seen.err.count(f"1 image {FRAMES}")) == (0, 1)


def test_a_gif_is_stored_re_encoded_where_that_is_asked_for(muse: Muse, tmp_path: Path) -> None:
    large = Image.fromarray(uneven(side=200)).quantize(32)
    put(tmp_path / "d/large.gif", saved(large, "GIF"))
    put(tmp_path / "d/small.gif", saved(large.resize((8, 8)), "GIF"))
    assert muse("shard", "d", "--resize", "16", "--out", "o").code == 0
    assert [one.image.shape for one in samples("o")] == [(16, 16, 3), (8, 8, 3)]
    refused = muse("shard", "d", "--out", "p")
    assert (refused.code, "--format jpg or webp, or --resize" in refused.err) == (4, True)


def test_shards_of_others_hold_every_format(muse: Muse, tmp_path: Path) -> None:
    tar(
        tmp_path / "t/0.tar",
        [(f"{number}.{one.name.rpartition('.')[2]}", one.content) for number, one in enumerate(moving())],
    )
    for sample, one in zip(samples("t"), moving(), strict=True):
        np.testing.assert_array_equal(sample.image, one.pixels)


# ---------------------------------------------------------------- a5, and limits of encoders


def test_a5_a_thin_image_costs_no_more_than_its_crop(case: Case, muse: Muse, monkeypatch: pytest.MonkeyPatch) -> None:
    case("a5-thin")
    sizes: list[tuple[int, int]] = []
    resize: Callable[..., Image.Image] = Image.Image.resize

    def noticed(image: Image.Image, size: tuple[int, int], *more: Any, **how: Any) -> Image.Image:
        sizes.append(size)
        return resize(image, size, *more, **how)

    monkeypatch.setattr(Image.Image, "resize", noticed)
    ended = muse("eval", "tiny", "--data", "with", "--metric", "psnr", "--size-px", "224", "--json")
    assert ended.json["counts"] == {"seen": 5, "skipped": {}}
    assert max(width * height for width, height in sizes) == 224 * 224
    assert muse("inspect", "with").code == 0


@pytest.mark.parametrize("view", ["whole", "sliding"])
def test_a_thin_image_is_not_segmented_in_one_piece_and_that_is_said(muse: Muse, tmp_path: Path, view: str) -> None:
    rng = np.random.default_rng(0)
    ordinary = [
        member
        for number in range(4)
        for member in (
            (f"{number}.png", coded(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), "PNG")),
            (f"{number}.seg.png", coded(mask_of(64, 64), "PNG")),
        )
    ]
    thin = [("9.png", coded(flat((9, 9, 9), 5000, 1), "PNG")), ("9.seg.png", coded(mask_of(5000, 1), "PNG"))]
    tar(tmp_path / "t/0.tar", [*ordinary, *thin])
    ended = muse("segment", "tiny", "--data", "t", "--val-data", "t", "--epochs", "1", "--view", view, "--json")
    skips = ended.json["counts"]["skipped"]
    assert skips == {"more than 16 times as long as wide, which only --view crop takes": 1}


@pytest.mark.parametrize(("kind", "limit"), [("webp", 16383), ("jpg", 65500)])
def test_what_is_too_long_for_a_format_is_left_out_by_name(muse: Muse, tmp_path: Path, kind: str, limit: int) -> None:
    put(tmp_path / "d/fits.png", coded(flat((9, 9, 9), limit, 1), "PNG"))
    put(tmp_path / "d/long.png", coded(flat((9, 9, 9), 1, limit + 1), "PNG"))
    put(tmp_path / "d/shrinks.png", coded(flat((9, 9, 9), limit + 1, 4), "PNG"))
    assert muse("shard", "d", "--format", kind, "--resize", "2", "--out", "o").code == 0
    name = {"webp": "WEBP", "jpg": "JPEG"}[kind]
    assert skipped("o") == {"long.png": f"longer side has {limit + 1:,} pixels, and {name} holds at most {limit:,}"}
    assert [one.image.shape[1] for one in samples("o")] == [limit, round((limit + 1) / 2)]
