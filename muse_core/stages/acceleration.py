"""What trades one cost for another: time to start for time per step, operations for memory."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from muse_core.model.network import MuseNetwork
from muse_core.stages.objective import Judges


def recompute(network: MuseNetwork) -> None:
    """Keep only what enters each layer of encoder and decoder, and compute the layer again in the backward pass."""
    for layer in layers_of(network):
        _recompute(layer)


def layers_of(network: MuseNetwork) -> Iterator[nn.Module]:
    """Yield the layers of encoder and decoder that can be computed a second time."""
    yield from network.encoder.vision.encoder.layer
    yield from _stages(network.decoder.decoder)


def _stages(decoder: nn.Module) -> Iterator[nn.Module]:
    for stage in decoder.up_blocks:  # type: ignore[union-attr]
        yield from stage


def _recompute(layer: nn.Module) -> None:
    forward = layer.forward

    def again(*inputs: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*inputs, **options)
        return checkpoint(forward, *inputs, use_reentrant=False, **options)

    layer.forward = again


def compile_parts(network: MuseNetwork, judges: Judges, backend: str = "inductor") -> None:
    """Compile, at their first call, the layers of encoder and teacher and the decoder as a whole.

    Layers of one kind are compiled once for all of them. Names of weights stay as they are.
    """
    teacher = judges.teacher.layers if judges.teacher else ()
    for layer in (*network.encoder.vision.encoder.layer, *teacher, network.decoder.decoder):
        layer.compile(backend=backend, dynamic=False)
