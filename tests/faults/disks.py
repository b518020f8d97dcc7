"""Disks that are too small, or cannot be written: real ones where this machine allows them.

To be used in a process of its own, whose other processes do not see them.
"""

import ctypes
import os
import resource
from pathlib import Path

_NEW_NAMES, _NEW_USER = 0x00020000, 0x10000000
_READ_ONLY, _REMOUNT, _PRIVATE = 0x1, 0x20, 0x44000
_LIBC = ctypes.CDLL(None, use_errno=True)


class SmallDisk:
    """A folder on a disk of some bytes; where none can be mounted, files cannot grow beyond `largest` bytes."""

    def __init__(self, folder: Path, size: int, largest: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.real = own_disks() and _mount(folder, 0, f"size={size}")
        if not self.real:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))

    def make_room(self) -> None:
        """Let there be room for everything."""
        if self.real:
            assert _mount(self.folder, _REMOUNT, "size=1g")
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def read_only(folder: Path) -> None:
    """Let nothing be written into a folder, which is empty afterwards where a disk can be mounted."""
    if not (own_disks() and _mount(folder, _READ_ONLY, "size=64k")):
        folder.chmod(0o555)


def own_disks() -> bool:
    """Make mounts of this process its own; False where that is not allowed."""
    user = 0 if os.geteuid() == 0 else _NEW_USER
    if _LIBC.unshare(_NEW_NAMES | user) != 0:
        return False
    return int(_LIBC.mount(b"none", b"/", None, _PRIVATE, None)) == 0


def _mount(folder: Path, flags: int, options: str) -> bool:
    return int(_LIBC.mount(b"none", os.fsencode(folder), b"tmpfs", flags, options.encode())) == 0
