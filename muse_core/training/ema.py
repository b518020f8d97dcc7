"""Exponential moving average of the trained weights, and of nothing else."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from muse_core.tensor_files import whole


def decay_at(update: int, cap: float) -> float:
    """Return the decay of an update, counted from 1: 0 first, then (1 + n) / (10 + n) up to `cap`, n = update - 1."""
    n = update - 1
    return 0.0 if n <= 0 else min(cap, (1 + n) / (10 + n))


class Average:
    """Running average of named weights; `updates` and `cap` are saved with it, so that a resumed run averages alike."""

    def __init__(self, weights: Mapping[str, Tensor], cap: float) -> None:
        self.weights = dict(weights)
        self.shadow = {name: weight.detach().clone() for name, weight in weights.items()}
        self.cap = cap
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the current weights."""
        self.updates += 1
        decay = decay_at(self.updates, self.cap)
        shadows, weights = list(self.shadow.values()), list(self.weights.values())
        torch._foreach_lerp_(shadows, weights, 1 - decay)

    def restore(self, shadow: Mapping[str, Tensor], updates: int, cap: float) -> None:
        """Continue from a saved average."""
        for name, value in self.shadow.items():
            value.copy_(shadow[name])
        self.updates, self.cap = updates, cap

    def stored(self) -> dict[str, Tensor]:
        """Return the average as a checkpoint holds it."""
        return {name: whole(weight) for name, weight in self.shadow.items()}

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Run a block with the averaged weights in place of the current ones."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, weight in self.weights.items():
            current = weight.clone()
            weight.copy_(self.shadow[name])
            self.shadow[name].copy_(current)
