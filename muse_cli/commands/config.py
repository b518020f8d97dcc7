"""`muse config`: settings shown with their origin, checked, and explained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from muse_cli.options import ConfigFile, Sets
from muse_cli.output import out
from muse_core.errors import ExitCode, MuseError

app = typer.Typer(add_completion=False, no_args_is_help=True)
Command = Annotated[str, typer.Argument(metavar="COMMAND", help="train, eval, ... or `probe linear` as probe-linear.")]


@app.command()
def show(
    command: Command,
    stage: Annotated[int | None, typer.Option("--stage", min=1, max=3)] = None,
    size: Annotated[str | None, typer.Option("--size")] = None,
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Print the settings a command would run with, each line with the layer that set it."""
    from muse_cli.settings import resolve_for
    from muse_core.settings.explain import plain

    flags = {"run.stage": stage, "run.size": size}
    settings, origins = resolve_for(command, flags, sets or [], config)
    values = plain(settings.model_dump(mode="json"))
    out.result({"settings": values, "origins": dict(origins)}, with_origins(values, origins))


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A yaml file of settings.")],
    command: Annotated[str, typer.Option("--for", metavar="COMMAND", help="Whose settings they are.")] = "train",
) -> None:
    """Name every problem of a settings file at once; exit 8 if there is any."""
    from muse_cli.settings import resolve_for
    from muse_core.settings import SettingsError

    try:
        resolve_for(command, {}, [], file)
    except SettingsError as error:
        out.result({"file": file, "problems": error.problems}, "\n".join(error.problems))
        raise MuseError(
            f"{file} has {len(error.problems)} problem(s)", hint=error.hint, exit_code=ExitCode.PROBLEMS
        ) from None
    out.result({"file": file, "problems": []}, f"{file} is good for muse {command}")


@app.command()
def keys(command: Command) -> None:
    """List every key that --set and --config accept: type, default, limits, and a sentence."""
    from muse_cli.settings import model_for
    from muse_core.settings import describe_keys

    described = describe_keys(model_for(command))
    lines = []
    for info in described:
        limits = f", {info.limits}" if info.limits else ""
        lines += [f"{info.key}  ({info.type}{limits}; default {info.default})", f"    {info.help}"]
    out.result({"keys": [vars(info) for info in described]}, "\n".join(line for line in lines if line.strip()))


@app.command()
def schema(command: Command) -> None:
    """Print the JSON schema of a command's settings, for editors."""
    import json

    from muse_cli.settings import model_for

    document = model_for(command).model_json_schema()
    out.result(document, json.dumps(document, indent=2))


def with_origins(values: Mapping[str, Any], origins: Mapping[str, str], indent: int = 0, prefix: str = "") -> str:
    """Write settings as yaml with the origin of each value as a comment."""
    import yaml

    lines = []
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            lines += [f"{'  ' * indent}{key}:", with_origins(value, origins, indent + 1, f"{path}.")]
        else:
            text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
            line = f"{'  ' * indent}{key}: {text.removesuffix('...' + chr(10)).strip()}"
            lines.append(f"{line:44}  # {origins.get(path, 'default')}")
    return "\n".join(lines)
