"""Refused values are told in words of our own, and names that are nearly right are recognised."""

from typing import Any, Literal, get_args

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ErrorType

from muse_core.rules import problems, rule
from muse_core.suggestions import choices, nearest

LIBRARY = ("Input should", "Value error", "Tuple", "List should", "valid ", "unable to parse", "validation", "pydantic")


@pytest.mark.parametrize("kind", get_args(ErrorType))
def test_no_message_of_the_library_reaches_a_user(kind: str) -> None:
    detail: Any = {
        "type": kind,
        "msg": "Input should be a valid thing",
        "ctx": dict.fromkeys(("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern"), 3)
        | {"expected": "'a' or 'b'"},
    }
    told = rule(detail)
    if kind in ("value_error", "assertion_error"):
        assert told == detail["msg"]  # what a settings class says itself
    else:
        assert told
        assert not any(word in told for word in LIBRARY)


class Thing(BaseModel):
    whole: int = 1
    number: float = Field(1.0, gt=0, lt=3)
    switch: bool = False
    text: str = "x"
    word: Literal["one", "two", 3] = "one"
    many: tuple[int, ...] = Field((1,), min_length=1)
    named: int | Literal["all", "last"] = 1
    table: dict[str, int] = {}

    @field_validator("text")
    @classmethod
    def _in_own_words(cls, value: str) -> str:
        if value == "custom":
            raise PydanticCustomError("of_mine", "says the plugin")
        if value == "bad":
            raise ValueError("is bad")
        return value


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"whole": "x"}, "whole: must be a whole number"),
        ({"whole": 1.5}, "whole: must be a whole number"),
        ({"whole": None}, "whole: must be a whole number"),
        ({"number": "x"}, "number: must be a number"),
        ({"number": 0}, "number: must be greater than 0"),
        ({"number": 3}, "number: must be less than 3"),
        ({"switch": "perhaps"}, "switch: must be true or false"),
        ({"text": 3}, "text: must be text"),
        ({"text": "bad"}, "text: is bad"),
        ({"text": "custom"}, "text: says the plugin"),
        ({"word": "three"}, "word: must be one, two or 3"),
        ({"many": []}, "many: must hold at least 1"),
        ({"many": 3}, "many: must be a list"),
        ({"table": 3}, "table: must be a table of keys with values"),
    ],
)
def test_what_a_user_can_type_wrong(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Thing.model_validate(given)
    assert problems(caught.value) == [told]


def test_a_list_with_a_wrong_part_is_not_also_too_short() -> None:
    from muse_core.rules import rules

    with pytest.raises(ValidationError) as caught:
        Thing.model_validate({"many": ["x"]})
    assert rules(caught.value.errors()) == "must be a whole number"


def test_a_value_without_a_key_has_the_name_given() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(int).validate_python("x")
    assert problems(caught.value, "--top") == ["--top: must be a whole number"]


def test_names_that_are_nearly_right() -> None:
    known = ["psnr", "ssim", "SD-VAE"]
    assert nearest("PSNRR", known) == "psnr"
    assert nearest("sd_vae", known) == "SD-VAE"
    assert nearest("colour", known) is None
    assert choices("psnrr", known) == "did you mean psnr? choose from psnr, ssim, SD-VAE"
    assert choices("colour", known) == "choose from psnr, ssim, SD-VAE"
