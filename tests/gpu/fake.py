"""A CUDA device without numbers: every tensor has a shape, a layout, a number format and a device, and no memory.

Whole training steps at published sizes then take seconds. Operations that mix devices, or number formats that no kernel
takes, raise as they do on a GPU; NaN, several processes and kernels themselves are not seen.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.utils import clip_grad
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode

from tests.gpu.driver import present
from tests.gpu.waits import Record

NUMBER = "_local_scalar_dense"


@contextmanager
def fake_cuda() -> Iterator[Record]:
    """Compute on the fake device for a while; once in a process, since what torch remembers belongs to one mode."""
    # Strict, or tensors of other kinds would slip in, and with them convolutions of unlike number formats.
    mode, record = FakeTensorMode(allow_non_fake_inputs=False), Record()
    with ExitStack() as stack:
        stack.enter_context(present())
        for owner, name, value in replaced():
            stack.enter_context(mock.patch.object(owner, name, value))
        stack.enter_context(mode)
        stack.enter_context(_Watcher(record))
        yield record


def replaced() -> list[tuple[Any, str, Any]]:
    """What is replaced in torch: owner, name, value."""
    return [
        # A device that is there would be set up, and numbers known on the host would be computed with on it.
        (FakeTensorMode, "avoid_device_init", property(lambda _mode: True)),
        (fake_tensor, "init_gpu_context", lambda device: None),
        (nn.Module, "_apply", _apply),
        (torch._C, "_conv_determine_backend_memory_format", _layout),
        # Both ask for the very class of a tensor, and take the slow way for any other.
        (_foreach_utils, "_has_foreach_support", lambda tensors, device: True),
        (clip_grad, "_has_foreach_support", lambda tensors, device: True),
    ]


class _Watcher(TorchDispatchMode):
    """Stands before the fake device: notes waits, and makes up the numbers that nobody knows."""

    def __init__(self, record: Record) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.record = record

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, options = func.overloadpacket.__name__, kwargs or {}
        self.record.note(name, args, options)
        if name == NUMBER:
            return _zero(args[0].dtype)
        return func(*args, **options)


def _zero(dtype: torch.dtype) -> bool | int | float:
    """What is made up for a number that a fake tensor does not have."""
    if dtype is torch.bool:
        return False
    return 0.0 if dtype.is_floating_point else 0


def _apply(module: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """Move a module in place, as torch does real ones; fake weights it would swap, which those it made do not allow."""
    for child in module.children() if recurse else ():
        child._apply(fn)
    for weight in module._parameters.values():
        if weight is not None:
            with torch.no_grad():
                _become(weight, fn(weight))
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = fn(buffer)
    return module


def _become(weight: Tensor, moved: Tensor) -> None:
    if moved is weight:
        return
    weight.data = moved
    if isinstance(weight, FakeTensor):
        weight.fake_device = moved.device  # assigning data leaves it where it was
        weight.constant = None  # a number remembered from the host would be computed with there


def _layout(images: Tensor, kernel: Tensor, _backend: object) -> torch.memory_format:
    """How cuDNN lays out what a convolution returns: channels last where images or kernel are.

    Asked without a GPU, torch answers for the kernels of the CPU.
    """

    def is_last(tensor: Tensor) -> bool:
        last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
        return last and not tensor.is_contiguous()

    return torch.channels_last if is_last(images) or is_last(kernel) else torch.contiguous_format
