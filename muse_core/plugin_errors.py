"""Whose code failed: the package and the line of a plugin, where code of a plugin was running."""

import traceback
from collections.abc import Iterator, Mapping

from muse_core.registry import GROUPS, Plugin, discover, line_of


def culprit(error: BaseException) -> tuple[Plugin, str] | None:
    """Return the plugin whose code was running when an error was raised, and its innermost "FILE:LINE".

    Whether the plugin or what it called is wrong cannot be told; its line is where to look first.
    """
    modules = _modules()
    for one in _causes(error):
        names = {name.partition(".")[0] for name in _running(one)} & set(modules)
        places = {name: line for name in names if (line := line_of(one, name))}
        for name, line in places.items():
            return modules[name], line
    return None


def _modules() -> Mapping[str, Plugin]:
    """The top-level modules of others' plugins."""
    found: dict[str, Plugin] = {}
    for group in GROUPS:
        for plugin in discover(group).values():
            target = str(getattr(plugin.declaration, "target", ""))
            for path in (plugin.value, target):
                found.setdefault(path.partition(":")[0].partition(".")[0], plugin)
    return {name: plugin for name, plugin in found.items() if name not in ("", "muse_core", "muse_cli")}


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, then what it was raised from."""
    seen: list[BaseException] = []
    rest: BaseException | None = error
    while rest is not None and rest not in seen:
        yield rest
        seen.append(rest)
        rest = rest.__cause__


def _running(error: BaseException) -> list[str]:
    return [str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(error.__traceback__)]
