"""The reference's network as the product loads it from a released file, and our names for the reference's."""

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from torch import Tensor

from muse_core.model.architecture import Architecture, vision_arguments
from muse_core.model.network import MuseNetwork
from muse_core.model.released import load_released
from muse_core.model.weights.keymaps import released_names
from tests.fixtures.regenerate import read_json, released_state


def our_keys(key: str) -> list[str]:
    """Our names for a released key of encoder, blocks, heads or decoder: three where the reference fuses q, k and v."""
    return released_names(key)


def block_key(key: str) -> str:
    """Our name in a block of layout `released` for the reference's."""
    return released_names(f"muse_blocks.0.{key}")[0].removeprefix("connector.blocks.0.")


def architecture() -> Architecture:
    """The sizes of the fixture's encoder and decoder, whose heads are narrower than the published ones."""
    sizes = read_json("config")["model"]
    vision = {name: value for name, value in sizes["vision"].items() if name != "initializer_factor"}
    return Architecture(vision_arguments(vision), sizes["dcae"])


def write_released(folder: Path, document: Any | None = None, name: str = "pytorch_model.bin") -> Path:
    """Write the fixture's checkpoint, or another document, where the public trainer would, with its sizes beside it."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(flat() if document is None else document, file)
    (file.parent / "config.json").write_text(json.dumps({"architecture": architecture().to_json()}))
    return file


@cache
def flat() -> dict[str, Tensor]:
    """The fixture's checkpoint: names of the reference to tensors, its teacher among them."""
    return released_state()


@cache
def network() -> MuseNetwork:
    """Load the fixture's network in layout `released`, in eval mode."""
    return load_released(write_released(Path(mkdtemp())))[0].eval()
