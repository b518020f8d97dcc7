"""A self-test: does this torch have what the simulated GPUs replace, and does a step of it alone work on them?

They reach into parts of torch that promise nothing. Where one of these is gone the tests of this folder are skipped,
and the reason names it; nothing of muse is asked here, so that no bug of muse can pass for one of torch.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.nn.utils import clip_grad
from torch.utils import _foreach_utils

from tests.gpu.driver import ANSWERS, CUDA, deny_contexts

Device = Callable[[], AbstractContextManager[Any]]

NAMES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "torch.cuda": (torch.cuda, tuple(ANSWERS)),
    "torch._C": (
        torch._C,
        ("_conv_determine_backend_memory_format", "_ensureCUDADeviceGuardSet", "_set_only_lift_cpu_tensors"),
    ),
    "torch.nn.Module": (nn.Module, ("_apply",)),
    "torch._subclasses.fake_tensor": (fake_tensor, ("init_gpu_context",)),
    "torch._subclasses.fake_tensor.FakeTensorMode": (FakeTensorMode, ("avoid_device_init",)),
    "torch.nn.utils.clip_grad": (clip_grad, ("_has_foreach_support",)),
    "torch.utils._foreach_utils": (_foreach_utils, ("_has_foreach_support",)),
    "torch.Tensor": (torch.Tensor, ("_make_wrapper_subclass",)),
}
"""Where something is replaced or called, and its names there."""


TABLE = "hasPrimaryContext in the table of at::detail::getCUDAHooks(), which autograd asks before it goes backward"


def missing(device: Device) -> list[str]:
    """Name what this torch lacks for a simulated device; empty where all of it is there and works."""
    if torch.version.cuda is None:
        return ["a build of torch with CUDA"]
    absent = [
        f"{owner}.{name}" for owner, (holder, names) in NAMES.items() for name in names if not hasattr(holder, name)
    ]
    return absent or list(failing(device))


def failing(device: Device) -> Iterator[str]:
    """Name the first thing that does not work although it is there."""
    try:
        asked = deny_contexts()
    except (OSError, AttributeError) as error:
        yield f"{TABLE} ({error})"
        return
    try:
        with device():
            where = one_step()
    except Exception as error:
        where = {f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    if not asked:
        yield TABLE
    if where != {str(CUDA)}:
        yield f"a training step of torch alone (it ended with {', '.join(sorted(where))})"


def one_step() -> set[str]:
    """Train a few layers for a step, with all that a step of muse needs of torch; return where everything lies."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.Flatten(2), nn.Linear(36, 16))
    network.append(nn.RMSNorm(16))
    network.to("cuda").to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    images = torch.rand(2, 3, 8, 8).to("cuda", non_blocking=True)
    with torch.autocast("cuda", torch.bfloat16):
        tokens = network(images)
        looked = functional.scaled_dot_product_attention(tokens, tokens, tokens)
    looked.float().pow(2).mean().backward()
    norm = clip_grad.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    moments = [value for state in optimizer.state.values() for value in state.values()]
    return {str(tensor.device) for tensor in (looked, norm, *network.parameters(), *moments)}
