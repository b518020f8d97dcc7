"""Run a probe from its declaration: check what it needs, validate its options, call it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError

from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.features import joined_by_name
from muse_core.evaluation.protocol import Scores
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
            returns something else than scores (exit code 5).
    """
    check_needs(name, spec, context.tokenizer)
    if spec.train and context.train is None:
        raise MuseError(f"the probe {name!r} learns from training data, and there is none", hint="--data TRAIN")
    settings = options if isinstance(options, BaseModel) else _settings(name, spec, options or {})
    scores = _import(name, spec.target)(joined_by_name(context), settings)
    if not isinstance(scores, Scores):
        raise _broken(name, f"{spec.target} returned {type(scores).__name__}, not Scores")
    return replace(scores, command=f"probe {name}", checkpoint=checkpoint_of(context.tokenizer))


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
