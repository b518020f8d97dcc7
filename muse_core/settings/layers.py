"""Command line over environment over file over preset over default: merged once, leaf by leaf, remembering who won."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path as FilePath
from typing import Any, TypeVar, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from muse_core.errors import ExitCode, MuseError
from muse_core.settings.environment import read_environment
from muse_core.settings.explain import explain
from muse_core.settings.section import Path, fields, members
from muse_core.text_files import RepeatedKeyError, read_text_file
from muse_core.yaml_files import yaml_of

S = TypeVar("S", bound=BaseModel)
Preset = Mapping[str, Any] | Callable[[dict[str, Any]], Mapping[str, Any]]
Flat = dict[Path, Any]

_WHOLE = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE]\+?[0-9]{1,2}")


class Origins(dict[str, str]):
    """Which layer set each key; `warnings` tells of MUSE_* variables that fit nothing."""

    def __init__(self, layers: Mapping[str, str], warnings: Iterable[str] = ()) -> None:
        super().__init__(layers)
        self.warnings = tuple(warnings)


class SettingsError(MuseError):
    """Settings that are unknown, missing, out of range or contradictory; `problems` has one sentence for each."""

    def __init__(self, problems: list[str], command: str) -> None:
        what = problems[0] if len(problems) == 1 else "\n  ".join([f"{len(problems)} settings are wrong:", *problems])
        super().__init__(what, hint=f"muse config keys {command}", exit_code=ExitCode.SETTINGS)
        self.problems = problems


def resolve(
    model: type[S],
    *,
    command: str,
    flags: Mapping[str, Any] | None = None,
    sets: Iterable[str] = (),
    file: FilePath | None = None,
    preset: Preset | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[S, Origins]:
    """Merge the layers of one command's settings and check the result.

    Args:
        model: the settings class.
        command: whose MUSE_<COMMAND>__... variables count.
        flags: dotted key -> value of everyday options; None means not typed.
        sets: "KEY=VALUE" of `--set`, the value read as yaml.
        file: yaml of `--config`.
        preset: values, or a function of what the other layers say so far, for a preset that depends on them.
        environ: the variables, those of this process unless given.

    Raises:
        SettingsError: names every unknown key and every bad value at once, each with the layer it came from.
        MuseError: the file cannot be read.
    """
    typed = {_path(key): value for key, value in (flags or {}).items() if value is not None}
    typed |= dict(_read_set(text, model, command) for text in sets)
    variables = read_environment(model, command, os.environ if environ is None else environ)
    layers = [
        *([(str(file), flatten(read_settings_file(file, command)))] if file else []),
        *(
            (name, flatten({path: read_text(text, path, model, command)}))
            for path, (name, text) in variables.found.items()
        ),
        ("command line", flatten(typed)),
    ]
    if preset is not None:
        values = preset(unflatten(merge(layers)[0])) if callable(preset) else preset
        layers.insert(0, ("preset", flatten(values)))
    merged, origin = merge((name, meant(layer, model)) for name, layer in layers)
    try:
        settings = model.model_validate(unflatten(merged))
    except ValidationError as error:
        raise SettingsError(explain(error, model, origin), command) from None
    return settings, Origins(_all_origins(settings, origin), variables.warnings)


def merge(layers: Iterable[tuple[str, Flat]]) -> tuple[Flat, dict[Path, str]]:
    """Let later layers win; a value replaces a section it names, and a key inside replaces such a value."""
    merged: Flat = {}
    origin: dict[Path, str] = {}
    for name, layer in layers:
        for path, value in layer.items():
            for other in [p for p in merged if _overlap(p, path)]:
                del merged[other], origin[other]
            merged[path], origin[path] = value, name
    return merged, origin


def _overlap(one: Path, other: Path) -> bool:
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared]


def flatten(tree: Mapping[Any, Any], prefix: Path = ()) -> Flat:
    """Turn nested tables into path -> value; a key may itself be a path."""
    flat: Flat = {}
    for key, value in tree.items():
        path = (*prefix, *(key if isinstance(key, tuple) else (str(key),)))
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, path)
        else:
            flat[path] = value
    return flat


def unflatten(flat: Flat) -> dict[str, Any]:
    """Turn path -> value back into nested tables."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        at = tree
        for part in path[:-1]:
            at = at.setdefault(part, {})
        at[path[-1]] = value
    return tree


def read_settings_file(file: FilePath, command: str = "train") -> dict[str, Any]:
    """Read a yaml file of settings.

    Raises:
        SettingsError: a key is given twice.
        MuseError: it is missing, is not yaml, or is not a table.
    """
    try:
        document = yaml_of(read_text_file(file))
    except FileNotFoundError:
        raise MuseError(f"{file} does not exist", hint="muse config show train > settings.yaml") from None
    except RepeatedKeyError as error:
        raise SettingsError([f"{file}: {problem}" for problem in error.problems], command) from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # yaml's dates raise ValueError
        raise MuseError(f"{file} cannot be read as yaml: {error}") from None
    if document is not None and not isinstance(document, dict):
        raise MuseError(f"{file} holds a {type(document).__name__}, expected keys with values")
    return document or {}


def read_text(text: str, path: Path, model: type[BaseModel], command: str = "train") -> Any:
    """Read a value that was typed as text: as yaml, or literally where only that fits the setting.

    Yaml reads 7 as a number and true as a truth value; a setting that holds text means what was typed.

    Raises:
        SettingsError: it gives a key twice, and is not text alone.
    """
    field = dict(fields(model)).get(path)
    try:
        value = yaml_of(text)
    except RepeatedKeyError as error:
        if field is not None and _fits(text, field.annotation):
            return text
        raise SettingsError([f"{'.'.join(path)}: {problem}" for problem in error.problems], command) from None
    except (ValueError, RecursionError, yaml.YAMLError):  # yaml's dates raise ValueError
        return text
    if field is not None and isinstance(value, bool) and bool not in members(field.annotation):
        return text.strip()
    if field is None or isinstance(value, str) or _fits(value, field.annotation):
        return value
    return text if _fits(text, field.annotation) else value


def meant(layer: Flat, model: type[BaseModel]) -> Flat:
    """Read what stands in a layer as its settings take it: a list written as a,b, and a whole number written as 1e3."""
    annotations = {path: field.annotation for path, field in fields(model)}
    return {path: _meant(value, annotations[path]) if path in annotations else value for path, value in layer.items()}


def _meant(value: Any, annotation: Any) -> Any:
    if not isinstance(value, str | int | float) or _fits(value, annotation):
        return value
    if any(get_origin(part) in (list, tuple, set, frozenset) for part in members(annotation)):
        return [part.strip() for part in str(value).strip("[]()").split(",") if part.strip()]
    if isinstance(value, str) and _WHOLE.fullmatch(value) and float(value).is_integer():
        return int(float(value))
    return value


def _fits(value: object, annotation: Any) -> bool:
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError:
        return False
    return True


def _read_set(text: str, model: type[BaseModel], command: str) -> tuple[Path, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise MuseError(f"--set {text}: expected KEY=VALUE", hint="--set optim.lr=3e-4", exit_code=ExitCode.USAGE)
    path = _path(key)
    return path, read_text(value, path, model, command)


def _path(key: str) -> Path:
    return tuple(key.strip().split("."))


def _all_origins(settings: BaseModel, origin: Mapping[Path, str]) -> dict[str, str]:
    return {".".join(path): _origin_of(path, origin) for path in flatten(settings.model_dump())}


def _origin_of(path: Path, origin: Mapping[Path, str]) -> str:
    for length in range(len(path), 0, -1):
        if path[:length] in origin:
            return origin[path[:length]]
    return "default"
