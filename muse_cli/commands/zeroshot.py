"""`muse zeroshot`: which class name fits an image best."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from muse_cli.options import BatchSize, Checkpoint, ConfigFile, Data, Devices, Limit, OverwriteFile, ScoresFile, Sets
from muse_cli.output import out

if TYPE_CHECKING:
    from muse_core.evaluation.processes import Team
    from muse_core.evaluation.protocol import Scores

NAMES = "imagenet (open_clip's 1000 names), or a file with one class name per line."
Classes = Annotated[
    str | None, typer.Option("--classes", metavar="imagenet|FILE", help=NAMES, show_default="those of the data")
]
SENTENCES = "The class alone, open_clip's 80 or 7 sentences, or a file with one per line, {} for the class."
Templates = Annotated[
    str | None,
    typer.Option("--templates", metavar="plain|openai|simple|FILE", help=SENTENCES, show_default="plain"),
]
Top = Annotated[
    str | None, typer.Option("--top", metavar="K,K", help="Right if among so many guesses.", show_default="1,5")
]


def zeroshot(
    checkpoint: Checkpoint = None,
    data: Data = None,
    classes: Classes = None,
    templates: Templates = None,
    top: Top = None,
    limit: Limit = None,
    batch_size: BatchSize = None,
    devices: Devices = None,
    out_file: ScoresFile = None,
    overwrite: OverwriteFile = False,
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Classify images by text."""
    from muse_cli.briefing import DataWanted, brief
    from muse_cli.scores import give
    from muse_cli.settings import resolve_as
    from muse_cli.team import measure
    from muse_cli.tokenizer import chosen_or_newest, data_or_demo
    from muse_core.evaluation.named import refuse_unnamed
    from muse_core.ownership import refuse_taken
    from muse_core.settings.measuring import ZeroshotSettings

    flags = {
        "data": data,
        "classes": classes,
        "templates": templates,
        "top": None if top is None else top.split(","),
        "limit": limit,
        "batch_size": batch_size,
        "devices": devices,
    }
    settings, _ = resolve_as(ZeroshotSettings, "zeroshot", flags, sets, config)
    settings = settings.model_copy(update={"data": data_or_demo(settings.data)})
    refuse_unnamed(settings.classes, settings.templates)
    refuse_taken(out_file, overwrite, [settings.data, settings.classes, settings.templates], "json")
    where = chosen_or_newest(checkpoint)
    how = f"classes: {settings.classes or 'those of the data'}, templates: {settings.templates}"
    brief("zeroshot", [where], [DataWanted(str(settings.data), limit=settings.limit)], how, settings.devices)
    values = {"where": where, "settings": settings.model_dump(mode="json")}
    give(measure("muse_cli.commands.zeroshot:measured", values, settings.devices), where, out_file, overwrite=overwrite)


def measured(device: str, team: "Team", where: str, settings: dict[str, Any]) -> "Scores":
    """Measure as the settings say, alone or as one of several processes."""
    from muse_cli.tokenizer import load
    from muse_core import zeroshot as measure
    from muse_core.evaluation.named import named_classes, named_templates
    from muse_core.settings.measuring import ZeroshotSettings

    chosen = ZeroshotSettings.model_validate(settings)
    classes = None if chosen.classes is None else named_classes(chosen.classes)
    templates = named_templates(chosen.templates)
    return measure(
        load(where, device),
        data=str(chosen.data),
        classes=classes,
        templates=templates,
        top=chosen.top,
        limit=chosen.limit,
        batch_size=chosen.batch_size,
        team=team,
        progress=out.progress(),
    )
