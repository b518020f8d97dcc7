"""What reconstructing a large image will take, told from two small ones.

Convolutions grow with the pixels of an image, attention with their square: from the operations of two sizes follow
those of any. How fast this machine computes is measured on the larger of the two.
"""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Effort:
    """What images of any size take.

    linear, quadratic: operations per pixel, and per pixel squared. speed: operations a second. bytes_per_pixel: of the
    values that the busiest layer reads and writes; a whole network holds more.
    """

    linear: float
    quadratic: float
    speed: float
    bytes_per_pixel: float

    def seconds(self, height: int, width: int) -> float:
        """Return about how long an image takes to encode and decode."""
        pixels = height * width
        return (self.linear * pixels + self.quadratic * pixels**2) / self.speed

    def bytes_at_least(self, height: int, width: int) -> int:
        """Return a lower bound of the memory that an image takes beside the weights."""
        return int(self.bytes_per_pixel * height * width)


def effort_of(tokenizer: Any, side: int) -> Effort:
    """Measure a tokenizer that encodes and decodes, on squares with sides of `side` and twice as many pixels."""
    small, large = side**2, (2 * side) ** 2
    few, many = _operations(tokenizer, side), _operations(tokenizer, 2 * side)
    quadratic = max((many / large - few / small) / (large - small), 0.0)
    linear = max(few / small - quadratic * small, 0.0)
    return Effort(linear, quadratic, many / _seconds(tokenizer, 2 * side), _busiest(tokenizer, 2 * side) / large)


def _reconstruct(tokenizer: Any, side: int) -> Tensor:
    images = torch.full((1, 3, side, side), 0.5)
    image: Tensor = tokenizer.decode(tokenizer.encode(images).z, (side, side))
    return image


def _operations(tokenizer: Any, side: int) -> int:
    # Fused attention is not counted on every device; written out it is.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        _reconstruct(tokenizer, side)
    return int(counter.get_total_flops())


def _seconds(tokenizer: Any, side: int) -> float:
    started = time.perf_counter()
    _reconstruct(tokenizer, side).cpu()  # a GPU is waited for
    return time.perf_counter() - started


def _busiest(tokenizer: Any, side: int) -> int:
    """Return the most bytes that a layer without layers reads and writes."""
    most = 0

    def note(layer: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal most
        if not list(layer.children()):
            tensors = [value for value in (*inputs, output) if isinstance(value, Tensor)]
            most = max(most, sum(value.numel() * value.element_size() for value in tensors))

    handle = register_module_forward_hook(note)
    try:
        _reconstruct(tokenizer, side)
    finally:
        handle.remove()
    return most
