"""A CUDA device that computes on the CPU: its tensors say that they are on cuda:0 and hold real numbers.

Whole commands run on it; numbers are those of the CPU, devices, autocast and waits those of a GPU.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn
from unittest import mock

import torch
from torch import Tensor, nn
from torch._decomp import decomposition_table
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from tests.gpu.driver import CUDA, present
from tests.gpu.waits import INDEXED, Record, place

aten = torch.ops.aten
HOST = torch.device("cpu")
MOVES = {"_to_copy", "copy_"}
WITHOUT_CPU_KERNEL = tuple(
    getattr(aten, name).default
    for name in ("_fused_rms_norm_backward", "cudnn_batch_norm", "cudnn_batch_norm_backward")
)
"""Operations that torch chooses for CUDA alone; they are computed as torch itself takes them apart."""

_RECORD = Record()


@contextmanager
def slow_cuda() -> Iterator[Record]:
    """Compute on the slow device for a while; returns its waits."""
    with ExitStack() as stack:
        stack.enter_context(present())
        # No wrapper may hold a tensor of inference; what inference forbids is the same on every device.
        stack.enter_context(mock.patch.object(torch, "inference_mode", _without_gradient))
        # torch.tensor(..., device="cuda") is then made on the host, and moved in our sight.
        torch._C._set_only_lift_cpu_tensors(True)
        stack.callback(torch._C._set_only_lift_cpu_tensors, False)
        stack.enter_context(_Factories())  # type: ignore[no-untyped-call]
        yield _RECORD


def _without_gradient(mode: bool = True) -> torch.no_grad:
    """Stand in for `torch.inference_mode`."""
    return torch.no_grad()


class OnDevice(Tensor):
    """A tensor on the slow device; `host` holds its numbers."""

    host: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, host: Tensor) -> "OnDevice":
        self: OnDevice = Tensor._make_wrapper_subclass(
            cls,
            host.size(),
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            layout=host.layout,
            device=CUDA,
        )
        self.host = host
        return self

    def __init__(self, host: Tensor) -> None: ...

    def __tensor_flatten__(self) -> tuple[list[str], None]:  # with both, Module.to() swaps weights for moved ones
        return ["host"], None

    @staticmethod
    def __tensor_unflatten__(inner: Mapping[str, Tensor], _context: None, _size: Any, _stride: Any) -> "OnDevice":
        return OnDevice(inner["host"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _compute(func, args, kwargs or {})

    def __repr__(self, **_options: Any) -> str:  # type: ignore[override]
        return f"OnDevice({self.host!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = OnDevice(self.host.clone())
        return nn.Parameter(copied, self.requires_grad) if isinstance(self, nn.Parameter) else copied

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def numpy(self, *, force: bool = False) -> NoReturn:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        self.numpy()


class _Factories(TorchDispatchMode):
    """Catches what makes a tensor on the device out of none."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


def _compute(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Do one operation where it belongs."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    on_device = any(isinstance(tensor, OnDevice) for tensor in tensors)
    name, device = func.overloadpacket.__name__, kwargs.get("device")
    if name == "device":
        return CUDA if on_device else func(*args, **kwargs)
    if not on_device and (device is None or torch.device(device).type != "cuda"):
        return func(*args, **kwargs)
    _refuse_mix(func, name, tensors)
    _RECORD.note(name, args, kwargs)
    if name in MOVES:
        return _moved(func, name, args, kwargs)
    return _on_host(func, args, kwargs, on_device)


def _refuse_mix(func: Any, name: str, tensors: Sequence[Tensor]) -> None:
    """Refuse what a GPU refuses: scalars, indices and moves alone may come from the host."""
    on_device = any(isinstance(tensor, OnDevice) for tensor in tensors)
    foreign = any(tensor.ndim and not isinstance(tensor, OnDevice) for tensor in tensors)
    if on_device and foreign and name not in MOVES | INDEXED:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
            f"({func}, {place()})"
        )


def _moved(func: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """Copy between devices or number formats."""
    if name == "copy_":
        func(_inside(args[0]), _inside(args[1]), *args[2:])
        target: Tensor = args[0]
        return target
    device = torch.device(kwargs.get("device") or args[0].device)
    numbers = _inside(args[0])
    copied = func(numbers, **{**kwargs, "device": HOST})
    copied = copied.clone() if copied is numbers else copied
    return OnDevice(copied) if device.type == "cuda" else copied


def _on_host(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], on_device: bool) -> Any:
    """Compute with the numbers inside, and wrap what comes out, unless it is asked for elsewhere."""
    device = kwargs.get("device")
    options = {**kwargs, **({"device": HOST} if device is not None else {})}
    if options.get("pin_memory"):
        options["pin_memory"] = False
    kernel = decomposition_table[func] if func in WITHOUT_CPU_KERNEL else func
    result = kernel(*tree_map(_inside, args), **tree_map(_inside, options))
    if device is not None and torch.device(device).type != "cuda":
        return result
    result = tree_map(_wrapped, result)
    return return_and_correct_aliasing(func, args, kwargs, result) if on_device else result


def _inside(value: Any) -> Any:
    return value.host if isinstance(value, OnDevice) else value


def _wrapped(value: Any) -> Any:
    return OnDevice(value) if isinstance(value, Tensor) and not isinstance(value, OnDevice) else value
