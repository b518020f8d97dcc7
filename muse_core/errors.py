"""The one error a user sees: what happened, what to type, and how the command ends."""

import csv
import errno
import os
import re
from enum import IntEnum
from pathlib import Path

MEASURING_MEMORY = "a smaller --batch-size, or --size-px where one image alone is too large"
TRAINING_MEMORY = "--set training.checkpointing=true, then --set training.accumulation=N, then a smaller --batch-size"
"""In this order: the first costs time and the second nothing but time; only the last changes what is trained."""

FULL = (errno.ENOSPC, errno.EDQUOT)
_EXHAUSTED = {
    errno.EMFILE: ("too many files are open in this process", "ulimit -n 4096, or fewer workers"),
    errno.ENFILE: ("too many files are open on this machine", "fewer workers or processes"),
    errno.EAGAIN: ("this machine starts no more processes or threads", "ulimit -u, or fewer workers"),
}
_PLACES = {
    **dict.fromkeys(FULL, "make room there, or write to another disk"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "a folder that you may write to"),
    errno.ENAMETOOLONG: "a shorter name",
}
"""What to do where the file system refuses to write."""
_MEMORY = "memory", "GPU memory"
_ALLOCATORS = tuple(
    (memory, re.compile(pattern, re.IGNORECASE))
    for memory, pattern in (
        # torch on the CPU, C++, aligned allocation, files mapped into memory, numpy, shared libraries
        (_MEMORY[0], r"DefaultCPUAllocator|not enough memory: you tried to allocate|can(?:'t|not) allocate memory"),
        (_MEMORY[0], r"std::bad_alloc|posix_memalign|unable to (?:mmap|allocate [\d.]+ \w+)|failed to map segment"),
        # torch on CUDA, HIP and Apple; errors of the driver, which libraries pass on; NCCL quotes the driver
        (_MEMORY[1], r"(?:CUDA|HIP|MPS|XPU)\b.{0,80}out of memory|cuda(?:Error)?_?(?:MemoryAllocation|OUT_OF_MEMORY)"),
        (_MEMORY[1], r"\b(?:NCCL|nccl\w*)\b[\s\S]{0,400}out of memory|Cuda failure.{0,20}out of memory"),
        # cuBLAS, cuDNN, cuSOLVER and the rest; a handle that cannot be made nearly always found no room
        (_MEMORY[1], r"CU(?:BLAS|DNN|SOLVER|SPARSE|RAND)_STATUS_(?:INTERNAL_ERROR_\w*)?ALLOC(?:ATION)?_FAILED"),
        (_MEMORY[1], r"CUFFT_ALLOC_FAILED|CU(?:BLAS|DNN|SOLVER|SPARSE)_STATUS_NOT_INITIALIZED"),
        (_MEMORY[1], r"unable to find a valid cuDNN algorithm"),
    )
)
"""How allocators say that there is no room, in whatever exception it arrives."""


_BEFORE_SENTENCE = re.compile(r"^\s*(?:\w+Error: )?(?:\[enforce fail at [^\]]*\] ?)?(?:\w+(?: == \w+)?\. )?")
"""Where in torch's sources it happened."""


class ExitCode(IntEnum):
    """How a command ends; the meaning of each number is part of the interface."""

    DONE = 0
    BUG = 1
    USAGE = 2
    SETTINGS = 3
    FILE = 4
    PLUGIN = 5
    MACHINE = 6
    STOPPED = 7
    PROBLEMS = 8
    INTERRUPTED = 130
    UNREAD = 141
    TERMINATED = 143


class MuseError(Exception):
    """Something a user can mend.

    Args:
        what: one or more sentences: the value seen and where it came from.
        hint: what to type next.
        exit_code: how the command ends; files and data unless said otherwise.
    """

    def __init__(self, what: str, hint: str | None = None, exit_code: int = ExitCode.FILE) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.exit_code = int(exit_code)


class BadMemberError(Exception):
    """A file, or a member of a sample, that cannot be used; its text is the reason that is counted.

    Args:
        reason: the same for all of which it is true.
        detail: what was seen in this one.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.detail = detail


class NotWritableError(OSError):
    """The file system refuses to write; `filename` is the path as it was asked for, not one beside it or inside it."""

    def __init__(self, path: str | os.PathLike[str], refusal: OSError) -> None:
        super().__init__(refusal.errno, refusal.strerror or str(refusal), str(path))


class MuseWarning(UserWarning):
    """Something that only helps could not be had; the work goes on without it."""


def explained(error: BaseException, memory_hint: str = MEASURING_MEMORY) -> MuseError | None:
    """Return in words what the machine refused: a package, memory, a file. None for what only a bug explains.

    Args:
        error: what was raised.
        memory_hint: what to type where memory is too small.
    """
    if isinstance(error, MuseError):
        return error
    lack = lack_of_memory(error)
    if lack is not None:
        return MuseError(lack, memory_hint, ExitCode.MACHINE)
    if isinstance(error, ModuleNotFoundError):
        what, hint = f"the package {error.name} is not installed", f"pip install {error.name}"
        return MuseError(what, hint, ExitCode.MACHINE)
    if isinstance(error, csv.Error):
        return MuseError(f"a table cannot be read as csv: {error}")
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return MuseError(*_EXHAUSTED[errno.EAGAIN], ExitCode.MACHINE)
    return _refused_file(error) if isinstance(error, OSError) else None


def lack_of_memory(error: BaseException) -> str | None:
    """Return the sentence for an allocator that found no room, with its own line; None for any other error."""
    text = str(error)
    for memory, pattern in _ALLOCATORS:
        found = pattern.search(text)
        if found:
            return f"not enough {memory}: {_line_around(text, found.start())}"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"not enough {_MEMORY[0]}: {(text.splitlines() or ['out of memory'])[0]}"
    return f"not enough {_MEMORY[0]}" if isinstance(error, OSError) and error.errno == errno.ENOMEM else None


def _line_around(text: str, position: int) -> str:
    start = text.rfind("\n", 0, position) + 1
    line = _BEFORE_SENTENCE.sub("", text[start:].splitlines()[0])
    return line if len(line) <= 200 else f"{line[:200].rsplit(' ', 1)[0]} ..."


def _refused_file(error: OSError) -> MuseError | None:
    if error.errno in _EXHAUSTED:
        return MuseError(*_EXHAUSTED[error.errno], ExitCode.MACHINE)
    if isinstance(error, NotWritableError):
        hint = _PLACES.get(error.errno or 0, "another place to write to")
        return MuseError(f"{error.filename} cannot be written: {error.strerror}", hint)
    if isinstance(error.filename, str | bytes | os.PathLike):
        return MuseError(f"{os.fsdecode(error.filename)}: {error.strerror}")
    if error.errno in FULL:
        return MuseError("the disk is full")
    if error.errno == errno.ENOENT and not _is_somewhere():
        return MuseError("the folder in which this was typed no longer exists", "cd to one that does")
    return MuseError(f"a file could not be read or written: {error.strerror}") if error.errno else None


def _is_somewhere() -> bool:
    try:
        return Path.cwd().is_dir()
    except OSError:
        return False
