"""`muse export`: a checkpoint for others."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from muse_cli.options import Checkpoint
from muse_cli.output import out, size_text
from muse_core.command_lines import quote


class Target(StrEnum):
    """What the folder is made for."""

    FOLDER = "folder"
    HUB = "hub"


class Text(StrEnum):
    """What becomes of the text tower."""

    CARRY = "carry"
    NAME = "name"


NO_SCORES = "no scores in the card: they are taken from RUN/results/, where measuring a run keeps them"


def export(
    checkpoint: Checkpoint = None,
    out_dir: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to make.")] = Path("exported"),
    to: Annotated[Target, typer.Option("--to", help="hub adds what huggingface_hub reads.")] = Target.FOLDER,
    average: Annotated[bool, typer.Option("--average/--raw", help="Averaged weights, or the last ones.")] = True,
    text: Annotated[
        Text | None,
        typer.Option(
            "--text", help="Carry the text tower, or only name it.", show_default="carry for tiny, name for others"
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
) -> None:
    """Write a checkpoint as one folder that loads with nothing else: weights, config, model card."""
    from muse_cli.tokenizer import chosen_or_newest
    from muse_core.model.locating import SHIPPED, look_up

    where = chosen_or_newest(checkpoint)
    out.say(f"export: {look_up(where).text} to {out_dir}; {'averaged' if average else 'last'} weights")
    from muse_core.model.exporting import export as write

    done = write(
        SHIPPED if where == "tiny" else where,
        out_dir,
        to=to.value,
        average=average,
        text=text.value if text else None,
        overwrite=overwrite,
    )
    lines = [
        f"{done.folder}  {size_text(done.bytes)}",
        f"text tower: {done.text}",
        f"scores in the card: {done.scores}" if done.scores else NO_SCORES,
        f"load it: muse eval {quote(done.folder)}",
    ]
    if to is Target.HUB:
        lines.append(f"send it: hf upload OWNER/NAME {done.folder}")
    out.result(done.to_json(), "\n".join(lines))
