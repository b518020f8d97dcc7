"""Members of a sample become captions, classes, pictures and masks, or a reason why not."""

import io
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from muse_core.data.decode import RawSample, ShapeFilter, decode, read_caption, read_label
from muse_core.data.sample import Sample, Skip
from tests.data.conftest import picture
from tests.fixtures.regenerate import read_json

# In these the reference is wrong: an exact 1:2 is dropped, and sizes recorded as height and width are not read.
REFERENCE_WRONG = [{"original_height": 300, "original_width": 600}, {"height": 10, "width": 10}]


def skipped(**members: bytes) -> str:
    result = decode(RawSample("k", {name.replace("_", "."): content for name, content in members.items()}))
    assert isinstance(result, Skip)
    return result.reason


def decoded(**members: bytes) -> Sample:
    result = decode(RawSample("k", {name.replace("_", "."): content for name, content in members.items()}))
    assert isinstance(result, Sample)
    return result


def bomb(width: int, height: int) -> bytes:
    """A png of a few bytes whose header claims a huge picture."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("case", read_json("misc")["caption_extraction"])
def test_the_caption_is_the_one_the_reference_takes(case: dict[str, Any]) -> None:
    members = {name: value.encode() for name, value in case["sample"].items() if name != "json"}
    assert read_caption(members, case["sample"].get("json", {})) == case["text"]


@pytest.mark.parametrize("case", read_json("misc")["res_ratio_filter"])
def test_the_shape_filter_is_the_references_but_for_its_defects(case: dict[str, Any]) -> None:
    assert ShapeFilter().keeps(case["json"]) == (case["keep"] != (case["json"] in REFERENCE_WRONG))


def test_b12_an_exact_ratio_of_one_half_is_kept_and_plain_sizes_are_read() -> None:
    keeps = ShapeFilter().keeps
    assert keeps({"original_height": 300, "original_width": 600})
    assert keeps({"original_height": 600, "original_width": 300})
    assert not keeps({"original_height": 299, "original_width": 600})
    assert not keeps({"height": 10, "width": 10})


def test_b11_a_sample_with_class_and_caption_keeps_both() -> None:
    sample = decoded(png=picture(), txt=b"a dog", cls=b"7")
    assert (sample.caption, sample.label) == ("a dog", 7)


def test_b13_decompression_bombs_are_refused_even_where_pillow_was_told_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert skipped(png=bomb(30_000, 30_000)) == "decompression bomb"


@pytest.mark.filterwarnings("error")
def test_b13_decompression_bombs_are_counted_without_a_warning() -> None:
    assert skipped(png=bomb(30_000, 30_000)) == "decompression bomb"
    assert skipped(png=bomb(10_000, 10_000)) == "decompression bomb"


def test_a_sample_without_caption_class_or_mask_is_usable() -> None:
    sample = decoded(jpg=picture(kind="JPEG"))
    assert (sample.caption, sample.label, sample.mask) == ("", -1, None)


@pytest.mark.parametrize(("members", "label"), [({"cls": b" 12\n"}, 12), ({}, 3)])
def test_the_class_is_cls_else_the_label_of_json(members: dict[str, bytes], label: int) -> None:
    assert read_label(members, {"label": 3}) == label


def test_masks_are_label_bytes_and_palettes_are_not_applied() -> None:
    values = np.arange(16 * 20, dtype=np.uint8).reshape(16, 20)
    image = Image.fromarray(values, "L").convert("P")
    image.putpalette(list(range(255, -1, -1)) * 3)
    image.putdata(values.flatten().tolist())
    stream = io.BytesIO()
    image.save(stream, "PNG")
    mask = decoded(png=picture(20, 16), seg_png=stream.getvalue()).mask
    assert mask is not None
    np.testing.assert_array_equal(mask, values)


def test_sixteen_bit_pictures_are_scaled_not_clipped() -> None:
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 4), 0x8000, np.uint16)).save(stream, "PNG")
    assert (decoded(png=stream.getvalue()).image == 0x80).all()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA"])
def test_every_kind_of_png_becomes_rgb(mode: str) -> None:
    assert decoded(png=picture(mode=mode)).image.shape == (16, 20, 3)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"jpg": b"this is text"}, "image cannot be decoded"),
        ({"png": b""}, "image cannot be decoded: it is empty"),
        ({"jpg": picture(200, 200, "JPEG")[:500]}, "image cannot be decoded"),
        ({"png": picture(200, 200)[:500]}, "image cannot be decoded"),
        ({"txt": b"only a caption"}, "no image"),
        ({"png": picture(), "txt": b"caf\xe9"}, "caption is not UTF-8 (probably Latin-1)"),
        ({"png": picture(), "cls": b"2.5"}, "label is neither the index of a class nor a name"),
        ({"png": picture(), "json": b'{"label": 1.5}'}, "label is neither the index of a class nor a name"),
        ({"png": picture(), "json": b"{"}, "json cannot be parsed"),
        ({"png": picture(), "json": b"[]"}, "json is not an object"),
        ({"png": picture(), "seg_png": picture()}, "mask is not one byte per pixel"),
        ({"png": picture(), "seg_png": b"x"}, "mask cannot be decoded"),
        ({"png": picture(20, 16), "seg_png": picture(16, 20, mode="L")}, "mask and image differ in size"),
    ],
)
def test_damage_is_named(members: dict[str, bytes], reason: str) -> None:
    assert skipped(**members) == reason


def test_filtered_samples_are_not_errors() -> None:
    record = json.dumps({"original_height": 100, "original_width": 100}).encode()
    result = decode(RawSample("k", {"png": picture(), "json": record}), ShapeFilter())
    assert result == Skip("filtered by shape", "k", error=False)
