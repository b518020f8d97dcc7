"""Make the tiny foundation pack.

`python -m muse_core.training.foundation PART --out DIR` trains one part on fresh built-in scenes and writes it into
DIR/pack; started again it continues. `python -m muse_core.training.foundation card --pack DIR` measures a finished
pack and writes its MODEL_CARD.md. `python -m muse_core.training.foundation ship RUN --out DIR` turns a finished stage-3
run into the checkpoint that ships.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import nn

from muse_core.errors import MuseError
from muse_core.training.foundation.loop import Recipe

PARTS = ("backbone", "pixels", "teacher", "self-teacher")
PACKED = ("backbone", "pixels", "teacher")
"""What `all` trains: the self-supervised teacher is an attempt that the pack does not use."""


class Training(Protocol):
    """What the module of a part offers."""

    RECIPE: Recipe

    def train(self, folder: Path, recipe: Recipe) -> nn.Module:
        """Train the part, continuing from `folder`."""

    def export(self, model: nn.Module, progress: Path, pack: Path, recipe: Recipe) -> None:
        """Write the part into the pack, with a note of its training."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments, then train and export, or measure. Returns the exit code."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        if options.what == "card":
            _write_card(options.pack, options.images)
        elif options.what == "ship":
            import_module("muse_core.training.foundation.shipped").ship(options.run, options.out)
        else:
            for part in PACKED if options.what == "all" else [options.what]:
                _make(part, options.out, options.steps)
    except MuseError as error:
        print(f"{error.what}\n{error.hint or ''}".strip(), file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m muse_core.training.foundation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--threads", type=int, default=1)
    commands = parser.add_subparsers(dest="what", required=True)
    for part in (*PARTS, "all"):
        command = commands.add_parser(part, help=f"train {part}")
        command.add_argument("--out", type=Path, required=True, help="folder for progress and for the finished pack")
        command.add_argument("--steps", type=int, help="optimizer steps, instead of the recipe's")
    card = commands.add_parser("card", help="measure a finished pack and write its model card")
    card.add_argument("--pack", type=Path, required=True, help="folder of the pack")
    card.add_argument("--images", type=int, default=2000, help="scenes of each measured split")
    ship = commands.add_parser("ship", help="write the checkpoint that ships")
    ship.add_argument("run", type=Path, help="finished stage-3 run")
    ship.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    return parser


def _make(part: str, out: Path, steps: int | None) -> None:
    training = cast(Training, import_module(f"muse_core.training.foundation.{part.replace('-', '_')}"))
    recipe = replace(training.RECIPE, steps=steps) if steps else training.RECIPE
    progress = out / "progress" / part
    model = training.train(progress, recipe)
    training.export(model, progress, out / "pack", recipe)
    print(f"{part}: written to {out / 'pack'}")


def _write_card(pack: Path, images: int) -> None:
    from muse_core.training.foundation.card import measure_pack, write_card

    print(f"written: {write_card(pack, measure_pack(pack, images))}")


if __name__ == "__main__":
    sys.exit(main())
