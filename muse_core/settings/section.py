"""What every settings class is, and how to walk through one."""

import types
from collections.abc import Iterator
from typing import Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

Path = tuple[str, ...]


class Section(BaseModel):
    """A group of settings: frozen, and closed to keys that do not exist."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def fields(model: type[BaseModel], prefix: Path = ()) -> Iterator[tuple[Path, FieldInfo]]:
    """Walk through all settings and sections, a section before what is in it."""
    for name, field in model.model_fields.items():
        path = (*prefix, name)
        yield path, field
        for section in sections(field.annotation):
            yield from fields(section, path)


def leaves(model: type[BaseModel]) -> dict[Path, FieldInfo]:
    """Return the settings that hold a value."""
    return {path: field for path, field in fields(model) if not sections(field.annotation)}


def sections(annotation: object) -> list[type[BaseModel]]:
    """Return the settings classes among the types of an annotation such as `Optim` or `Adversarial | None`."""
    return [part for part in members(annotation) if isinstance(part, type) and issubclass(part, BaseModel)]


def members(annotation: object) -> list[object]:
    """Take a union apart; anything else is its only member."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [member for part in get_args(annotation) for member in members(part)]
    return [annotation]


def holds_mapping(field: FieldInfo) -> bool:
    """Say whether a setting is itself a table with free keys, as in weights.pixel."""
    return any(get_origin(part) is dict or part is dict for part in members(field.annotation))
