"""Random weights in the published shapes, in place of the files that hold the published ones."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torchvision.models import convnext_small, vgg16

from muse_core.model.text import TextTower
from muse_core.model.weights import published, tiny

LPIPS_WIDTHS = (64, 128, 256, 512, 512)


@contextmanager
def random_parts() -> Iterator[None]:
    """Let every published part be one of its shape with random weights for a while."""
    loaders: dict[str, Any] = {
        "load_encoder": lambda size, sizes: _frozen(sizes.new_encoder()),
        "load_decoder": lambda size, sizes: _frozen(sizes.new_decoder()),
        "load_teacher": lambda size: _frozen(published.new_teacher()),
        "load_text": _text,
        "load_lpips_states": _lpips_states,
        "load_convnext": lambda size: _frozen(convnext_small(weights=None)),
    }
    with ExitStack() as stack:
        for name, loader in loaders.items():
            stack.enter_context(mock.patch.object(published, name, loader))
        # What the tiny pack holds are numbers of the host, which a fake weight cannot take.
        stack.enter_context(mock.patch.object(tiny, "_frozen", lambda model, folder: _frozen(model)))
        yield


def _frozen(model: nn.Module) -> nn.Module:
    return model.eval().requires_grad_(False)


def _text(_size: str) -> TextTower:
    return TextTower(published.new_text(), published.clip_tokenizer(77), "random")


def _lpips_states(_size: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    layers = vgg16(weights=None).features.state_dict()
    heads = {f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1) for i, width in enumerate(LPIPS_WIDTHS)}
    return {f"features.{name}": weight for name, weight in layers.items()}, heads
