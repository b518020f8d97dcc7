"""`muse inspect`: what is this, and is it healthy?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muse_cli.options import OverwriteFile
from muse_cli.output import out
from muse_core.errors import ExitCode, MuseError

if TYPE_CHECKING:
    from muse_core.inspection.findings import Inspection


def inspect(
    thing: Annotated[
        str,
        typer.Argument(
            metavar="THING", help="Shards, a folder of images, a checkpoint, a run, `latest`, or a tokenizer's name."
        ),
    ],
    deep: Annotated[bool, typer.Option("--deep", help="Decode every picture, not only its header.")] = False,
    sample: Annotated[
        int | None, typer.Option("--sample", min=1, metavar="N", help="Draw N samples on a contact sheet.")
    ] = None,
    readers: Annotated[
        int | None, typer.Option("--readers", min=1, metavar="N", help="Can N ranks x workers be fed?")
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where the contact sheet goes.", show_default="NAME-samples.png"),
    ] = None,
    overwrite: OverwriteFile = False,
) -> None:
    """Say what something is and whether it is healthy; exit 8, with the list, if anything is wrong."""
    from muse_cli.stopping import ending_soon
    from muse_core.inspection.inspect import inspect as look
    from muse_core.ownership import refuse_taken

    refuse_taken(sheet, overwrite, [thing], "png")
    with ending_soon():
        found = look(thing, deep=deep, readers=readers, progress=out.progress())
    document = {"command": "inspect", **found.to_json()}
    lines = list(found.lines)
    if sample and found.kind in ("shards", "images"):
        target = draw(thing, sample, sheet, overwrite)
        document["sheet"] = str(target)
        lines.append(f"sheet     {target}")
    lines += [f"note      {note.line()}" for note in found.notes]
    lines += [] if found.problems else ["nothing is wrong"]
    lines += [f"next: {found.next}"] if found.next else []
    out.result(document, "\n".join(lines))
    refuse(found)


def draw(thing: str, amount: int, sheet: Path | None, overwrite: bool) -> Path:
    """Write the contact sheet, and return where it is."""
    import io

    from muse_cli.writing import written_default
    from muse_core.data.folders import open_folder
    from muse_core.inspection.folders import pick_images
    from muse_core.inspection.shards import pick_samples
    from muse_core.inspection.sheet import contact_sheet
    from muse_core.marks import Mark
    from muse_core.ownership import write_file

    stream = io.BytesIO()
    folder = open_folder(thing)
    contact_sheet(pick_images(folder, amount) if folder else pick_samples(thing, amount)).save(stream, "PNG")
    if sheet is not None:
        return write_file(sheet, stream.getvalue(), Mark("samples"), overwrite=overwrite)
    return written_default(Path(f"{name_for(thing)}-samples.png"), stream.getvalue(), "samples", thing)


def name_for(thing: str) -> str:
    """Return a file name made of what was looked at."""
    name = thing.rstrip("/").rpartition("/")[2].removesuffix(".tar")
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).strip("-.") or "shards"


def refuse(found: "Inspection") -> None:
    """End with the list of problems.

    Raises:
        MuseError: exit code 8, when there are any.
    """
    if found.problems:
        listed = "\n".join(f"  - {problem.line()}" for problem in found.problems)
        raise MuseError(f"{found.name} is not healthy:\n{listed}", exit_code=ExitCode.PROBLEMS)
