"""`muse plugins`: what is installed, whose it is, and why one does not work."""

from typing import Annotated

import typer

from muse_cli.output import out, table
from muse_cli.spec import CommandSpec
from muse_core.errors import ExitCode, MuseError
from muse_core.registry import GROUPS, Plugin, discover, unreadable
from muse_core.suggestions import did_you_mean

app = typer.Typer(add_completion=False)


@app.callback(invoke_without_command=True)
def plugins(ctx: typer.Context) -> None:
    """List plugins, and check one."""
    if ctx.invoked_subcommand is None:
        list_plugins()


@app.command("list")
def list_plugins() -> None:
    """List every command, probe, metric and tokenizer with its package, state and seconds to load."""
    found = every_plugin()
    rows = [(p.kind, p.name, f"{p.package} {p.version}", state(p), round(p.seconds, 3)) for p in found]
    text = table(rows, ("kind", "name", "package", "state", "seconds"))
    notes = [f"{p.kind} {p.name}: {loser} is not used, {p.package} has the name" for p in found for loser in p.shadows]
    lost = unreadable()
    notes += [f"{package}: its metadata cannot be read, so nothing of it is used" for package in lost]
    out.result({"plugins": [as_json(p) for p in found], "unreadable": lost}, "\n".join([text, *notes]))


@app.command()
def check(name: Annotated[str, typer.Argument(help="A plugin's name, as `muse plugins` lists it.")]) -> None:
    """Import a plugin's code and show the whole traceback if that fails."""
    known = every_plugin()
    named = [plugin for plugin in known if plugin.name == name]
    if not named:
        hint = " ".join(
            filter(None, [did_you_mean(name, [plugin.name for plugin in known]), "muse plugins lists them"])
        )
        raise MuseError(f"there is no plugin {name!r}", hint=hint, exit_code=ExitCode.SETTINGS)
    problems = {plugin: problem for plugin in named if (problem := problem_of(plugin))}
    lines = [f"{p.kind} {p.name} of {p.package} {p.version}: {problems.get(p, 'works')}" for p in named]
    out.result({"plugins": [as_json(p) | {"problem": problems.get(p)} for p in named]}, "\n".join(lines))
    if problems:
        what = f"{name} cannot be used"
        raise MuseError(what, hint=f"ask the makers of {next(iter(problems)).package}", exit_code=ExitCode.PROBLEMS)


def every_plugin() -> list[Plugin]:
    """Return the plugins of all groups."""
    return [plugin for group in GROUPS for plugin in discover(group).values()]


def state(plugin: Plugin) -> str:
    """Say in a few words how a plugin is."""
    return f"broken: {plugin.error}" if plugin.error else "ok"


def problem_of(plugin: Plugin) -> str | None:
    """Import everything a plugin names; return the traceback of what fails."""
    import traceback

    if plugin.error is not None:
        return plugin.trace or plugin.error
    settings = None if isinstance(plugin.declaration, CommandSpec) else getattr(plugin.declaration, "settings", None)
    for path in filter(None, (plugin.declaration.target, settings)):
        try:
            plugin.load_path(path)
        except MuseError as error:
            return "".join(traceback.format_exception(error.__cause__)) if error.__cause__ else error.what
    return None


def as_json(plugin: Plugin) -> dict[str, object]:
    """Describe a plugin for --json."""
    return {
        "kind": plugin.kind,
        "name": plugin.name,
        "package": plugin.package,
        "version": plugin.version,
        "value": plugin.value,
        "error": plugin.error,
        "seconds": plugin.seconds,
        "shadows": list(plugin.shadows),
    }
