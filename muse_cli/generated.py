"""Options made from pydantic settings, for commands whose settings are somebody else's."""

import inspect
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from muse_core.settings.explain import default_of, limits, plain, type_name
from muse_core.settings.layers import read_text
from muse_core.settings.section import Path


def option_of(path: Path, field: FieldInfo) -> inspect.Parameter:
    """Make the option of one setting: `epochs` becomes --epochs, `optim.lr` becomes --optim.lr.

    Values stay None until typed, so that the other layers count; they are checked with all layers, not here.
    """
    name = "_".join(path)
    flag = ".".join(path).replace("_", "-")
    option = typer.Option(
        f"--{flag}",
        *((f"--no-{flag}",) if _is_switch(field) else ()),
        help=" ".join(filter(None, [field.description, _bracketed(limits(field.metadata))])),
        show_default=str(_shown(default_of(field))),
        metavar=None if _is_switch(field) else type_name(field.annotation),
        rich_help_panel="Options of this probe",
    )
    annotation = bool if _is_switch(field) else str
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[annotation | None, option]
    )


def read_typed(typed: Any, path: Path, model: type[BaseModel]) -> Any:
    """Read what was typed for a setting as `--set` would."""
    return read_text(typed, path, model) if isinstance(typed, str) else typed


def _is_switch(field: FieldInfo) -> bool:
    return field.annotation is bool


def _bracketed(text: str) -> str:
    return f"({text})" if text else ""


def _shown(value: Any) -> str:
    simple = plain(value)
    return ",".join(map(str, simple)) if isinstance(simple, list) else str(simple)
