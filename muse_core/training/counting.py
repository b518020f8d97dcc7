"""What one call computes and keeps for its backward pass, counted on the meta device: no numbers, no memory, no GPU."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

# What autocast computes in bf16, and what in float32, by the names that functions of torch have in Python.
_LOW = """linear bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d matmul __matmul__
    __rmatmul__ mm bmm mv addmm addmv addbmm baddbmm einsum prelu scaled_dot_product_attention"""
_FULL = """layer_norm group_norm rms_norm norm vector_norm cosine_similarity softmax log_softmax softplus exp log log1p
    log2 log10 expm1 pow __pow__ __rpow__ reciprocal rsqrt sum cumsum prod cumprod logsumexp cross_entropy nll_loss
    mse_loss l1_loss smooth_l1_loss"""
_PRECISION = {name: torch.bfloat16 for name in _LOW.split()} | {name: torch.float32 for name in _FULL.split()}


class Numbers(TorchFunctionMode):
    """Compute as a GPU would: in bf16 under autocast where `low`, and attention with a kernel that holds no map.

    torch's own autocast passes over tensors on the meta device. A test compares what is kept here with what it keeps
    on fake tensors of a GPU. `copies` are the storages of weights in bf16, which autocast makes once a pass.
    """

    def __init__(self, *, low: bool) -> None:
        super().__init__()
        self.low = low
        self.copies: dict[int, Tensor] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.__name__
        if self.low and name in _PRECISION:
            args, kwargs = self._cast(args, _PRECISION[name]), self._cast(kwargs, _PRECISION[name])
        if name == "scaled_dot_product_attention" and kwargs.get("attn_mask") is None and len(args) <= 3:
            q, k, v = (args[at] if at < len(args) else kwargs[key] for at, key in enumerate(("query", "key", "value")))
            return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[0]
        return func(*args, **kwargs)

    def _cast(self, value: Any, dtype: torch.dtype) -> Any:
        if isinstance(value, Tensor):
            return self._copy(value, dtype) if value.is_floating_point() and value.dtype != dtype else value
        if isinstance(value, Mapping):
            return {key: self._cast(one, dtype) for key, one in value.items()}
        return type(value)(self._cast(one, dtype) for one in value) if isinstance(value, list | tuple) else value

    def _copy(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        if dtype == torch.float32 or not isinstance(tensor, nn.Parameter):
            return tensor.to(dtype)
        if id(tensor) not in self.copies:
            self.copies[id(tensor)] = tensor.to(dtype)
        return self.copies[id(tensor)]


@dataclass(frozen=True)
class Counted:
    """Operations of one call; bytes that it keeps for the backward pass; of weights copied to bf16, which are none of
    those; and what one of the layers keeps, where that is most."""

    flop: int
    kept: int
    copies: int
    largest: int


class _Kept:
    """The storages that are saved for the backward pass, each once, but for those of the modules' own weights."""

    def __init__(self, modules: Collection[nn.Module]) -> None:
        self._own = {tensor.untyped_storage()._cdata for one in modules for tensor in one.state_dict().values()}
        self._storages: dict[int, torch.UntypedStorage] = {}  # held, so that no other takes the place of one
        self._of_layers = [0]
        self._before = 0

    def save(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._own:
            self._storages[storage._cdata] = storage
        return tensor

    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self._storages.values())

    def bytes_of(self, tensors: Collection[Tensor]) -> int:
        among = {tensor.untyped_storage()._cdata for tensor in tensors}
        return sum(storage.nbytes() for key, storage in self._storages.items() if key in among)

    def enter(self, *_: object) -> None:
        self._before = self.bytes()

    def leave(self, *_: object) -> None:
        self._of_layers.append(self.bytes() - self._before)

    def largest(self) -> int:
        return max(self._of_layers)


def count(
    call: Callable[[], object], *modules: nn.Module, low: bool = False, layers: Collection[nn.Module] = ()
) -> Counted:
    """Count one call on the meta device; weights of the modules are not counted as kept, they are there anyway.

    low: count as under autocast to bf16; layers: those of which the largest is wanted.
    """
    kept, numbers = _Kept(modules), Numbers(low=low)
    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(kept.enter).remove)
            stack.callback(layer.register_forward_hook(kept.leave).remove)
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(kept.save, lambda tensor: tensor))
        counter = stack.enter_context(FlopCounterMode(display=False))
        stack.enter_context(numbers)
        call()
    copies = kept.bytes_of(numbers.copies.values())
    return Counted(counter.get_total_flops(), kept.bytes() - copies, copies, kept.largest())
