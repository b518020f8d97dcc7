"""What one call computes and keeps for its backward pass, counted on the meta device: no numbers, no memory, no GPU."""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

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


_Form = tuple[torch.Size, tuple[int, ...], torch.dtype]


@dataclass(frozen=True)
class _Known:
    """Of one operation on inputs of some form: floating-point operations, whether its result is one tensor, and the
    forms of its tensors; no forms where the result is not in storages of its own."""

    flop: int
    is_one: bool = False
    forms: tuple[_Form, ...] = ()


class Operations(TorchDispatchMode):
    """Count floating-point operations, by torch's own formulas, while networks compute on the meta device.

    Layers repeat, and torch takes long on this device: what an operation costs, and the form of its result, are worked
    out once for inputs of the same forms.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flop = 0
        self._known: dict[Hashable, _Known] = {}

    def __torch_dispatch__(self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        key = (func, _form(args), _form(kwargs))
        known = self._known.get(key)
        if known is None or not known.forms:
            result = func(*args, **kwargs)
            if known is None:
                known = self._known[key] = _known(func, result, args, kwargs)
        else:
            made = tuple(torch.empty_strided(size, at, dtype=dtype, device="meta") for size, at, dtype in known.forms)
            result = made[0] if known.is_one else made
        self.flop += known.flop
        return result


def _known(func: Any, result: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Known:
    formula = flop_registry.get(func._overloadpacket)
    flop = formula(*args, **kwargs, out_val=result) if formula else 0
    return _Known(flop, isinstance(result, Tensor), _own_forms(result, [*args, *kwargs.values()]))


def _form(value: Any) -> Hashable:
    """Return all of an argument that the form of a result depends on."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.storage_offset(), value.dtype, value.device.type
    if isinstance(value, Mapping):
        return tuple((key, _form(one)) for key, one in value.items())
    if isinstance(value, list | tuple):
        return tuple(_form(one) for one in value)
    return type(value), value if isinstance(value, Hashable) else id(value)


def _own_forms(result: Any, inputs: Sequence[Any]) -> tuple[_Form, ...]:
    """Return the forms of a result's tensors, where all of it are tensors that lie in storages of their own."""
    tensors = [result] if isinstance(result, Tensor) else list(result) if isinstance(result, tuple) else []
    if not all(isinstance(one, Tensor) and one.is_meta for one in tensors):
        return ()
    flat = [one for value in inputs for one in (value if isinstance(value, list | tuple) else [value])]
    taken = {one.untyped_storage()._cdata for one in flat if isinstance(one, Tensor)}
    own = {one.untyped_storage()._cdata for one in tensors}
    if taken & own or len(own) < len(tensors):  # a view, or changed in place
        return ()
    forms = tuple((one.shape, one.stride(), one.dtype) for one in tensors)
    fresh = [torch.empty_strided(size, at, dtype=dtype, device="meta") for size, at, dtype in forms]
    pairs = zip(tensors, fresh, strict=True)
    return forms if all(one.untyped_storage().nbytes() == new.untyped_storage().nbytes() for one, new in pairs) else ()


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
        operations = stack.enter_context(Operations())
        stack.enter_context(numbers)
        call()
    copies = kept.bytes_of(numbers.copies.values())
    return Counted(operations.flop, kept.bytes() - copies, copies, kept.largest())
