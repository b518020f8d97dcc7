"""Training that torchrun, accelerate, srun or mpirun started: several processes with the same command line.

The first process plans and makes the run folder; the others wait for its word and follow. Whichever fails records why
in the run, and that is what all of them end with.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muse_cli.output import out
from muse_core.errors import ExitCode, MuseError
from muse_core.runs import resume_command

if TYPE_CHECKING:
    from muse_core.distributed import Rank
    from muse_core.runs import RunFolder
    from muse_core.settings.train import TrainSettings
    from muse_core.stages.chain import Stage

HERE = "127.0.0.1"
PORT = 29500
_FIRST_HOST = re.compile(r"([^\[,]*)(?:\[([^\],-]+)[^\]]*\]([^,]*))?")  # of a list such as gpu[07-09,12]-ib,cpu1
_LOST = re.compile(r"(?i)gloo|nccl|connection (?:closed|reset|refused)|broken pipe|timed out")


def launched() -> "Rank | None":
    """Say which process of a launcher this is; None when it was started alone.

    Raises:
        MuseError: the launcher's variables are not numbers that fit together.
    """
    from muse_core.distributed import rank_of

    rank = rank_of(os.environ)
    return rank if rank.count > 1 else None


def start(
    rank: "Rank", settings: "TrainSettings", origins: Mapping[str, str], later: "Sequence[Stage]" = ()
) -> dict[str, Any]:
    """Train one stage as one of several; returns what --json prints, which only the first process does.

    Raises:
        MuseError: as the process said that failed first, with its exit code.
    """
    from muse_cli.launch import Team, create

    join(rank, settings.training.devices)
    return follow(rank, from_first(rank, lambda: str(create(settings, origins, Team(rank.count, {}), later).path)))


def resume(rank: "Rank", folder: "RunFolder", settings: "TrainSettings") -> dict[str, Any]:
    """Go on with a run as one of several."""
    join(rank, settings.training.devices)
    return follow(rank, from_first(rank, lambda: str(folder.path)))


def as_seen(folder: "RunFolder") -> "RunFolder":
    """Return the run as this process sees it: only the first one writes its records."""
    from muse_core.runs import FollowerFolder

    rank = launched()
    return FollowerFolder(folder.path) if rank and rank.index else folder


def join(rank: "Rank", devices: str) -> None:
    """Meet the other processes, on this device.

    Raises:
        MuseError: `devices` contradicts the launcher (exit code 3), or this machine has too few GPUs (6).
    """
    from muse_cli.worker import require_world

    os.environ.update(meeting(os.environ, rank))
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    kind, _, count = devices.partition(":")
    if not (devices in ("auto", "cuda", str(local)) or (kind == "cpu" and count in ("", str(rank.count)))):
        raise MuseError(
            f"--devices {devices}: the launcher has started {rank.count} processes, {local} of them here",
            hint="leave out --devices, or say cpu",
            exit_code=ExitCode.SETTINGS,
        )
    if kind == "cpu" or not _gpus(local, devices):
        os.environ["ACCELERATE_USE_CPU"] = "true"
    if rank.index:
        out.mute()
    require_world(rank.count)


def _gpus(local: int, devices: str) -> int:
    import torch

    found = torch.cuda.device_count()
    if found < local and (found or devices != "auto"):
        raise MuseError(
            f"the launcher has started {local} processes on this machine, which has {found} GPUs",
            hint="one process for each GPU, or --devices cpu",
            exit_code=ExitCode.MACHINE,
        )
    return found


def meeting(environ: Mapping[str, str], rank: "Rank") -> dict[str, str]:
    """Say in torch's variables who this process is and where all of them meet, as far as torchrun has not said it.

    Raises:
        MuseError: they are on several machines, and nothing says on which they meet (exit code 3).
    """
    local_rank = _first(environ, "LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK") or str(rank.index)
    local_world = _first(environ, "LOCAL_WORLD_SIZE", "SLURM_STEP_TASKS_PER_NODE", "OMPI_COMM_WORLD_LOCAL_SIZE")
    local = int(re.match(r"\d*", local_world or "")[0] or rank.count)  # type: ignore[index]  # SLURM says 8(x4)
    address = environ.get("MASTER_ADDR") or (HERE if local == rank.count else _first_host(environ))
    if not address:
        raise MuseError(
            f"{rank.count} processes on several machines, and nothing says where they meet",
            hint="set MASTER_ADDR to the first machine's name, or start them with torchrun --rdzv-endpoint HOST:PORT",
            exit_code=ExitCode.SETTINGS,
        )
    job = int(_first(environ, "SLURM_JOB_ID", "SLURM_JOBID") or 0)
    return {
        "RANK": str(rank.index),
        "WORLD_SIZE": str(rank.count),
        "LOCAL_RANK": local_rank,
        "LOCAL_WORLD_SIZE": str(local),
        "MASTER_ADDR": address,
        # All of a job come to the same port, and two jobs on one machine hardly ever do.
        "MASTER_PORT": environ.get("MASTER_PORT") or str(PORT + job % 10_000),
    }


def _first(environ: Mapping[str, str], *names: str) -> str | None:
    return next((environ[name] for name in names if environ.get(name)), None)


def _first_host(environ: Mapping[str, str]) -> str:
    found = _FIRST_HOST.match(_first(environ, "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST") or "")
    return "".join(part or "" for part in found.groups()) if found else ""


def from_first(rank: "Rank", work: Callable[[], str]) -> str:
    """Let the first process do something, and tell all what came of it.

    Raises:
        MuseError: it failed there.
    """
    from torch import distributed

    from muse_cli.main import describe

    said: list[tuple[str, tuple[str, str | None, int] | None]] = [("", None)]
    if rank.index == 0:
        try:
            said = [(work(), None)]
        except Exception as error:
            said = [("", describe(error))]
    distributed.broadcast_object_list(said, src=0)
    value, failed = said[0]
    if failed:
        raise MuseError(*failed)
    return value


def follow(rank: "Rank", path: str) -> dict[str, Any]:
    """Train the run that the first process has made.

    Raises:
        MuseError: as the process said that failed first.
    """
    from muse_core.progress import Silent
    from muse_core.runs import FollowerFolder, RunFolder
    from muse_core.stages.start import resume as resume_here

    run = FollowerFolder(Path(path)) if rank.index else RunFolder(Path(path))
    try:
        resume_here(run, Silent() if rank.index else out.progress())
    except Exception as error:
        raise _cause(run, error) from error
    return {"command": "train", "folder": path, "processes": rank.count, **vars(run.status)}


def _cause(run: "RunFolder", error: Exception) -> Exception:
    """Of an error that only follows from another process's end, return what that one recorded."""
    from muse_cli.worker import stay

    if not isinstance(error, MuseError):
        stay()
    if isinstance(error, MuseError) or not _LOST.search(str(error)):
        run.fail(error)
        return error
    status = run.status
    if status.state == "failed" and status.error and not _LOST.search(status.error):
        return MuseError(status.error, hint=status.hint, exit_code=status.exit_code or ExitCode.STOPPED)
    what, hint = "another process of this run has ended without a word", f"{resume_command(run.path)}, as before"
    lost = MuseError(what, hint=hint, exit_code=ExitCode.STOPPED)
    run.fail(lost, overrule=True)
    return lost
