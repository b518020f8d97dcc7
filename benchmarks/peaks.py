"""Clocks and counts of the benchmarks: seconds and operations of a call, and what a machine can do at best."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

Call = Callable[[], object]
Shape = tuple[int, ...]


@dataclass
class Stopwatch:
    """Times calls on a device; the least of several rounds counts, because other work only adds."""

    device: torch.device
    rounds: int

    def __call__(self, call: Call) -> float:
        """Return seconds: of this process on a CPU, of the clock on a GPU."""
        call()  # what is made once is made here
        return min(self._once(call) for _ in range(self.rounds))

    def _once(self, call: Call) -> float:
        if self.device.type != "cuda":
            started = time.process_time()
            call()
            return time.process_time() - started
        torch.cuda.synchronize()
        started = time.perf_counter()
        call()
        torch.cuda.synchronize()
        return time.perf_counter() - started


@dataclass(frozen=True)
class Flops:
    """Operations of a call: of convolutions, and of matrix products and attention."""

    conv: float
    matmul: float

    @property
    def total(self) -> float:
        """Both."""
        return self.conv + self.matmul


def backward_flop(grad: Shape, x: Shape, kernel: Shape, *options: Any, out_shape: object = None) -> int:
    """Count a convolution's way back; torch's own count forgets that groups do not meet."""
    wanted = options[-1]  # of the gradients of input, kernel and bias
    return int(2 * grad[0] * math.prod(grad[2:]) * math.prod(kernel) * sum(wanted[:2]))


def count(call: Call) -> Flops:
    """Count the operations of a call."""
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: backward_flop}) as counter:
        call()
    ops = counter.get_flop_counts().get("Global", {})
    conv = sum(flop for op, flop in ops.items() if "conv" in str(op))
    return Flops(float(conv), float(counter.get_total_flops() - conv))


def peaks(watch: Stopwatch, dtype: torch.dtype) -> Flops:
    """Measure what the machine can do in a second: a large matrix product, and a 3 x 3 convolution of 128 channels."""
    side = 8192 if watch.device.type == "cuda" else 1024
    one, other = (torch.randn(side, side, device=watch.device, dtype=dtype) for _ in range(2))
    batch = 64 if watch.device.type == "cuda" else 4
    images = torch.randn(batch, 128, 56, 56, device=watch.device, dtype=dtype).to(memory_format=torch.channels_last)
    kernel = torch.randn(128, 128, 3, 3, device=watch.device, dtype=dtype).to(memory_format=torch.channels_last)
    with torch.no_grad():
        # More rounds than for a step: they are short, and a peak has to be one.
        matmul, conv = (
            min(watch(call) for _ in range(10))
            for call in (lambda: one @ other, lambda: functional.conv2d(images, kernel, padding=1))
        )
    return Flops(2 * 9 * 128 * 128 * 56 * 56 * batch / conv, 2 * side**3 / matmul)
