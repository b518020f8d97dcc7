"""`muse eval`: how well images survive encoding and decoding."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muse_cli.options import BatchSize, Checkpoint, ConfigFile, Data, Devices, Limit, OverwriteFile, ScoresFile, Sets
from muse_cli.output import out
from muse_core.errors import ExitCode, MuseError

if TYPE_CHECKING:
    from muse_core.evaluation.processes import Team
    from muse_core.evaluation.protocol import Scores
    from muse_core.settings.measuring import EvalSettings

EVERY = "every one that can be measured here"
EVERY_METRIC = "every metric that can be measured here"
Metric = Annotated[list[str] | None, typer.Option("--metric", metavar="NAME", help="Repeatable.", show_default=EVERY)]
SizePx = Annotated[
    int | None,
    typer.Option("--size-px", min=1, metavar="N", help="Shorter side in pixels.", show_default="the tokenizer's own"),
]
REFERENCE = "An npz with mu and sigma that Frechet distances compare with, or the originals."
Reference = Annotated[str | None, typer.Option("--reference", metavar="FILE|self", help=REFERENCE, show_default="self")]
STATISTICS = "Only write statistics of --data for --reference; no tokenizer is needed then."
SaveStats = Annotated[Path | None, typer.Option("--save-stats", metavar="FILE", help=STATISTICS)]

PAIRS = "Write originals and reconstructions as PNG, the bytes that were measured."
SaveImages = Annotated[Path | None, typer.Option("--save-images", metavar="DIR", help=PAIRS)]


def evaluate(
    checkpoint: Checkpoint = None,
    data: Data = None,
    metric: Metric = None,
    reference: Reference = None,
    save_stats: SaveStats = None,
    save_images: SaveImages = None,
    overwrite: OverwriteFile = False,
    size_px: SizePx = None,
    limit: Limit = None,
    batch_size: BatchSize = None,
    devices: Devices = None,
    out_file: ScoresFile = None,
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Measure reconstruction: PSNR, SSIM, Frechet distance."""
    from muse_cli.scores import give
    from muse_cli.settings import resolve_as
    from muse_cli.team import measure
    from muse_cli.tokenizer import chosen_or_newest, data_or_demo
    from muse_core.settings.measuring import EvalSettings

    flags = {"data": data, "metrics": metric, "limit": limit, "batch_size": batch_size, "devices": devices}
    flags |= {"reference": reference, "size_px": size_px}
    settings, _ = resolve_as(EvalSettings, "eval", flags, sets, config)
    settings = settings.model_copy(update={"data": data_or_demo(settings.data)})
    if save_stats is not None:
        out.result(*statistics(settings, checkpoint, save_stats, overwrite))
        return
    refuse_outputs(settings, out_file, save_images, overwrite)
    where = chosen_or_newest(checkpoint)
    told(settings, where)
    images = None if save_images is None else str(save_images)
    values = {"where": where, "settings": settings.model_dump(mode="json"), "images": images, "overwrite": overwrite}
    give(measure("muse_cli.commands.eval:measured", values, settings.devices), where, out_file, overwrite=overwrite)


def told(settings: "EvalSettings", where: str) -> None:
    """Say which tokenizer is measured on which data, and by what.

    Raises:
        MuseError: one of them is not there.
    """
    from muse_cli.briefing import DataWanted, brief
    from muse_core.evaluation.named import metrics_named
    from muse_core.model.locating import look_up

    names = ", ".join(metrics_named(settings.metrics)) if settings.metrics else EVERY_METRIC
    size = settings.size_px or look_up(where).resolution
    how = f"{names}{f' at {size} px' if size else ''}"
    if settings.reference != "self":
        how += f", compared with {settings.reference}"
    wanted = DataWanted(str(settings.data), limit=settings.limit)
    brief("eval", [where], [wanted], how, settings.devices)


def refuse_outputs(settings: "EvalSettings", scores: Path | None, images: Path | None, overwrite: bool) -> None:
    """Refuse what cannot be written, or compared with, before anything is loaded.

    Raises:
        MuseError: a file is in the way, a folder holds something else, or the reference is not there.
    """
    from muse_core.evaluation.savedkinds import PAIRS
    from muse_core.ownership import refuse_taken

    refuse_taken(scores, overwrite, [settings.data, settings.reference], "json")
    if images is not None:  # the same evaluation may go on there
        PAIRS.refuse(images, overwrite=True, in_place=True)
    if settings.reference != "self" and not Path(settings.reference).is_file():
        raise MuseError(
            f"{settings.reference} is no file of reference statistics: it does not exist",
            hint="an npz with mu and sigma; muse eval --save-stats",
        )


def measured(
    device: str, team: "Team", where: str, settings: dict[str, Any], images: str | None, overwrite: bool
) -> "Scores":
    """Measure as the settings say, alone or as one of several processes."""
    from muse_cli.tokenizer import load
    from muse_core import evaluate as measure
    from muse_core.settings.measuring import EvalSettings

    chosen = EvalSettings.model_validate(settings)
    return measure(
        load(where, device),
        data=str(chosen.data),
        metrics=list(chosen.metrics) or None,
        limit=chosen.limit,
        batch_size=chosen.batch_size,
        size=chosen.size_px,
        images=None if images is None else Path(images),
        overwrite=overwrite,
        reference=None if chosen.reference == "self" else Path(chosen.reference),
        team=team,
        progress=out.progress(),
    )


def statistics(settings: Any, checkpoint: str | None, target: Path, overwrite: bool) -> tuple[dict[str, Any], str]:
    """Write the statistics of data, at the size asked for or that of the tokenizer named; return what to print.

    Raises:
        MuseError: the size is not known, more than one metric was named, or `target` is there.
    """
    from muse_cli.briefing import DataWanted, brief
    from muse_cli.scores import in_words
    from muse_cli.tokenizer import load
    from muse_core.machine import pick_device
    from muse_core.model.locating import look_up
    from muse_core.ownership import refuse_taken

    if len(settings.metrics) > 1:
        raise MuseError("statistics are of one metric's features", "--metric rfid", ExitCode.USAGE)
    if settings.size_px is None and checkpoint is None:
        raise MuseError("at which size? Statistics depend on it", "--size-px 224, or name a CHECKPOINT", ExitCode.USAGE)
    refuse_taken(target, overwrite, [settings.data], "npz")
    side = settings.size_px or look_up(str(checkpoint)).resolution
    how = f"statistics{f' at {side} px' if side else ''} to {target}"
    wanted = DataWanted(settings.data, limit=settings.limit)
    brief("eval", [checkpoint] if checkpoint else [], [wanted], how, settings.devices)
    from muse_core.api import save_statistics

    found = save_statistics(
        settings.data,
        target,
        side or load(str(checkpoint), "cpu").info.resolution,
        *settings.metrics,
        limit=settings.limit,
        batch_size=settings.batch_size,
        device=pick_device(settings.devices),
        overwrite=overwrite,
        progress=out.progress(),
    )
    out.say(f"statistics written to {target}")
    return {**found.to_json(), "file": str(target)}, in_words(found)
