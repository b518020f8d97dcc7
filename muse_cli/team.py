"""A measurement by one process or by several: who computes on what, and whose error the command ends with.

As a program, `python -m muse_cli.team FOLDER RANK`, this is one of several processes. All that it has to know lies in
the folder, which its parent made for this and removes afterwards; what it found or what went wrong, it leaves there.
"""

import json
import os
import pickle
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muse_cli.launch import free_port, stop, wait_for
from muse_cli.output import out
from muse_cli.pulse import beating
from muse_cli.stopping import ending_soon
from muse_core.errors import ExitCode, MuseError
from muse_core.home import cache_folder

if TYPE_CHECKING:
    from muse_core.evaluation.protocol import Scores

_JOB, _FOUND = "job.json", "found.pickle"

HURRY_S = 1.0
"""For processes that were asked to stop: they have nothing to save, and a signal waits for a kernel to end."""


def measure(target: str, values: Mapping[str, Any], devices: str) -> "Scores":
    """Measure on the devices meant: "auto" is the first one, more than one is as many processes.

    Args:
        target: "package.module:function", called with the device, the team, and the values.
        values: plain JSON.
        devices: as `--devices` says.

    Raises:
        MuseError: as the function said, in whichever process.
    """
    from muse_core.evaluation.processes import ALONE
    from muse_core.machine import choose_devices
    from muse_core.registry import import_path

    names = choose_devices(devices)
    if devices == "auto" or len(names) == 1:
        with ending_soon():
            found: Scores = import_path(target)(names[0], ALONE, **values)
        return found
    with tempfile.TemporaryDirectory(prefix="muse-") as folder:
        return _together(Path(folder), {"target": target, "values": dict(values), "devices": names})


def _together(folder: Path, job: dict[str, Any]) -> "Scores":
    count = len(job["devices"])
    cache_folder()  # one that cannot be written is replaced for all of them
    document = {**job, "meeting": f"tcp://127.0.0.1:{free_port()}", "verbosity": out.verbosity, "typed": out.typed}
    (folder / _JOB).write_text(json.dumps(document), encoding="utf-8")
    threads = os.environ.get("OMP_NUM_THREADS") or str(max((os.cpu_count() or 1) // count, 1))
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    arguments = [sys.executable, "-m", "muse_cli.team", str(folder)]
    workers = [subprocess.Popen([*arguments, str(rank)], env=environment, stdout=2) for rank in range(count)]
    try:
        codes = wait_for(workers)
    except BaseException:
        stop(workers, HURRY_S)
        raise
    if any(codes):
        raise _first_failure(folder, codes)
    found: Scores = pickle.loads((folder / _FOUND).read_bytes())  # written by our own process, a moment ago
    return found


def _first_failure(folder: Path, codes: list[int | None]) -> MuseError:
    """Return what went wrong first: the others failed because one did."""
    told = sorted(folder.glob("error-*.json"), key=lambda path: path.stat().st_mtime_ns)
    if told:
        error = json.loads(told[0].read_text(encoding="utf-8"))
        return MuseError(error["what"], hint=error["hint"], exit_code=error["exit_code"])
    rank, code = next((rank, code) for rank, code in enumerate(codes) if code)
    ended = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    return MuseError(f"process {rank} of {len(codes)} {ended}", hint="--devices 1", exit_code=ExitCode.STOPPED)


def main() -> int:
    """Measure as one of several; returns the exit code of this process."""
    from muse_core.evaluation.processes import joined
    from muse_core.registry import import_path

    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    job = json.loads((folder / _JOB).read_text(encoding="utf-8"))
    out.verbosity, out.typed = job["verbosity"] if rank == 0 else -1, tuple(job["typed"])  # one process talks
    try:
        with beating(out), joined(rank, len(job["devices"]), job["meeting"]) as team:
            found = import_path(job["target"])(job["devices"][rank], team, **job["values"])
    except KeyboardInterrupt as error:
        return int(getattr(error, "exit_code", ExitCode.INTERRUPTED))
    except Exception as error:
        return _tell(error, folder / f"error-{rank}.json")
    if rank == 0:
        (folder / _FOUND).write_bytes(pickle.dumps(found))
    return int(ExitCode.DONE)


def _tell(error: Exception, path: Path) -> int:
    from muse_cli.main import describe, is_debugging

    what, hint, code = describe(error)
    path.write_text(json.dumps({"what": what, "hint": hint, "exit_code": code}), encoding="utf-8")
    if is_debugging():
        traceback.print_exc()
    return code


if __name__ == "__main__":
    sys.exit(main())
