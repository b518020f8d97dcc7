"""One reader: which way up, how bright, which frame; and what is refused by name."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from muse_core.errors import BadMemberError, MuseError
from muse_core.image_files import ALPHA, FRAMES, ImageFile, noted
from muse_core.pictures import read_picture
from tests.field.images import (
    LOSSLESS,
    SIDE,
    TURNS,
    Odd,
    late_exif,
    odd,
    png,
    saved,
    tiff,
    uneven,
    unknown_white,
)
from tests.field.inputs import coded, flat, mask_of, scene, turned


@pytest.mark.parametrize("one", odd(), ids=lambda one: one.name)
def test_every_odd_file_is_read_as_a_viewer_shows_it(one: Odd, tmp_path: Path) -> None:
    image = ImageFile(one.content)
    assert image.size == (SIDE, SIDE)
    np.testing.assert_array_equal(image.pixels(), one.pixels)
    (tmp_path / one.name).write_bytes(one.content)
    np.testing.assert_array_equal(np.rint(read_picture(tmp_path / one.name).transpose(1, 2, 0) * 255), one.pixels)


@pytest.mark.parametrize("kind", [*LOSSLESS, "JPEG", *(["AVIF"] if "avif" in features.get_supported() else [])])
@pytest.mark.parametrize("orientation", TURNS)
def test_sizes_are_known_from_the_header(kind: str, orientation: int) -> None:
    how = LOSSLESS.get(kind, {})
    image = ImageFile(coded(scene(48, 32), kind, exif=turned(orientation), **how))
    assert image.stored_size == (48, 32)
    assert image.size == ((32, 48) if orientation > 4 else (48, 32))
    assert image.orientation == orientation
    assert image.pixels().shape[:2] == image.size[::-1]
    assert image.orientation == orientation  # also when Pillow has turned it


def test_exif_behind_the_pixels_counts_for_header_and_pixels() -> None:
    content = late_exif(coded(scene(48, 32), "PNG"), 6)
    assert ImageFile(content).size == (32, 48)
    np.testing.assert_array_equal(ImageFile(content).pixels(), np.rot90(scene(48, 32), -1))


def test_an_orientation_in_xmp_counts() -> None:
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta><rdf:Description tiff:Orientation="8"/></x:xmpmeta>')
    image = ImageFile(coded(scene(48, 32), "PNG", pnginfo=text))
    assert (image.orientation, image.pixels().shape) == (8, (48, 32, 3))


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_orientation_that_makes_no_sense_turns_nothing(kind: str, value: int) -> None:
    assert ImageFile(coded(scene(48, 32), kind, exif=turned(value))).pixels().shape == (32, 48, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_is_no_damage_to_the_image(kind: str, recwarn: pytest.WarningsRecorder) -> None:
    rng, whole, seen = np.random.default_rng(0), turned(6).tobytes(), Counter[int]()
    for case in range(60):
        exif = bytearray(whole)
        for place in rng.integers(6, len(exif), 3):
            exif[place] = rng.integers(256)
        content = coded(scene(48, 32), kind, exif=bytes(exif[: rng.integers(7, len(exif) + 1)] if case % 3 else exif))
        image = ImageFile(content)
        assert image.pixels().shape[:2] == image.size[::-1]
        seen[image.orientation] += 1
    assert seen[1] > 20
    assert not recwarn.list


def test_twelve_bits_are_scaled_by_their_own_white() -> None:
    values = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 4096
    pairs = values.reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1)
    pixels = ImageFile(tiff(packed.astype(np.uint8).tobytes(), bits=12)).pixels()
    np.testing.assert_array_equal(pixels[..., 0], values >> 4)


@pytest.mark.parametrize("name", unknown_white())
def test_values_whose_white_is_not_known_are_refused_by_name(name: str, tmp_path: Path) -> None:
    content = unknown_white()[name]
    with pytest.raises(BadMemberError, match="which value is white is not known"):
        ImageFile(content).pixels()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MuseError, match=rf"{name} cannot be read as a picture: .* which value is white is not known"):
        read_picture(tmp_path / name)


def test_lab_colours_are_refused_by_name() -> None:
    pixels = uneven().tobytes()
    with pytest.raises(BadMemberError, match="colours of mode LAB are not read"):
        ImageFile(tiff(pixels, photometric=8, channels=3, bits=8)).pixels()


def test_what_is_left_out_is_noted() -> None:
    notes = {one.name: ImageFile(one.content).notes for one in odd() if ImageFile(one.content).notes}
    clear = ("rgba.png", "rgba.webp", "rgba.tif", "la.png", "one-colour-clear.png", "palette-clear.png")
    frames = ("moving.png", "moving.webp", "pages.tif", "moving.gif")
    assert notes == {**dict.fromkeys(clear, (ALPHA,)), **dict.fromkeys(frames, (FRAMES,))}
    assert noted({ALPHA: 1, FRAMES: 0}) == [f"1 image {ALPHA}"]
    assert noted({FRAMES: 1200}) == [f"1,200 images {FRAMES}"]


def test_which_files_other_readers_saw_otherwise() -> None:
    affected = {one.name for one in odd() if ImageFile(one.content).is_affected}
    turned_ones = {one.name for one in odd() if "-" in one.name and one.name.split("-")[1][0] in "2345678"}
    assert affected == turned_ones | {
        "moving.gif",
        "deep.png",
        "deep.tif",
        "deep-packed.tif",
        "deep-big.tif",
        "deep-inverted.tif",
        "deep.pgm",
    }
    assert all(ImageFile(content).is_affected for content in unknown_white().values())


@pytest.mark.parametrize("orientation", TURNS)
def test_a_mask_of_the_stored_size_is_turned_and_one_of_the_upright_size_stays(orientation: int) -> None:
    image = ImageFile(coded(scene(96, 64), exif=turned(orientation)))
    stored, upright = mask_of(96, 64), TURNS[orientation](mask_of(96, 64))
    np.testing.assert_array_equal(image.upright_mask(stored), upright)
    if orientation > 4:
        np.testing.assert_array_equal(image.upright_mask(upright), upright)
    for wrong in ((96, 65), (63, 96)):
        with pytest.raises(BadMemberError, match="mask and image differ in size"):
            image.upright_mask(mask_of(*wrong))


def test_equal_sizes_belong_to_the_stored_pixels() -> None:
    image = ImageFile(coded(scene(64, 64), "PNG", exif=turned(5)))
    np.testing.assert_array_equal(image.upright_mask(mask_of(64, 64, 7)), mask_of(64, 64, 7).T)
    red = image.pixels()[..., 0] > 200
    assert (image.upright_mask(mask_of(64, 64))[red] == 1).all()


def test_an_upright_rgb_image_is_not_copied_on_its_way() -> None:
    image = ImageFile(coded(flat((9, 9, 9)), "JPEG"))
    assert image.rgb() is image.rgb()
    assert not image.is_affected


def test_headers_of_large_files_are_read_without_their_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [coded(scene(48, 32), kind, exif=turned(6)) for kind in ("JPEG", "PNG", "TIFF")]
    contents += [saved(Image.fromarray(uneven()), "PNG"), png(uneven().astype(">u2").tobytes(), 6 * SIDE)]

    def refuse(self: Image.Image) -> None:
        raise AssertionError("pixels were unpacked")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", refuse)
    sizes = [(image.size, image.orientation, image.notes) for image in map(ImageFile, contents)]
    assert [size for size, _, _ in sizes] == [(32, 48)] * 3 + [(64, 64)] * 2
