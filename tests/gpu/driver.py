"""What both simulated GPUs answer in place of a driver: there is one device, and nothing has to be set up on it."""

import ctypes
import mmap
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

CUDA = torch.device("cuda", 0)
GET_HOOKS = "_ZN2at6detail12getCUDAHooksEv"
"""at::detail::getCUDAHooks(), as the compiler writes it."""

HAS_PRIMARY_CONTEXT = 4
"""Its place among the virtual functions of ATen/detail/AcceleratorHooksInterface.h: behind two destructors, isBuilt
and isAvailable."""

PROPERTIES = SimpleNamespace(
    name="simulated GPU",
    total_memory=80 * 2**30,
    major=9,
    minor=0,
    multi_processor_count=132,
    warp_size=32,
    gcnArchName="",
    regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048,
)

ANSWERS: Mapping[str, Callable[..., Any]] = {
    "is_available": lambda: True,
    "is_initialized": lambda: True,
    "_lazy_init": lambda: None,
    "_is_in_bad_fork": lambda: False,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "set_device": lambda device: None,
    "get_device_name": lambda device=None: PROPERTIES.name,
    "get_device_properties": lambda device=None: PROPERTIES,
    "get_device_capability": lambda device=None: (PROPERTIES.major, PROPERTIES.minor),
    "is_bf16_supported": lambda *args, **kwargs: True,
    "is_current_stream_capturing": lambda: False,
    "empty_cache": lambda: None,
    "synchronize": lambda device=None: None,
    "manual_seed": lambda seed: None,
    "manual_seed_all": lambda seed: None,
    "get_rng_state": lambda device="cuda": torch.zeros(16, dtype=torch.uint8),
    "set_rng_state": lambda state, device="cuda": None,
}
"""Functions of torch.cuda that muse, accelerate and torch itself ask before or beside computing."""


@cache
def deny_contexts() -> list[int]:
    """Let torch hear that no device has a context; returns the devices that it has asked about since.

    Before each backward pass autograd's engine asks this of the hooks for CUDA, which ask the driver, and no switch of
    torch answers in its place. So the entry in the table of those hooks' functions is replaced, for as long as the
    process lives.

    Raises:
        OSError, AttributeError: this build of torch has no such table.
    """
    asked: list[int] = []

    def answer(_hooks: int, device: int) -> bool:
        asked.append(device)
        return False

    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    get_hooks = library[GET_HOOKS]
    get_hooks.restype = ctypes.c_void_p
    table = ctypes.c_void_p.from_address(get_hooks()).value
    if table is None:
        raise OSError("the hooks for CUDA have no table")
    function = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_int8)(answer)
    _write(table + HAS_PRIMARY_CONTEXT * ctypes.sizeof(ctypes.c_void_p), ctypes.cast(function, ctypes.c_void_p))
    _KEPT.append(function)
    return asked


_KEPT: list[Any] = []
"""What torch holds the address of must not be collected."""


def _write(address: int, value: ctypes.c_void_p) -> None:
    """Write a pointer where the loader has closed the memory to writing."""
    page = address // mmap.PAGESIZE * mmap.PAGESIZE
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    if protect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_WRITE):
        raise OSError(ctypes.get_errno(), "mprotect")
    ctypes.c_void_p.from_address(address).value = value.value


@contextmanager
def present() -> Iterator[None]:
    """Let torch.cuda say for a while that there is a device."""
    deny_contexts()
    torch._C._ensureCUDADeviceGuardSet()  # else switching to the device would ask the driver
    with ExitStack() as stack:
        for name, answer in ANSWERS.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        # The engine would go backward in a thread of the device, which sees neither our modes nor a fake tensor's.
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        yield
