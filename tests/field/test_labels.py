"""A label means its class, however it is spelled and wherever it stands."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from muse_core.data.decode import RawSample, decode
from muse_core.data.labels import BadLabelError, in_order, parse_label
from muse_core.data.sample import UNKNOWN_LABEL
from muse_core.errors import MuseError
from muse_core.latents.members import read_latents
from tests.field.conftest import Muse
from tests.field.inputs import RED, coded, flat, tar

JPEG = coded(flat(RED))


@pytest.mark.parametrize("value", [None, "", "  ", b"", b"\n", -1, -1.0, "-1", "-1.0", b" -1\n", "\ufeff".encode()])
def test_blank_and_minus_one_are_no_class(value: object) -> None:
    assert parse_label(value) == UNKNOWN_LABEL


@pytest.mark.parametrize("value", [3, 3.0, "3", "3.0", " 3\n", b"3", b"3\r\n", "003", "+3", "3e0", "\ufeff3".encode()])
def test_a_number_stays_that_number(value: object) -> None:
    assert parse_label(value) == 3


@pytest.mark.parametrize(
    "value",
    [2.5, "2.5", math.nan, "NaN", math.inf, "-inf", True, False, -2, "-7", 2**63, "9" * 5000, 1e300, [3], {"a": 1}],
)
def test_what_fits_nothing_is_refused(value: object) -> None:
    with pytest.raises(BadLabelError):
        parse_label(value)


@pytest.mark.parametrize("value", ["cat", b" cat\n", "\ufeffcat".encode(), "cat\r\n"])
def test_text_is_the_name_of_a_class(value: object) -> None:
    assert parse_label(value) == "cat"


def test_a_name_is_the_same_in_one_sign_or_in_two() -> None:
    assert parse_label("Ka\u0308fer") == parse_label("K\u00e4fer")


@pytest.mark.parametrize("value", ["1_000", "\u0663", "0x1f", "true", "none", "n02085620"])
def test_what_only_a_programming_language_takes_for_a_number_is_a_name(value: str) -> None:
    assert parse_label(value) == value


def test_decimal_names_sort_as_numbers_and_any_other_list_as_text() -> None:
    assert in_order(["10", "9", "007", "0"]) == ("0", "007", "9", "10")
    assert in_order(["10", "9", "b"]) == ("10", "9", "b")
    assert in_order(["1.5", "10", "9"]) == ("1.5", "10", "9")
    assert in_order(["9" * 5000, "1"]) == ("1", "9" * 5000)


def test_two_names_of_one_number_are_refused() -> None:
    for names in (["1", "01", "2"], ["0", "00"]):
        with pytest.raises(BadLabelError, match="are one number"):
            in_order(names)


def sample(**members: bytes) -> Any:
    return decode(RawSample("k", {"jpg": JPEG, **members}))


@pytest.mark.parametrize("label", ["3", "3.0", '"3"'])
def test_readers_take_whole_numbers_from_json_as_from_cls(label: str) -> None:
    assert sample(json=b'{"label": %s}' % label.encode()).label == 3
    assert sample(cls=label.strip('"').encode()).label == 3


def test_a_sample_whose_label_is_a_word_can_be_used() -> None:
    assert sample(cls=b"cat").label == UNKNOWN_LABEL
    assert sample(json=b'{"label": "cat"}').label == UNKNOWN_LABEL
    assert sample(json=b'{"label": null}').label == UNKNOWN_LABEL


@pytest.mark.parametrize("label", ["NaN", "2.5", "true", "[1]", "-3", "1e999"])
def test_readers_name_a_label_that_fits_nothing(label: str) -> None:
    assert sample(json=b'{"label": %s}' % label.encode()).reason.startswith("label is neither")


def test_inspect_tells_of_labels_that_are_names(muse: Muse) -> None:
    members = [(f"{i}.{suffix}", content) for i in range(3) for suffix, content in (("jpg", JPEG), ("cls", b"cat"))]
    tar(Path("t/0.tar"), members)
    ended = muse("inspect", "t")
    assert (ended.code, "3, 3 usable" in ended.out) == (0, True)
    assert "3 x label is the name of a class, which has no number here (first: 0/0)" in ended.out


@pytest.mark.parametrize("content", [b"2.5", b"\xff\xfe1\0", b"true-ish"])
def test_latents_read_labels_as_all_readers_do(content: bytes) -> None:
    tensors = save({"latents": torch.zeros(1, 2, 2)})
    record = b'{"key": "k", "height": 2, "width": 2}'
    tar(Path("l/0.tar"), [("0.json", record), ("0.safetensors", tensors), ("0.cls", content)])
    if content == b"true-ish":
        assert [one.label for one in read_latents("l")] == [UNKNOWN_LABEL]
        return
    with pytest.raises(MuseError, match="label"):
        list(read_latents("l"))
