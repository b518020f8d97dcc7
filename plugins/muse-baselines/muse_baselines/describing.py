"""What every rival says of itself in the same words."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from muse_core.errors import MuseError


def device_of(network: Any) -> torch.device:
    """Return where a network's weights are."""
    device: torch.device = next(network.parameters()).device
    return device


def grid_of(cell: int) -> Callable[[int, int], tuple[int, int]]:
    """Make the function from (H, W) pixels to (h, w) cells of `cell` pixels, counting those that padding fills up."""
    return lambda height, width: (-(-height // cell), -(-width // cell))


def counts_of(parts: Iterable[tuple[str, nn.Module]]) -> dict[str, int]:
    """Count the parameters of named parts."""
    return {name: sum(weight.numel() for weight in part.parameters()) for name, part in parts}


def no_layer(name: str, layer: str | int, known: Iterable[str]) -> MuseError:
    """Make the error for a feature layer that a tokenizer does not have."""
    return MuseError(f"{name} has no feature layer '{layer}'", hint=f"choose from {', '.join(known)}")
