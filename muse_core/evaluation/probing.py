"""Run a probe from its declaration: check what it needs, validate its options, call it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError

from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.features import joined_by_name
from muse_core.evaluation.protocol import Protocol, Scores
from muse_core.evaluation.reading import named
from muse_core.evaluation.spec import ProbeContext, ProbeSpec
from muse_core.model.abilities import ABILITIES, abilities
from muse_core.model.identity import checkpoint_of
from muse_core.registry import import_path
from muse_core.rules import problems


def run_probe(
    name: str, spec: ProbeSpec, context: ProbeContext, options: Mapping[str, Any] | BaseModel | None = None
) -> Scores:
    """Measure with one probe.

    Args:
        name: what the probe is called.
        spec: its declaration.
        context: what it may use.
        options: values for its settings, or its settings themselves; None for its defaults.

    Raises:
        MuseError: the tokenizer lacks an ability, there is no training data for a probe that learns, the two sets name
            their classes and have none in common, an option is wrong (exit code 3), or the probe cannot be loaded or
            returns something else than scores or numbers by name (exit code 5).
    """
    check_needs(name, spec, context.tokenizer)
    if spec.train and context.train is None:
        raise MuseError(f"the probe {name!r} learns from training data, and there is none", hint="--data TRAIN")
    settings = options if isinstance(options, BaseModel) else _settings(name, spec, options or {})
    found = _import(name, spec.target)(joined_by_name(context), settings)
    scores = found if isinstance(found, Scores) else _scores_of(found, name, spec, context, settings)
    return replace(scores, command=f"probe {name}", checkpoint=checkpoint_of(context.tokenizer))


def _scores_of(found: object, name: str, spec: ProbeSpec, context: ProbeContext, settings: BaseModel) -> Scores:
    """Make scores of plain numbers by name, under the conditions that the probe was given."""
    if not isinstance(found, Mapping) or not found or not all(map(_is_number, found.values())):
        raise _broken(name, f"{spec.target} returned {found!r:.200}, neither Scores nor numbers by name")
    if not context.validation.seen:
        why = f"{spec.target} returned numbers by name and asked for no features, so nobody knows of how many images"
        raise _broken(name, f"{why}; it has to return Scores")
    images, counts = context.validation.seen[-1]
    conditions = {**context.validation.data.describe(), "images": images}
    own = {key if key not in conditions else f"settings.{key}": value for key, value in _dumped(settings).items()}
    metrics = {str(key): float(value) for key, value in found.items()}
    return Scores(f"probe {name}", named(context.tokenizer), metrics, Protocol({**conditions, **own}), counts)


def _is_number(value: object) -> bool:
    """Whether something is one number, also of torch and numpy."""
    return not isinstance(value, bool | str) and hasattr(value, "__float__") and getattr(value, "ndim", 0) == 0


def _dumped(settings: BaseModel) -> dict[str, Any]:
    return settings.model_dump(mode="json")


def check_needs(name: str, spec: ProbeSpec, tokenizer: object) -> None:
    """Refuse a tokenizer that lacks an ability the probe asks for.

    Raises:
        MuseError: naming what is missing.
    """
    unknown = [need for need in spec.needs if need not in ABILITIES]
    if unknown:
        raise _broken(name, f"it needs {', '.join(unknown)}; abilities are {', '.join(ABILITIES)}")
    has = abilities(tokenizer)
    missing = [need for need in spec.needs if need not in has]
    if missing:
        raise MuseError(
            f"the probe {name!r} is not supported by {named(tokenizer)}: it lacks {', '.join(missing)}",
            hint=f"it has {', '.join(has) or 'no ability'}",
        )


def _settings(name: str, spec: ProbeSpec, options: Mapping[str, Any]) -> BaseModel:
    model = _import(name, spec.settings)
    try:
        settings: BaseModel = model.model_validate(dict(options))
    except ValidationError as error:
        raise MuseError(
            f"options of the probe {name!r}: " + "; ".join(problems(error, name)),
            hint=f"muse probe {name} --help",
            exit_code=ExitCode.SETTINGS,
        ) from None
    return settings


def _import(name: str, path: str) -> Any:
    try:
        return import_path(path)
    except (Exception, SystemExit) as error:  # anything may happen while a stranger's module is imported
        raise _broken(name, f"{type(error).__name__}: {error}") from error


def _broken(name: str, why: str) -> MuseError:
    return MuseError(
        f"the probe {name!r} could not be used: {why}", hint=f"muse plugins check {name}", exit_code=ExitCode.PLUGIN
    )
