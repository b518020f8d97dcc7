"""Options that mean the same in every command."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

from muse_cli.output import out

COMMON_PANEL = "Common options"

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings of this command, as yaml.", rich_help_panel="Settings"),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any other setting; repeatable; the value is yaml.",
        rich_help_panel="Settings",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="WHERE", help="Shards (folder, pattern, URL) or a folder of images; `demo` is made here."
    ),
]
ValData = Annotated[str | None, typer.Option("--val-data", metavar="WHERE", help="Held-out data, in the same words.")]
WHICH = "A run, a checkpoint, `latest`, or a tokenizer's name."
NEWEST = "newest finished run, else the one shipped"
Checkpoint = Annotated[str | None, typer.Argument(metavar="CHECKPOINT", help=WHICH, show_default=NEWEST)]
CheckpointOption = Annotated[
    str | None, typer.Option("--checkpoint", metavar="CHECKPOINT", help=WHICH, show_default=NEWEST)
]
ScoresFile = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Where the scores go as JSON.", show_default="RUN/results/"),
]
OverwriteFile = Annotated[
    bool, typer.Option("--overwrite", help="Replace what is there under the names given here, which else is refused.")
]
Devices = Annotated[
    str | None, typer.Option("--devices", metavar="auto|cpu|cuda|mps|N|0,2", help="What to compute on.")
]
Precision = Annotated[str | None, typer.Option("--precision", metavar="auto|fp32|bf16|fp64", help="Number format.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of everything random.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", min=1, help="Images at a time, on each device.")]
TrainLimit = Annotated[
    int | None, typer.Option("--train-limit", min=1, metavar="N", help="Learn from this many images of --data.")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Use this many images; the score is marked partial.")]


def _json(value: bool) -> None:
    out.json = out.json or value


def _verbose(value: int) -> None:
    out.verbosity += value
    if value:
        import logging

        logging.basicConfig(level=logging.INFO if value == 1 else logging.DEBUG)


def _quiet(value: bool) -> None:
    out.verbosity -= value


def _common(
    json: Annotated[
        bool,
        typer.Option("--json", callback=_json, help="One JSON document on stdout.", rich_help_panel=COMMON_PANEL),
    ] = False,
    verbose: Annotated[
        int,
        typer.Option("--verbose", "-v", count=True, callback=_verbose, help="Say more.", rich_help_panel=COMMON_PANEL),
    ] = 0,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", callback=_quiet, help="Results and errors only.", rich_help_panel=COMMON_PANEL),
    ] = False,
    no_color: Annotated[
        bool, typer.Option("--no-color", help="Also NO_COLOR=1.", rich_help_panel=COMMON_PANEL)
    ] = False,
) -> None:
    """Hold the options that `add_common` hands out."""


def add_common(command: Any) -> None:
    """Give a command, and the commands inside it, the options of every command.

    Their callbacks set the output, so no command has to declare or pass them on.
    """
    for inner in getattr(command, "commands", {}).values():
        add_common(inner)
    taken = {name for param in command.params for name in param.opts}
    app = typer.Typer(add_completion=False)
    app.command()(_common)
    for option in get_command(app).params:
        if taken.isdisjoint(option.opts):
            option.expose_value = False
            command.params.append(option)
