"""`muse report`: one page to send to a colleague."""

from pathlib import Path
from typing import Annotated

import typer

from muse_cli.options import OverwriteFile
from muse_cli.output import out


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs, `latest`, or folders of results.")],
    out_file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page.", show_default="RUN/report.html")
    ] = None,
    overwrite: OverwriteFile = False,
) -> None:
    """Write one page from settings, curves, samples and scores; it opens without a network."""
    from muse_cli.writing import written_default
    from muse_core.ownership import refuse_taken

    refuse_taken(out_file, overwrite, ending="html")
    folders = [folder_of(run) for run in runs]
    out.say(f"report: {', '.join(map(str, folders))}; settings, curves, samples and scores")
    from muse_core.viz.report import report_page, write_report
    from muse_core.viz.runview import read_run

    views = [read_run(folder) for folder in folders]
    if out_file is not None:
        target = write_report(views, out_file, overwrite=overwrite)
    else:
        target = written_default(folders[0] / "report.html", report_page(views), "report", *folders)
    out.result({"out": target, "runs": folders}, str(target))


def folder_of(run: str) -> Path:
    """Return the folder of a run, or one that holds nothing but results, as `muse compare --out` leaves them."""
    from muse_core.run_search import find_run

    return Path(run) if (Path(run) / "results").is_dir() else find_run(run).path
