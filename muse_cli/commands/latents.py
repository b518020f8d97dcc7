"""`muse infer SHARDS --latents OUT`: the part of `muse infer` that writes latents for others to train on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

import typer

from muse_cli.output import out, table
from muse_cli.stopping import ending_soon
from muse_core.errors import ExitCode, MuseError
from muse_core.suggestions import choices

PANEL = "Latents"
LatentsFolder = Annotated[
    Path | None,
    typer.Option("--latents", metavar="DIR", help="Write latent shards and their statistics.", rich_help_panel=PANEL),
]
LatentType = Annotated[
    str, typer.Option("--dtype", metavar="float16|float32", help="Type of stored latents.", rich_help_panel=PANEL)
]
LatentFormat = Annotated[
    str,
    typer.Option("--latent-format", metavar="safetensors|npy", help="How each lies in its tar.", rich_help_panel=PANEL),
]
Flips = Annotated[
    bool, typer.Option("--flips", help="Also write the latents of every mirror image.", rich_help_panel=PANEL)
]
ResumeLatents = Annotated[
    bool, typer.Option("--resume", help="Go on with the shards of --latents that are left.", rich_help_panel=PANEL)
]
OverwriteLatents = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace the latents in --latents, or the file of --features.", rich_help_panel=PANEL
    ),
]


@dataclass(frozen=True)
class Latents:
    """What the options of this part say."""

    folder: Path
    dtype: str
    form: str
    flips: bool
    batch_size: int
    resume: bool
    overwrite: bool


def write_latents(sources: list[str], checkpoint: str, size: int | str | None, devices: str, asked: Latents) -> None:
    """Write the latents of one source.

    Raises:
        MuseError: the words do not fit together, or the work cannot be done.
    """
    told(sources, checkpoint, size, devices, asked)
    from muse_core.data.vocabulary import counted
    from muse_core.latents.members import Format
    from muse_core.latents.team import write_latents as write
    from muse_core.latents.write import LatentJob
    from muse_core.machine import choose_devices

    side = int(size or side_of(checkpoint))
    form = cast(Format, asked.form)
    job = LatentJob(sources[0], checkpoint, side, asked.dtype, form, asked.flips, asked.batch_size)
    with ending_soon():
        report = write(
            job,
            asked.folder,
            devices=choose_devices(devices),
            resume=asked.resume,
            overwrite=asked.overwrite,
            progress=out.progress(),
        )
    rows = [
        (number, mean, std) for number, (mean, std) in enumerate(zip(report.stats.mean, report.stats.std, strict=True))
    ]
    shape = " x ".join(map(str, report.shape))
    amount = f"{counted(report.shards, 'shard')}, {counted(report.samples, 'sample')}"
    text = f"{report.folder}: {amount}, latents {shape} {asked.dtype}"
    out.result({"command": "infer", **report.to_json()}, f"{text}\n{table(rows, ('channel', 'mean', 'std'))}")


def told(sources: list[str], checkpoint: str, size: int | str | None, devices: str, asked: Latents) -> None:
    """Say what becomes latents, and refuse what is cheap to see.

    Raises:
        MuseError: the words do not fit together, something is not there, or the folder holds something else.
    """
    from muse_cli.briefing import DataWanted, brief
    from muse_core.latents.owned import DTYPES, FORMATS, LATENTS
    from muse_core.machine import choose_devices
    from muse_core.model.locating import look_up

    refuse("--dtype", asked.dtype, DTYPES)
    refuse("--latent-format", asked.form, FORMATS)
    if size == "native":
        raise MuseError("latents of one batch have one size", hint="--size-px 256", exit_code=ExitCode.USAGE)
    if len(sources) > 1:
        raise MuseError(
            f"--latents takes one source, not {len(sources)}",
            hint=f'"{" + ".join(sources)}" is all of them, one after the other',
            exit_code=ExitCode.USAGE,
        )
    if asked.resume and LATENTS.own_files(asked.folder) is not None:  # which says where data and weights were
        out.say(f"infer: goes on with the latents in {asked.folder}")
        choose_devices(devices)
        return
    LATENTS.refuse(asked.folder, asked.overwrite, ["--resume to go on"], in_place=True)
    side = size or look_up(checkpoint).resolution
    how = f"{asked.dtype} latents{f' at {side} px' if side else ''} to {asked.folder}"
    brief("infer", [checkpoint], [DataWanted(sources[0], "train")], how, devices)


def side_of(checkpoint: str) -> int:
    """Return the side in pixels of images that a tokenizer is made for; it is loaded only where no file says so.

    Raises:
        MuseError: it cannot be loaded, or cannot encode.
    """
    from muse_cli.tokenizer import load
    from muse_core.model.locating import look_up

    return look_up(checkpoint).resolution or int(load(checkpoint, "cpu", "encodes").info.resolution)


def refuse(option: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a word that an option does not know.

    Raises:
        MuseError: exit code 2.
    """
    if value not in known:
        raise MuseError(f"{option} {value}: unknown", hint=choices(value, known), exit_code=ExitCode.USAGE)
