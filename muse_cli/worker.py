"""One process of a run on several devices: `python -m muse_cli.worker FOLDER WORLD VERBOSITY`.

Everything it has to know is in the run folder; what goes wrong is recorded there for the command to tell.
"""

import atexit
import os
import sys
import traceback
from contextlib import nullcontext
from pathlib import Path

from muse_cli.output import out
from muse_cli.pulse import beating
from muse_core.errors import ExitCode, MuseError


def main() -> int:
    """Train as one of several; returns the exit code of this process."""
    from muse_cli.main import describe, is_debugging
    from muse_core.distributed import rank_of
    from muse_core.progress import Silent
    from muse_core.runs import FollowerFolder, RunFolder
    from muse_core.stages.start import resume

    folder, world, out.verbosity = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    out.typed, rank = ("train",), rank_of(os.environ).index
    run = RunFolder(folder) if rank == 0 else FollowerFolder(folder)
    try:
        with nullcontext() if rank else beating(out):  # one process talks
            require_world(world)
            resume(run, out.progress() if rank == 0 else Silent())
    except KeyboardInterrupt as error:
        return int(getattr(error, "exit_code", ExitCode.INTERRUPTED))
    except Exception as error:
        run.fail(error)
        if not isinstance(error, MuseError):
            stay()
        if is_debugging():
            traceback.print_exc()
        return describe(error)[2]
    return int(ExitCode.DONE)


def require_world(expected: int) -> None:
    """Meet the others; refuse to run as another number of processes than was asked for.

    Raises:
        MuseError: with exit code 6.
    """
    from accelerate import PartialState

    atexit.register(leave)
    actual = PartialState(cpu=os.environ.get("ACCELERATE_USE_CPU") == "true").num_processes
    if actual != expected:
        raise MuseError(
            f"{expected} processes were asked for, but training would use {actual}",
            hint="--devices 1",
            exit_code=ExitCode.MACHINE,
        )


def leave() -> None:
    """Leave the other processes: the threads of gloo, left behind, may abort this one as it ends (pytorch#190489)."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def stay() -> None:
    """Take no leave: after a bug, what is under way may wait for a process that is gone."""
    atexit.unregister(leave)


if __name__ == "__main__":
    sys.exit(main())
