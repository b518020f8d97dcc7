"""`muse demo`: everything on made data."""

from pathlib import Path
from typing import Annotated, Any

import typer

from muse_cli.output import out


def demo(
    out_dir: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where everything goes.", show_default="runs/demo, or demo-quick"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A tenth of the training: to see it work, not to judge it.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the demo in --out, or the one last at work, where it stopped.")
    ] = False,
) -> None:
    """Make data, train all three stages, measure, draw and report; minutes on a CPU."""
    from muse_core.demo_record import default_place

    if resume:
        out.say(f"demo: goes on in {out_dir or 'the folder of the one last at work'}")
    else:
        out.say(f"demo: scenes, three stages of size tiny, scores and a page, in {out_dir or default_place(quick)}")
    from muse_core.demo import run_demo

    result: dict[str, Any] = run_demo(out_dir, quick, out.progress(), resume=resume)
    out.result(result, result["summary"])
