"""`muse eval`: how well images survive encoding and decoding."""

from typing import Annotated

import typer

from muse_cli.options import BatchSize, Checkpoint, ConfigFile, Data, Devices, Limit, ScoresFile, Sets
from muse_cli.output import out


def evaluate(
    checkpoint: Checkpoint = None,
    data: Data = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", metavar="NAME", help="Repeatable.", show_default="every one that can be measured here"
        ),
    ] = None,
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
    from muse_cli.tokenizer import chosen_or_newest, data_or_demo, load
    from muse_core import evaluate as measure
    from muse_core.machine import pick_device
    from muse_core.settings.measuring import EvalSettings

    flags = {"data": data, "metrics": metric, "limit": limit, "batch_size": batch_size, "devices": devices}
    settings, _ = resolve_as(EvalSettings, "eval", flags, sets, config)
    where = chosen_or_newest(checkpoint)
    tokenizer = load(where, pick_device(settings.devices))
    scores = measure(
        tokenizer,
        data=data_or_demo(settings.data),
        metrics=list(settings.metrics) or None,
        limit=settings.limit,
        batch_size=settings.batch_size,
        progress=out.progress(),
    )
    give(scores, where, out_file)
