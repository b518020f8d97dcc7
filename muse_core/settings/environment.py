"""The MUSE_* variables: MUSE_<COMMAND>__<SECTION>__<KEY>, and the few that hold for every command."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from muse_core.registry import discover
from muse_core.settings.section import Path, fields, holds_mapping
from muse_core.suggestions import did_you_mean

BEHAVIOUR = (
    "MUSE_RUNS",
    "MUSE_WEIGHTS",
    "MUSE_CACHE",
    "MUSE_OFFLINE",
    "MUSE_LOG_LEVEL",
    "MUSE_DEBUG",
    "MUSE_PLUGINS",
    "MUSE_ALLOW_PIPE",
)
# Which setting a general variable stands for; the first that a command has.
GENERAL: Mapping[str, tuple[Path, ...]] = {
    "MUSE_DATA": (("data", "train"), ("data",)),
    "MUSE_DEVICES": (("training", "devices"), ("devices",)),
    "MUSE_PRECISION": (("training", "precision"), ("precision",)),
    "MUSE_SEED": (("run", "seed"), ("seed",)),
}


@dataclass(frozen=True)
class Variables:
    """Settings found in the environment as path -> (variable, text), and warnings about the rest."""

    found: Mapping[Path, tuple[str, str]]
    warnings: tuple[str, ...]


def read_environment(model: type[BaseModel], command: str, environ: Mapping[str, str]) -> Variables:
    """Pick the variables of one command; its own win over general ones, and an empty one is as good as none."""
    general = _general(model)
    own = {_variable(command, path): path for path, _ in fields(model)}
    tables = {_variable(command, path): path for path, field in fields(model) if holds_mapping(field)}
    found: dict[Path, tuple[str, str]] = {}
    unknown = []
    for name in sorted(name for name, text in environ.items() if name.startswith("MUSE_") and text.strip()):
        path = own.get(name) or _inside(name, tables)
        if path:
            found[path] = (name, environ[name])
        elif name in general:
            found.setdefault(general[name], (name, environ[name]))
        elif not _is_known_elsewhere(name, command):
            unknown.append(name)
    return Variables(found, tuple(_unfit(name, [*own, *GENERAL, *BEHAVIOUR]) for name in unknown))


def _general(model: type[BaseModel]) -> dict[str, Path]:
    known = {path for path, _ in fields(model)}
    places = {name: next((path for path in paths if path in known), None) for name, paths in GENERAL.items()}
    return {name: path for name, path in places.items() if path}


def prefix_of(command: str) -> str:
    """Return how a command's variables begin, as in MUSE_ATTN_VIZ__."""
    return f"MUSE_{command.replace('-', '_').replace(' ', '_').upper()}__"


def _variable(command: str, path: Path) -> str:
    return prefix_of(command) + "__".join(path).upper()


def _inside(name: str, tables: Mapping[str, Path]) -> Path | None:
    for table, path in tables.items():
        if name.startswith(f"{table}__"):
            return (*path, name.removeprefix(f"{table}__").lower())
    return None


def _is_known_elsewhere(name: str, command: str) -> bool:
    if name in BEHAVIOUR or name in GENERAL:
        return True
    others = [*discover("muse.commands"), *(f"probe {probe}" for probe in discover("muse.probes"))]
    return any(name.startswith(prefix_of(other)) for other in others if other != command)


def _unfit(name: str, known: list[str]) -> str:
    return "; ".join(filter(None, [f"{name} fits no setting", did_you_mean(name, known)]))
