"""The end of a process: everything that was begun is finished, and nothing is taken apart that the system frees anyway.

Python takes a process apart module by module. With torch and its kin in it that is a fifth of a short command, after
its last line. Only programs call this: `muse` itself and the processes that it starts, never a function of theirs.
"""

import atexit
import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn


def end(code: int) -> NoReturn:
    """End this process with an exit code: threads joined, what waits for the end called, what was printed handed on."""
    if sys.flags.interactive or sys.getprofile() or sys.gettrace():  # `python -i`, a profiler or debugger wants more
        sys.exit(code)
    try:
        finish()
    finally:
        os._exit(code)


def finish() -> None:
    """Do what Python does at the end of a process, in its order, up to where it takes its modules apart."""
    # Told to hurry, by a second Ctrl-C, the rest is left out.
    with suppress(KeyboardInterrupt):
        threading._shutdown()  # type: ignore[attr-defined]  # joins threads; pools end their processes here
        atexit._run_exitfuncs()  # logging, multiprocessing, temporary folders, writers of curves, process groups
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # nobody reads it any more, or it was closed
            stream.flush()
    _flush_c()


def _flush_c() -> None:
    """Hand on what libraries printed by way of C, which has buffers of its own."""
    ctypes = sys.modules.get("ctypes")  # whatever prints that way has imported it: torch, numpy
    if ctypes is not None:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).fflush(None)
