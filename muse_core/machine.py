"""What this machine is: versions, devices, memory, and the command that is running."""

import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import muse_core
from muse_core.command_lines import command_line
from muse_core.errors import ExitCode, MuseError
from muse_core.suggestions import did_you_mean

PACKAGES = ("torch", "torchvision", "transformers", "diffusers", "accelerate", "safetensors", "numpy", "pydantic")
WORDS = ("auto", "cpu", "cuda", "mps")
DEVICES = "auto, cpu, cuda, cuda:1, mps, a number of GPUs, or indices such as 0,2"
_SECRET = re.compile(r"(?i)((?:token|key|secret|password|passwd|auth)[\w.-]*[=:\s]\s*)\S+")
_CREDENTIALS = re.compile(r"(\w+://)[^/\s@]+@")
_SIGNATURE = re.compile(r"(\w+://[^\s?]+\?)\S+")


@dataclass(frozen=True)
class Device:
    """Something to compute on; memory in bytes, None where it cannot be told."""

    name: str
    description: str
    memory: int | None = None


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str | None]:
    """Return installed versions by distribution name without importing anything; None where it is missing."""
    return {"muse": muse_core.__version__, "python": platform.python_version(), **{p: _version(p) for p in packages}}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def devices() -> tuple[Device, ...]:
    """List what torch can compute on, the preferred first; imports torch only where there may be a GPU."""
    found = _gpus() if _may_have_gpus() else []
    found.append(Device("cpu", f"{platform.machine()}, {cores()} cores", memory()))
    return tuple(found)


def _gpus() -> list[Device]:
    import torch

    found = [
        Device(f"cuda:{i}", torch.cuda.get_device_name(i), torch.cuda.get_device_properties(i).total_memory)
        for i in range(torch.cuda.device_count())
    ]
    return [*found, Device("mps", "Apple GPU", memory())] if torch.backends.mps.is_available() else found


def _may_have_gpus() -> bool:
    """Return whether torch, which takes seconds to import, could find a GPU: on Linux it needs a driver for that."""
    if sys.platform != "linux" or "torch" in sys.modules or Path("/dev/kfd").exists():  # the last is AMD's
        return True
    try:
        ctypes.CDLL("libcuda.so.1")  # as torch looks for it; wheels never bring it along
    except OSError:
        return False
    return True


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> int | None:
    """Return the physical memory in bytes, None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def free_space(folder: Path) -> int:
    """Return the free bytes on the disk that holds `folder`, which need not exist yet."""
    existing = next(p for p in [folder.absolute(), *folder.absolute().parents] if p.exists())
    return shutil.disk_usage(existing).free


def environment() -> dict[str, Any]:
    """Describe this machine and this command for a run's environment.json; credentials are blanked."""
    return {
        "versions": versions(),
        **hardware(),
        "git": git_state(Path(__file__).parent),
        "command": without_secrets(command_line(Path(sys.argv[0]).name, *sys.argv[1:])),
    }


def support(system: str | None = None) -> str:
    """Say how far muse is known to work on a system, this one unless named as `platform.system` does."""
    known = {"Linux": "tested", "Darwin": "expected to work, not tested"}
    return known.get(system or platform.system(), "not supported")


def hardware() -> dict[str, Any]:
    """Describe what computes here, as far as it decides how fast."""
    return {
        "platform": platform.platform(),
        "cores": cores(),
        "memory": memory(),
        "devices": [asdict(device) for device in devices()],
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return the commit of the checkout that tracks the code in `folder` and whether files differ; None outside one."""
    if _git(folder, "ls-files", "--error-unmatch", ".") is None:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed": bool(changes)} if commit else None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def without_secrets(text: str) -> str:
    """Blank what looks like a credential: token=..., user:password@, and the query of a signed URL."""
    text = _SECRET.sub(r"\1***", text)
    text = _CREDENTIALS.sub(r"\1***@", text)
    return _SIGNATURE.sub(r"\1***", text)


def choose_devices(asked: str) -> tuple[str, ...]:
    """Return the devices meant by "auto", "cpu", "cpu:N" processes, "cuda", "mps", a number of GPUs, or indices.

    Indices are written "0,2"; one GPU also as torch names it, "cuda:1", and "cuda" is the first.

    Raises:
        MuseError: with exit code 6, when this machine does not have them; with 3, when the words mean nothing.
    """
    present = [device.name for device in devices()]
    gpus = [name for name in present if name.startswith("cuda:")]
    kind, _, count = asked.partition(":")
    indices = [index.strip() for index in asked.split(",") if index.strip()]
    if asked == "auto":
        return tuple(gpus or present[:1])
    if kind == "cpu" and (not count or (count.isdigit() and int(count) > 0)):
        return ("cpu",) * int(count or 1)
    if asked == "mps":
        wanted = ["mps"]
    elif kind == "cuda" and (count.isdigit() or asked == kind):
        wanted = [f"cuda:{int(count or 0)}"]
    elif "," in asked and indices and all(index.isdigit() for index in indices):
        wanted = [f"cuda:{index}" for index in indices]
    elif asked.isdigit() and int(asked) > 0:
        wanted = [f"cuda:{index}" for index in range(int(asked))]
    else:
        raise MuseError(
            f"--devices {asked}: these are no devices",
            hint=" ".join(filter(None, [did_you_mean(kind, WORDS), DEVICES])),
            exit_code=ExitCode.SETTINGS,
        )
    if not set(wanted) <= set(present):
        raise MuseError(
            f"--devices {asked}: this machine has {', '.join(present)}", hint="muse doctor", exit_code=ExitCode.MACHINE
        )
    return tuple(wanted)


def pick_device(asked: str) -> str:
    """Return the first of the devices meant, for a command that uses one."""
    return choose_devices(asked)[0]
