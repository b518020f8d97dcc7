"""`muse demo`: everything on made data."""

from pathlib import Path
from typing import Annotated, Any

import typer

from muse_cli.output import out


def demo(
    out_dir: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where everything goes.")] = Path("muse-demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="A tenth of the training: to see it work, not to judge it.")
    ] = False,
) -> None:
    """Make data, train all three stages, measure, draw and report; minutes on a CPU."""
    from muse_core.demo import run_demo

    result: dict[str, Any] = run_demo(out_dir, quick, out.progress())
    out.result(result, result["summary"])
