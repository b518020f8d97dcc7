"""`muse segment`: how well a linear head on frozen patches names every pixel."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muse_cli.options import (
    BatchSize,
    Checkpoint,
    ConfigFile,
    Data,
    Devices,
    Limit,
    ScoresFile,
    Seed,
    Sets,
    TrainLimit,
    ValData,
)
from muse_cli.output import out

if TYPE_CHECKING:
    from muse_core.evaluation.segmentation import Segmented, SegmentOptions
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
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Name every pixel with a linear head on frozen patches: mIoU."""
    from muse_cli.scores import give
    from muse_cli.settings import resolve_as
    from muse_cli.tokenizer import chosen_or_newest
    from muse_core.settings.measuring import SegmentSettings

    flags = {"train_data": data, "data": val_data, "classes": classes, "label_rule": label_rule, "view": view}
    flags |= {"size_px": size_px, "epochs": epochs, "baseline": baseline, "limit": limit, "train_limit": train_limit}
    flags |= {"batch_size": batch_size, "seed": seed, "devices": devices}
    settings, _ = resolve_as(SegmentSettings, "segment", flags, sets, config)
    where = chosen_or_newest(checkpoint)
    found = measured(settings, where, save_masks)
    write_strip(found, where, picture)
    give(found.scores, where, out_file)


def measured(settings: "SegmentSettings", where: str, masks: Path | None) -> "Segmented":
    """Measure a tokenizer as the settings say."""
    from muse_cli.tokenizer import data_or_demo, load
    from muse_core import segment as measure
    from muse_core.machine import pick_device

    return measure(
        load(where, pick_device(settings.devices), "featurizes"),
        settings.train_data or "demo:train",
        data_or_demo(settings.data),
        options_of(settings),
        size=settings.size_px,
        limit=settings.limit,
        train_limit=settings.train_limit,
        batch_size=settings.batch_size,
        baseline=settings.baseline,
        masks=masks,
        progress=out.progress(),
    )


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


def write_strip(found: "Segmented", where: str, picture: Path | None) -> None:
    """Write the examples to the file asked for, else beside the scores of the run."""
    from muse_cli.scores import result_path
    from muse_core.evaluation.maskpictures import save_strip

    beside = result_path(found.scores, where)
    strip = picture or (beside.with_suffix(".png") if beside else None)
    if strip is not None:
        save_strip(found.examples, strip)
        out.say(f"image, named and true classes: {strip}")
