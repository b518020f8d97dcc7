"""The one discovery: installed entry points become commands, probes, metrics, tokenizers and generators.

An entry point names a tiny declaration that is cheap to import; the declaration names the code. A declaration that
cannot be loaded is kept as an error, so one broken package never takes down the rest.
"""

import os
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from typing import Any, Protocol, runtime_checkable

from muse_core.errors import ExitCode, MuseError
from muse_core.suggestions import choices

OWN_DISTRIBUTION = "muse-tokenizer"
API = 1
GROUPS = ("muse.commands", "muse.probes", "muse.metrics", "muse.tokenizers", "muse.generators")


@runtime_checkable
class Declaration(Protocol):
    """What every entry point of ours names."""

    @property
    def help(self) -> str:
        """Return one sentence for listings."""

    @property
    def target(self) -> str:
        """Return where the code is: "package.module:name"."""

    @property
    def api(self) -> int:
        """Return the version of this interface that the plugin was written for."""


@dataclass(frozen=True)
class Plugin:
    """One installed entry point: a loaded declaration, or why there is none."""

    name: str
    group: str
    package: str
    version: str
    value: str
    declaration: Any = None
    error: str | None = None
    trace: str | None = None
    seconds: float = 0.0
    shadows: tuple[str, ...] = ()

    @property
    def own(self) -> bool:
        """Say whether it comes with muse itself."""
        return self.package == OWN_DISTRIBUTION

    @property
    def kind(self) -> str:
        """Return the word for its group: command, probe, metric, tokenizer or generator."""
        return self.group.removeprefix("muse.").removesuffix("s")

    def load(self) -> Any:
        """Return the declaration.

        Raises:
            MuseError: with exit code 5, when the plugin is broken.
        """
        if self.error is not None:
            raise broken(self, self.error)
        return self.declaration

    def code(self) -> Any:
        """Import the code that the declaration names, and return it.

        Raises:
            MuseError: with exit code 5, when it cannot be imported.
        """
        return self.load_path(str(self.load().target))

    def load_path(self, path: str) -> Any:
        """Import another "module:name" of the same plugin, such as its settings."""
        try:
            return import_path(path)
        except (Exception, SystemExit) as error:
            raise broken(self, _sentence(error, path)) from error


def broken(plugin: Plugin, why: str) -> MuseError:
    """Make the error for a plugin that cannot be used."""
    return MuseError(
        f"the {plugin.kind} {plugin.name!r} of {plugin.package} {plugin.version} could not be loaded: {why}",
        hint=f"muse plugins check {plugin.name}",
        exit_code=ExitCode.PLUGIN,
    )


def import_path(path: str) -> Any:
    """Import "package.module:name" and return what it names."""
    module, _, name = path.partition(":")
    if not name:
        raise ValueError(f"{path!r} does not have the form package.module:name")
    return getattr(import_module(module), name)


def discover(group: str) -> dict[str, Plugin]:
    """Find the plugins of one group, our own first, then by package name; broken ones are in it with their error.

    `MUSE_PLUGINS=off` leaves third parties out; `MUSE_PLUGINS=one,two` admits the packages or plugins named.
    """
    return dict(_discover(group, os.environ.get("MUSE_PLUGINS", "")))


def find(group: str, name: str) -> Plugin:
    """Return one plugin by name.

    Raises:
        MuseError: nothing of that name is installed; the hint lists what is.
    """
    plugins = discover(group)
    if name not in plugins:
        kind = group.removeprefix("muse.").removesuffix("s")
        raise MuseError(
            f"there is no {kind} {name!r}",
            hint=choices(name, sorted(plugins)),
            exit_code=ExitCode.SETTINGS,
        )
    return plugins[name]


def forget() -> None:
    """Look again at what is installed on the next call; for tests."""
    _discover.cache_clear()
    _told.cache_clear()


@cache
def _discover(group: str, allowed: str) -> dict[str, Plugin]:
    found: dict[str, Plugin] = {}
    losers: dict[str, list[str]] = {}
    for entry in sorted(_admitted(_installed(group), allowed), key=_precedence):
        if entry.name in found:
            losers.setdefault(entry.name, []).append(f"{_package(entry)} ({entry.value})")
        else:
            found[entry.name] = _load(entry)
    return {name: _with_shadows(plugin, losers.get(name, [])) for name, plugin in found.items()}


def _installed(group: str) -> list[EntryPoint]:
    """The entry points of a group; a package whose metadata cannot be read has none, and hides no other's."""
    try:
        found = list(entry_points(group=group))
    except Exception:  # any package on the path may be the cause, also one that is no plugin
        entries = [entry for one in distributions() for entry in _entries(one) or ()]
        found = list({(entry.name, entry.value): entry for entry in entries if entry.group == group}.values())
    return [entry for entry in found if _is_named(entry)]


def _is_named(entry: EntryPoint) -> bool:
    try:
        return bool(_package(entry))
    except Exception:
        return False


def unreadable() -> list[str]:
    """Return the packages whose metadata cannot be read, so that nobody knows whether they are plugins."""
    return sorted(str(getattr(one, "_path", one)) for one in distributions() if _entries(one) is None)


def _entries(package: Distribution) -> list[EntryPoint] | None:
    try:
        return list(package.entry_points) if package.name else None
    except Exception:
        return None


def _admitted(entries: Iterable[EntryPoint], allowed: str) -> list[EntryPoint]:
    names = {name.strip() for name in allowed.split(",") if name.strip()}
    return [
        entry
        for entry in entries
        if _package(entry) == OWN_DISTRIBUTION or not names or _package(entry) in names or entry.name in names
    ]


def _precedence(entry: EntryPoint) -> tuple[bool, str, str]:
    return (_package(entry) != OWN_DISTRIBUTION, _package(entry), entry.value)


def _package(entry: EntryPoint) -> str:
    return _told(entry.dist)[0] if entry.dist else "unknown package"


@cache
def _told(package: Distribution) -> tuple[str, str]:
    """Return name and version; each is the whole METADATA read and parsed, with a README in it, at every asking."""
    return package.name, package.version


def _load(entry: EntryPoint) -> Plugin:
    version = _told(entry.dist)[1] if entry.dist else "?"
    started = time.perf_counter()
    declaration, error, trace = None, None, None
    try:
        declaration = entry.load()
        error = _unusable(declaration, entry.value)
    except (Exception, SystemExit) as caught:  # a plugin that exits while it is imported must not end us
        error, trace = _sentence(caught, entry.value), traceback.format_exc()
    return Plugin(
        name=entry.name,
        group=entry.group,
        package=_package(entry),
        version=version,
        value=entry.value,
        declaration=None if error else declaration,
        error=error,
        trace=trace,
        seconds=time.perf_counter() - started,
    )


def _unusable(declaration: object, value: str) -> str | None:
    if not isinstance(declaration, Declaration) or not all(
        isinstance(text, str) for text in (declaration.help, declaration.target)
    ):
        return f"{value} is {type(declaration).__name__}, not a declaration with help, target and api"
    if declaration.api != API:
        return f"it was written for plugin interface {declaration.api}, this muse has {API}"
    return None


def line_of(error: BaseException, package: str) -> str | None:
    """Return "FILE:LINE" of the innermost line of a package that was running when an error was raised."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.walk_tb(error.__traceback__)
    names = [(str(frame.f_globals.get("__name__", "")), frame.f_code.co_filename, line) for frame, line in frames]
    own = [f"{file}:{line}" for name, file, line in names if name.partition(".")[0] == package]
    return own[-1] if own else None


def _sentence(error: BaseException, path: str) -> str:
    lines = str(error).strip().splitlines()
    line = line_of(error, path.partition(":")[0].partition(".")[0])
    return (f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__) + (f" ({line})" if line else "")


def _with_shadows(plugin: Plugin, losers: list[str]) -> Plugin:
    return Plugin(**{**vars(plugin), "shadows": tuple(losers)}) if losers else plugin
