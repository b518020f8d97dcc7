"""Why a value is refused, in words that do not depend on the library which checks it."""

import re
from collections.abc import Sequence
from typing import get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

_COMPARED = {
    "greater_than": ("must be greater than {}", "gt"),
    "greater_than_equal": ("must be greater than or equal to {}", "ge"),
    "less_than": ("must be less than {}", "lt"),
    "less_than_equal": ("must be less than or equal to {}", "le"),
    "multiple_of": ("must be a multiple of {}", "multiple_of"),
    "string_too_short": ("must have at least {} letters", "min_length"),
    "string_too_long": ("must have at most {} letters", "max_length"),
    "string_pattern_mismatch": ("must have the form {}", "pattern"),
    "too_short": ("must hold at least {}", "min_length"),
    "too_long": ("must hold at most {}", "max_length"),
}
_KINDS = (
    (r"int_.*", "must be a whole number"),
    (r"float_.*|decimal_.*|is_instance_of_float", "must be a number"),
    (r"finite_number", "must be a finite number"),
    (r"bool_.*", "must be true or false"),
    (r"string_.*", "must be text"),
    (r"bytes_.*", "must be bytes"),
    (r"(list|tuple|set|frozen_set|iterable)_type|iteration_error", "must be a list"),
    (r"(dict|mapping|model|dataclass)(_attributes|_exact)?_type", "must be a table of keys with values"),
    (r"none_required", "must be empty"),
    (r"path_type", "must be a path"),
    (r"missing.*", "is needed and was not given"),
    (r"extra_forbidden|unexpected_keyword_argument|no_such_attribute", "is not known"),
    (r"frozen_.*", "cannot be changed"),
    (r"(date|time|datetime|time_delta|timezone)_.*", "must be a date or a time"),
    (r"url_.*", "must be an address"),
    (r"uuid_.*", "must be a UUID"),
    (r"json_.*", "must be JSON"),
)
_LIBRARY = frozenset(get_args(ErrorType))


def rule(detail: ErrorDetails) -> str:
    """Return why one value is refused, as in "must be a whole number".

    What a settings class says in words of its own is passed on.
    """
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in ("value_error", "assertion_error") or kind not in _LIBRARY:
        return detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind in _COMPARED:
        words, key = _COMPARED[kind]
        limit = context[key]
        return words.format(int(limit) if isinstance(limit, float) and limit.is_integer() else limit)
    if kind in ("literal_error", "enum"):
        return f"must be {str(context['expected']).replace(chr(39), '')}"
    return next((words for pattern, words in _KINDS if re.fullmatch(pattern, kind)), "cannot be used")


def expected(detail: ErrorDetails) -> list[str]:
    """Return the words that a value may be, where it may only be one of some."""
    return re.findall(r"'([^']*)'", str(detail.get("ctx", {}).get("expected", "")))


def rules(details: Sequence[ErrorDetails]) -> str:
    """Return why one setting is refused whose alternatives, or parts, were each refused.

    A list with a wrong part is also told to be too short: the right parts alone count.
    """
    parts = [detail for detail in details if detail["type"] != "too_short"] or details
    return " or ".join(dict.fromkeys(rule(detail) for detail in parts))


def problems(error: ValidationError, whole: str = "it") -> list[str]:
    """Return what is wrong, as "KEY: why" for each value.

    Args:
        error: what the check raised.
        whole: the name for what has no key.
    """
    by_key: dict[str, list[ErrorDetails]] = {}
    for detail in error.errors():
        by_key.setdefault(".".join(map(str, detail["loc"])), []).append(detail)
    return [f"{key or whole}: {rules(details)}" for key, details in by_key.items()]
