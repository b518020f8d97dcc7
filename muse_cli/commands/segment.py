"""`muse segment`: how well a linear head on frozen patches names every pixel."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muse_cli.options import (
    BatchSize,
    Checkpoint,
    ConfigFile,
    Data,
    Devices,
    Limit,
    OverwriteFile,
    ScoresFile,
    Seed,
    Sets,
    TrainLimit,
    ValData,
)
from muse_cli.output import out
from muse_core.errors import ExitCode, MuseError

if TYPE_CHECKING:
    from muse_core.evaluation.processes import Team
    from muse_core.evaluation.protocol import Scores
    from muse_core.evaluation.segmentation import SegmentOptions
    from muse_core.settings.measuring import SegmentSettings

HELD = "as the training masks hold"
Classes = Annotated[
    int | None, typer.Option("--classes", min=2, metavar="N", help="How many there are.", show_default=HELD)
]
RULE = "What stored values mean; ade20k: 0 is ignored, 1 to 150 are 0 to 149."
LabelRule = Annotated[str | None, typer.Option("--label-rule", metavar="plain|ade20k", help=RULE, show_default="plain")]
VIEW = "Look at images in one piece, in windows, or at their centre only."
View = Annotated[str | None, typer.Option("--view", metavar="whole|sliding|crop", help=VIEW, show_default="whole")]
SizePx = Annotated[
    int | None,
    typer.Option("--size-px", min=1, metavar="N", help="Shorter side in pixels.", show_default="the tokenizer's own"),
]
Epochs = Annotated[
    int | None, typer.Option("--epochs", min=1, metavar="N", help="Passes over --data.", show_default="10")
]
Baseline = Annotated[
    bool | None, typer.Option("--baseline", help="Measure the untouched encoder as well.", show_default="off")
]
SaveMasks = Annotated[
    Path | None, typer.Option("--save-masks", metavar="DIR", help="Write what was named, a PNG for each image.")
]
STRIP = "Write a strip of image, named and true classes."
Picture = Annotated[
    Path | None, typer.Option("--picture", metavar="FILE", help=STRIP, show_default="RUN/results/segment.png")
]


def segment(
    checkpoint: Checkpoint = None,
    data: Data = None,
    val_data: ValData = None,
    classes: Classes = None,
    label_rule: LabelRule = None,
    view: View = None,
    size_px: SizePx = None,
    epochs: Epochs = None,
    baseline: Baseline = None,
    save_masks: SaveMasks = None,
    picture: Picture = None,
    limit: Limit = None,
    train_limit: TrainLimit = None,
    batch_size: BatchSize = None,
    seed: Seed = None,
    devices: Devices = None,
    out_file: ScoresFile = None,
    overwrite: OverwriteFile = False,
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Name every pixel with a linear head on frozen patches: mIoU."""
    from muse_cli.briefing import DataWanted, brief, refuse_layers
    from muse_cli.scores import give
    from muse_cli.settings import resolve_as
    from muse_cli.team import measure
    from muse_cli.tokenizer import both_or_demo, chosen_or_newest
    from muse_core.data.vocabulary import counted
    from muse_core.evaluation.savedkinds import MASKS
    from muse_core.ownership import refuse_taken
    from muse_core.settings.measuring import SegmentSettings

    flags = {"train_data": data, "data": val_data, "classes": classes, "label_rule": label_rule, "view": view}
    flags |= {"size_px": size_px, "epochs": epochs, "baseline": baseline, "limit": limit, "train_limit": train_limit}
    flags |= {"batch_size": batch_size, "seed": seed, "devices": devices}
    settings, _ = resolve_as(SegmentSettings, "segment", flags, sets, config)
    to_learn, to_measure = both_or_demo(settings.train_data, settings.data)
    settings = settings.model_copy(update={"train_data": to_learn, "data": to_measure})
    if picture is not None and picture == out_file:
        raise MuseError(f"--picture and --out both name {picture}", "two names", ExitCode.USAGE)
    for file, ending in ((out_file, "json"), (picture, "png")):
        refuse_taken(file, overwrite, [settings.data, settings.train_data], ending)
    if save_masks is not None:
        MASKS.refuse(save_masks, overwrite)
    where = chosen_or_newest(checkpoint)
    refuse_layers(where, [settings.layer] if settings.layer else [])
    learned = DataWanted(settings.train_data or "demo:train", "train", settings.train_limit)
    held_out = DataWanted(str(settings.data), limit=settings.limit)
    how = f"{counted(settings.epochs, 'epoch')}, {settings.view} images"
    brief("segment", [where], [learned, held_out], how, settings.devices)
    masks = None if save_masks is None else str(save_masks)
    values = {"where": where, "settings": settings.model_dump(mode="json"), "masks": masks, "overwrite": overwrite}
    found = measure("muse_cli.commands.segment:measured", values, settings.devices)
    found = found if picture is None else with_strip_at(found, picture, overwrite)
    give(found, where, out_file, overwrite=overwrite)


def measured(
    device: str, team: "Team", where: str, settings: dict[str, Any], masks: str | None, overwrite: bool
) -> "Scores":
    """Measure as the settings say, alone or as one of several processes."""
    from muse_cli.tokenizer import load
    from muse_core import segment as measure
    from muse_core.settings.measuring import SegmentSettings

    chosen = SegmentSettings.model_validate(settings)
    return measure(
        load(where, device, "featurizes"),
        str(chosen.train_data),
        str(chosen.data),
        options_of(chosen),
        size=chosen.size_px,
        limit=chosen.limit,
        train_limit=chosen.train_limit,
        batch_size=chosen.batch_size,
        baseline=chosen.baseline,
        masks=None if masks is None else Path(masks),
        overwrite=overwrite,
        team=team,
        progress=out.progress(),
    ).scores


def options_of(settings: "SegmentSettings") -> "SegmentOptions":
    """Collect what the head depends on."""
    from muse_core.evaluation.segmentation import SegmentOptions

    return SegmentOptions(
        classes=settings.classes,
        labels=settings.label_rule,
        layer=settings.layer,
        view=settings.view,
        epochs=settings.epochs,
        batch_size=settings.head_batch,
        rate=settings.rate,
        decay=settings.decay,
        seed=settings.seed,
    )


def with_strip_at(scores: "Scores", picture: Path, overwrite: bool) -> "Scores":
    """Write the strip of examples to the file asked for; return the scores without it."""
    from dataclasses import replace

    from muse_core.marks import Mark
    from muse_core.ownership import write_file

    write_file(picture, scores.pictures["segment"], Mark("figure"), overwrite=overwrite)
    out.say(f"drawn in {picture}")
    return replace(scores, pictures={})
