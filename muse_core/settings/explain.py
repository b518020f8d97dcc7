"""Settings in words: what went wrong with them, and what there is to set."""

import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from muse_core.rules import expected, rules
from muse_core.settings.section import Path, fields, leaves
from muse_core.suggestions import did_you_mean, nearest


@dataclass(frozen=True)
class KeyInfo:
    """One `--set` key in words."""

    key: str
    type: str
    default: Any
    limits: str
    help: str


def describe_keys(model: type[BaseModel]) -> list[KeyInfo]:
    """List every setting with its type, default, limits and sentence."""
    return [
        KeyInfo(
            key=".".join(path),
            type=type_name(field.annotation),
            default=plain(default_of(field)),
            limits=limits(field.metadata),
            help=field.description or "",
        )
        for path, field in leaves(model).items()
    ]


def default_of(field: FieldInfo) -> Any:
    """Return a field's default; None where it has to be given."""
    default = field.get_default(call_default_factory=True, validated_data={})
    return None if default is PydanticUndefined else default


def plain(value: Any) -> Any:
    """Turn a settings value into what yaml and JSON can hold."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(part) for part in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def type_name(annotation: object) -> str:
    """Name a type for people: "int", "strict, open or joint", "list of text"."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_name(arguments[0])
    if origin is Literal:
        return _alternatives([str(value) for value in arguments])
    if origin in (Union, types.UnionType):
        return _alternatives([type_name(part) for part in arguments])
    if origin in (list, tuple, set, frozenset):
        return f"list of {type_name(arguments[0])}" if arguments else "list"
    if origin is dict:
        return f"table of {type_name(arguments[1])}"
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _alternatives([str(member.value) for member in annotation])
    name = getattr(annotation, "__name__", str(annotation))
    return {"str": "text", "Path": "path", "bool": "true or false"}.get(name, name)


def _alternatives(names: list[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def limits(metadata: Iterable[object]) -> str:
    """Say which values a setting accepts, as in "above 0, at most 1"."""
    words: dict[type, tuple[str, str]] = {
        Ge: ("at least", "ge"),
        Gt: ("above", "gt"),
        Le: ("at most", "le"),
        Lt: ("below", "lt"),
        MinLen: ("length at least", "min_length"),
        MaxLen: ("length at most", "max_length"),
    }
    said = [(words[type(m)], m) for m in metadata if type(m) in words]
    return ", ".join(f"{word} {getattr(limit, attribute)}" for (word, attribute), limit in said)


def explain(error: ValidationError, model: type[BaseModel], origin: Mapping[Path, str]) -> list[str]:
    """Say what is wrong with each setting: key, rule, value, and the layer it came from."""
    known = [".".join(path) for path, _ in fields(model)]
    by_key: dict[str, list[ErrorDetails]] = {}
    for detail in error.errors():
        by_key.setdefault(_key(detail["loc"], known), []).append(detail)
    return [_sentence(key, details, known, origin) for key, details in by_key.items()]


def _key(location: tuple[int | str, ...], known: list[str]) -> str:
    # Pydantic appends the member of a union that it tried; what is not a setting's name ends the key.
    key = ""
    for part in map(str, location):
        longer = f"{key}.{part}" if key else part
        if key in known and longer not in known and not any(name.startswith(f"{key}.") for name in known):
            return key
        key = longer
    return key


def _sentence(key: str, details: list[ErrorDetails], known: list[str], origin: Mapping[Path, str]) -> str:
    first = details[0]
    source = _source(tuple(key.split(".")), origin)
    if first["type"] == "extra_forbidden":
        near = _nearest(key, known)
        return f"{key}: no such setting{source}" + (f"; did you mean {near}?" if near else "")
    if first["type"] == "missing":
        return f"{key}: is needed and was not given"
    why = rules(details)
    if first["type"] == "value_error" and not isinstance(first["input"], str | int | float | None):
        return why  # a rule between settings names the keys itself
    value = plain(first["input"])
    meant = did_you_mean(str(value), [word for detail in details for word in expected(detail)])
    return f"{key}: {why}, got {value!r}{source}" + (f"; {meant}" if meant else "")


def _source(path: Path, origin: Mapping[Path, str]) -> str:
    fitting = [name for known, name in origin.items() if known[: len(path)] == path or path[: len(known)] == known]
    return f" (from {fitting[0]})" if fitting else ""


def _nearest(key: str, known: list[str]) -> str | None:
    by_name = {name.rpartition(".")[2]: name for name in known}
    last = nearest(key.rpartition(".")[2], by_name)
    return nearest(key, known) or (by_name[last] if last else None)
