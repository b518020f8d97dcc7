"""One command to many processes: who computes on what, and whose error the command ends with.

Settings are resolved once, here, and written into the run folder; the workers read them there.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muse_cli.output import out
from muse_core.devices import chosen_for
from muse_core.errors import ExitCode, MuseError
from muse_core.machine import cores
from muse_core.runs import resume_command

if TYPE_CHECKING:
    from muse_core.devices import Devices
    from muse_core.runs import RunFolder
    from muse_core.settings.train import TrainSettings
    from muse_core.stages.chain import Stage

PATIENCE_S = 60.0
"""For processes that were asked to stop, and save."""

HURRY_S = 5.0
"""For processes that have lost another one: they cannot save without it."""


@dataclass(frozen=True)
class Team:
    """The processes of a run: how many, what their environment says, and which GPU a single one uses."""

    processes: int
    environment: Mapping[str, str]
    gpu: int | None = None

    def enter(self) -> None:
        """Prepare this process to be the only one of the team."""
        if self.gpu is not None:
            import torch

            torch.cuda.set_device(self.gpu)


def team_for(asked: str, size: str) -> Team:
    """Say which processes `--devices` means.

    Raises:
        MuseError: this machine does not have them (exit code 6), or the words mean nothing (3).
    """
    chosen = chosen_for(asked, size)
    indices = [name.removeprefix("cuda:") for name in chosen if name.startswith("cuda:")]
    if len(chosen) == 1:
        return Team(1, {}, int(indices[0]) if indices else None)
    if indices:
        return Team(len(indices), {"CUDA_VISIBLE_DEVICES": ",".join(indices)})
    return Team(len(chosen), {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""})


def start(settings: "TrainSettings", origins: Mapping[str, str], later: "Sequence[Stage]" = ()) -> dict[str, Any]:
    """Train one stage, in this process or in several; returns what --json prints. later: the stages after it.

    Raises:
        MuseError: as a worker said, with its exit code.
    """
    from muse_cli import joining
    from muse_core.stages.start import train

    rank = joining.launched()
    if rank:
        return joining.start(rank, settings, origins, later)
    team = team_for(settings.training.devices, settings.run.size)
    if team.processes == 1:
        team.enter()
        return train(settings, origins, out.progress(), later).to_json()
    return run_team(create(settings, origins, team, later), team)


def resume(folder: "RunFolder", settings: "TrainSettings") -> dict[str, Any]:
    """Go on with a run, in this process or in several."""
    from muse_cli import joining
    from muse_core.stages.start import resume as resume_here

    rank = joining.launched()
    if rank:
        return joining.resume(rank, folder, settings)
    team = team_for(settings.training.devices, settings.run.size)
    if team.processes == 1:
        team.enter()
        return resume_here(folder, out.progress()).to_json()
    return run_team(folder, team)


def refuse_unfit(settings: "TrainSettings") -> None:
    """Refuse a number of processes that batches and lanes cannot be shared out to, before anything is written.

    Raises:
        MuseError: the batch, the lanes and the processes do not divide (exit code 3).
    """
    from muse_cli import joining
    from muse_core.data.source import open_source
    from muse_core.training.lanes import lane_plan

    if settings.data.train is None:
        return
    rank = joining.launched()
    world = rank.count if rank else team_for(settings.training.devices, settings.run.size).processes
    source = open_source(settings.data.train, size=settings.model.resolution)
    try:
        lane_plan(settings, source, world)
    except MuseError as error:
        lanes = settings.data.lanes or 1
        able = ", ".join(str(number) for number in range(1, lanes + 1) if lanes % number == 0)
        hint = f"the run keeps its {lanes} lanes, which so many processes can share: {able}"
        raise MuseError(error.what, hint=hint, exit_code=error.exit_code) from None


def devices_in(settings: "TrainSettings") -> "Devices":
    """Return the devices of this machine that settings name; under a launcher, one for each of its processes.

    Raises:
        MuseError: as `team_for`.
    """
    from muse_cli import joining
    from muse_core.devices import devices_here

    rank, asked = joining.launched(), settings.training.devices
    if rank is None:
        return devices_here(asked, settings.run.size)
    found = devices_here("cpu" if asked.startswith("cpu") else "auto", settings.run.size)  # `join` refuses the others
    return replace(found, count=rank.count)


def create(
    settings: "TrainSettings", origins: Mapping[str, str], team: Team, later: "Sequence[Stage]" = ()
) -> "RunFolder":
    """Plan, and make the folder that the workers find their settings in."""
    from muse_core.stages.plan import make_plan
    from muse_core.stages.start import created

    plan = make_plan(settings, devices=devices_in(settings))
    for line in plan.lines:
        out.say(line)
    plan.refuse_if_incomplete()
    with created(settings, origins, plan, later) as folder:
        return folder


def run_team(folder: "RunFolder", team: Team) -> dict[str, Any]:
    """Start the workers of a run and wait for them; one that fails ends the others.

    Raises:
        MuseError: what the worker that failed recorded, with its exit code.
        KeyboardInterrupt: the workers were stopped and have saved.
    """
    workers = [_worker(folder.path, team, rank, port) for port in [free_port()] for rank in range(team.processes)]
    try:
        codes = wait_for(workers)
    except KeyboardInterrupt as error:
        error.run = folder.path  # type: ignore[attr-defined]
        stop(workers)
        raise
    if any(codes):
        raise _failure(folder, codes)
    return {"command": "train", "folder": str(folder.path), "processes": team.processes, **vars(folder.status)}


def _worker(folder: Path, team: Team, rank: int, port: int) -> "subprocess.Popen[bytes]":
    environment = {
        **os.environ,
        **team.environment,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(team.processes),
        "LOCAL_WORLD_SIZE": str(team.processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(max(cores() // team.processes, 1)),
    }
    return subprocess.Popen([sys.executable, *_arguments(folder, team)], env=environment, stdout=2)


def _arguments(folder: Path, team: Team) -> list[str]:
    return ["-m", "muse_cli.worker", str(folder), str(team.processes), str(out.verbosity)]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(workers: "list[subprocess.Popen[bytes]]") -> list[int | None]:
    """Return the exit codes of all, or, as soon as one fails, those so far: the others are then ended."""
    with out.doing(""):  # the first of them talks
        while None in (codes := [worker.poll() for worker in workers]) and not any(codes):
            time.sleep(0.1)
    codes = [worker.poll() for worker in workers]  # one that failed of another's death may have been seen first
    stop(workers, HURRY_S)
    return codes


def stop(workers: "list[subprocess.Popen[bytes]]", patience: float = PATIENCE_S) -> None:
    """End processes: ask, and after some seconds insist."""
    for worker in workers:
        if worker.poll() is None:
            worker.terminate()
    deadline = time.monotonic() + patience
    for worker in workers:
        try:
            worker.wait(timeout=max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def _failure(folder: "RunFolder", codes: list[int | None]) -> MuseError:
    status = folder.status
    killed = any(code and code < 0 for code in codes)
    # What others say of one that was killed is that a connection broke.
    if status.error is not None and not (killed and status.exit_code == ExitCode.BUG):
        return MuseError(status.error, hint=status.hint, exit_code=status.exit_code or ExitCode.STOPPED)
    rank, code = next((rank, code) for rank, code in enumerate(codes) if code and (code < 0 or not killed))
    ended = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    error = MuseError(
        f"process {rank} of {len(codes)} {ended}",
        hint=resume_command(folder.path),
        exit_code=ExitCode.STOPPED,
    )
    folder.fail(error, overrule=True)
    return error
