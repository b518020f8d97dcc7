"""The gradient meter: do losses pull the same weights in opposite directions?

A stream is one loss and what it teaches. Letters: a, b streams; n batches.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

Gradient = Mapping[str, Tensor | None]
"""By weight; None where no path leads from the loss to the weight."""

EVERYTHING = "all weights"


def groups_of(network: nn.Module, trained: set[str]) -> dict[str, tuple[str, ...]]:
    """Sort the trained weights of a MUSE network into groups, those of each block apart, from pixels to pixels."""
    groups: dict[str, list[str]] = {}
    for name, _ in network.named_parameters():
        if name in trained:
            groups.setdefault(group_of(name), []).append(name)
    everything = tuple(name for names in groups.values() for name in names)
    return {EVERYTHING: everything, **{group: tuple(groups[group]) for group in sorted(groups, key=_place)}}


def _place(group: str) -> tuple[int, int]:
    """Where a group stands in the forward; the three streams of a block in the order QK, S, V+out+mlp."""
    if group.startswith("block "):
        _, number, kind = group.split(" ")
        return 2, 3 * int(number) + {"QK": 0, "S": 1}.get(kind, 2)
    order = {"encoder": 0, "adapter": 1, "to latent": 3, "decoder": 4}
    return order.get(group, 5), 0


def group_of(name: str) -> str:
    """Say which group a weight of a MUSE network belongs to, by its name."""
    words = name.split(".")
    if words[0] != "connector":
        return words[0]
    if words[1] == "blocks":
        kind = {"topology": "QK", "semantic": "S"}.get(words[3], "V+out+mlp")
        return f"block {words[2]} {kind}"
    return {"logit_scale": "projector", "to_latent": "to latent"}.get(words[1], words[1])


def gradient(loss: Tensor, weights: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    """Return the gradient of a loss by weight; the graph is kept for the next loss."""
    if not loss.requires_grad:
        return dict.fromkeys(weights)
    found = torch.autograd.grad(loss, list(weights.values()), retain_graph=True, allow_unused=True)
    return dict(zip(weights, found, strict=True))


@dataclass(frozen=True)
class Meeting:
    """How two streams meet in a group of weights, over all batches.

    cosine, error: mean of the cosines of the batches, and its standard error; None where their paths never meet.
    energies: mean squared norm of each one's gradient in the group.
    """

    cosine: float | None
    error: float | None
    energies: tuple[float, float]


class ConflictMeter:
    """Cosines and energies of the gradients of several streams, a batch at a time.

    Missing gradients count as zero: leaving those weights out would measure only where the streams agree to meet.
    """

    def __init__(self, groups: Mapping[str, Sequence[str]], streams: Sequence[str]) -> None:
        self.groups = groups
        self.pairs = tuple(combinations(streams, 2))
        self._streams = tuple(streams)
        self._energy: dict[tuple[str, str], list[float]] = {}
        self._cosine: dict[tuple[str, str, str], list[float]] = {}

    def add(self, gradients: Mapping[str, Gradient]) -> None:
        """Take in the gradients of one batch, by stream."""
        for group, names in self.groups.items():
            norms = {stream: _dot(gradients[stream], gradients[stream], names) or 0.0 for stream in self._streams}
            for stream, energy in norms.items():
                self._energy.setdefault((group, stream), []).append(energy)
            for a, b in self.pairs:
                product = _dot(gradients[a], gradients[b], names)
                if product is not None:
                    length = math.sqrt(norms[a] * norms[b])
                    self._cosine.setdefault((group, a, b), []).append(product / length if length else 0.0)

    def meeting(self, group: str, a: str, b: str) -> Meeting:
        """Return how two streams meet in a group."""
        energies = (_mean(self._energy[group, a]), _mean(self._energy[group, b]))
        values = self._cosine.get((group, a, b), [])
        if not values:
            return Meeting(None, None, energies)
        spread = torch.tensor(values, dtype=torch.float64)
        error = float(spread.std()) / math.sqrt(len(values)) if len(values) > 1 else None
        return Meeting(_mean(values), error, energies)

    def share(self, group: str, stream: str) -> float:
        """Return which part of a stream's gradient energy lies in a group."""
        total = _mean(self._energy[EVERYTHING, stream])
        return _mean(self._energy[group, stream]) / total if total else 0.0


def _dot(first: Gradient, second: Gradient, names: Sequence[str]) -> float | None:
    """Inner product over weights that both reach; None when there is no such weight."""
    both = [(first[name], second[name]) for name in names]
    met = [(x, y) for x, y in both if x is not None and y is not None]
    return float(sum(float((x.double() * y.double()).sum()) for x, y in met)) if met else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
