"""`muse zeroshot`: which class name fits an image best."""

from pathlib import Path
from typing import Annotated

import typer

from muse_cli.options import BatchSize, Checkpoint, ConfigFile, Data, Devices, Limit, ScoresFile, Sets
from muse_cli.output import out
from muse_core.errors import MuseError


def zeroshot(
    checkpoint: Checkpoint = None,
    data: Data = None,
    classes: Annotated[
        str | None,
        typer.Option("--classes", metavar="FILE", help="One class name per line.", show_default="those of the data"),
    ] = None,
    templates: Annotated[
        str | None,
        typer.Option(
            "--templates", metavar="FILE", help="One sentence per line, {} for the class.", show_default="built in"
        ),
    ] = None,
    limit: Limit = None,
    batch_size: BatchSize = None,
    devices: Devices = None,
    out_file: ScoresFile = None,
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Classify images by text."""
    from muse_cli.scores import give
    from muse_cli.settings import resolve_as
    from muse_cli.tokenizer import chosen_or_newest, data_or_demo, load
    from muse_core import zeroshot as measure
    from muse_core.machine import pick_device
    from muse_core.settings.measuring import ZeroshotSettings

    flags = {
        "data": data,
        "classes": classes,
        "templates": templates,
        "limit": limit,
        "batch_size": batch_size,
        "devices": devices,
    }
    settings, _ = resolve_as(ZeroshotSettings, "zeroshot", flags, sets, config)
    where = chosen_or_newest(checkpoint)
    scores = measure(
        load(where, pick_device(settings.devices)),
        data=data_or_demo(settings.data),
        classes=lines_of(settings.classes),
        templates=lines_of(settings.templates),
        limit=settings.limit,
        batch_size=settings.batch_size,
        progress=out.progress(),
    )
    give(scores, where, out_file)


def lines_of(file: str | None) -> list[str] | None:
    """Read the lines of a text file that are not empty.

    Raises:
        MuseError: it cannot be read, or is empty.
    """
    if file is None:
        return None
    try:
        lines = [line.strip() for line in Path(file).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise MuseError(f"{file} cannot be read: {error}") from None
    if not lines:
        raise MuseError(f"{file} is empty")
    return lines
