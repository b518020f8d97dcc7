"""`python -m muse_core.training.foundation PART --out DIR`: train one part of the tiny pack, or all."""

import argparse
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import torch

PARTS = {
    "backbone": "muse_core.training.foundation.backbone",
    "pixels": "muse_core.training.foundation.pixels",
    "teacher": "muse_core.training.foundation.teacher",
}


def main() -> None:
    """Read the arguments, train, export."""
    parser = argparse.ArgumentParser(prog="python -m muse_core.training.foundation", description=__doc__)
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("--out", type=Path, required=True, help="folder for progress and for the finished pack")
    parser.add_argument("--steps", type=int, help="optimizer steps, instead of the recipe's")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for part in PARTS if options.part == "all" else [options.part]:
        module = import_module(PARTS[part])
        recipe = replace(module.RECIPE, steps=options.steps) if options.steps else module.RECIPE
        model = module.train(options.out / "progress" / part, recipe)
        module.export(model, options.out / "pack")
        print(f"{part}: written to {options.out / 'pack'}")


if __name__ == "__main__":
    main()
