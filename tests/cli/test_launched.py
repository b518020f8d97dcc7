"""`muse train` started by torchrun, srun or mpirun: the same command line in every process, and one run."""

import json
import math
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import yaml
from torch import Tensor

from muse_cli import joining, worker
from muse_cli.launch import free_port
from muse_cli.main import main
from muse_core.data.writer import write_scene_shards
from muse_core.distributed import Rank, rank_of
from muse_core.errors import ExitCode, MuseError
from muse_core.runs import RunFolder, is_run
from tests.cli.conftest import Muse, shell_environment
from tests.training.mini import lean

PATIENCE_S = 300.0
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["muse_core.stages.start", "muse_cli.main", "muse_cli.launch", "muse_cli.joining", "muse_cli.commands.train"]
)


def meeting(environ: Mapping[str, str]) -> dict[str, str]:
    return joining.meeting(environ, rank_of(environ))


def test_torchruns_variables_are_taken_as_they_are() -> None:
    said = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    said |= {"MASTER_ADDR": "head", "MASTER_PORT": "1234"}
    assert meeting(said) == said


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu[07-09,12]", "gpu07"),
        ("gpu[3,5]-ib,cpu1", "gpu3-ib"),
        ("alpha,beta", "alpha"),
        ("single-host", "single-host"),
    ],
)
def test_slurms_variables_say_where_all_meet(nodes: str, first: str) -> None:
    said = {"SLURM_PROCID": "9", "SLURM_STEP_NUM_TASKS": "16", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "120034"}
    assert meeting({**said, "SLURM_STEP_TASKS_PER_NODE": "8(x2)", "SLURM_STEP_NODELIST": nodes}) == {
        "RANK": "9",
        "WORLD_SIZE": "16",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "8",
        "MASTER_ADDR": first,
        "MASTER_PORT": "29534",
    }


def test_processes_of_one_machine_meet_there() -> None:
    mpi = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
    found = meeting({**mpi, "OMPI_COMM_WORLD_LOCAL_SIZE": "2"})
    assert (found["RANK"], found["LOCAL_RANK"], found["MASTER_ADDR"]) == ("1", "1", "127.0.0.1")
    with pytest.raises(MuseError, match="nothing says where they meet") as caught:
        meeting({**mpi, "OMPI_COMM_WORLD_LOCAL_SIZE": "1"})
    assert caught.value.exit_code == ExitCode.SETTINGS
    assert "MASTER_ADDR" in str(caught.value.hint)


def test_one_process_of_a_launcher_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    assert joining.launched() is None
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert joining.launched() is None
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert joining.launched() == Rank(0, 2)


def as_one_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be the first of two processes that never meet the second."""
    said = launcher(0, 29500)
    for name, value in {**said, **meeting(said), "ACCELERATE_USE_CPU": "true"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(worker, "require_world", lambda expected: None)


@pytest.mark.parametrize("devices", ["cpu:3", "0,1", "4"])
def test_devices_that_contradict_the_launcher_are_refused(monkeypatch: pytest.MonkeyPatch, devices: str) -> None:
    as_one_of_two(monkeypatch)
    with pytest.raises(MuseError, match="the launcher has started 2 processes") as caught:
        joining.join(Rank(0, 2), devices)
    assert caught.value.exit_code == ExitCode.SETTINGS


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    as_one_of_two(monkeypatch)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(MuseError, match="2 processes on this machine, which has 1 GPUs") as caught:
        joining.join(Rank(0, 2), "auto")
    assert caught.value.exit_code == ExitCode.MACHINE


def test_another_number_of_processes_than_was_started_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Alone:
        num_processes = 1

        def __init__(self, cpu: bool) -> None:
            pass

    monkeypatch.setattr("accelerate.PartialState", Alone)
    with pytest.raises(MuseError, match="2 processes were asked for, but training would use 1") as caught:
        worker.require_world(2)
    assert caught.value.exit_code == ExitCode.MACHINE


LEAVING = """
import atexit, sys
from torch import distributed
from muse_cli import worker
atexit.register(lambda: print("still joined:", distributed.is_initialized()))
distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{sys.argv[1]}", rank=0, world_size=1)
worker.require_world(1)
if sys.argv[2:]:
    worker.stay()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("after", "joined"), [([], False), (["a bug"], True)])
def test_a_process_takes_leave_of_the_others_unless_something_may_hang(after: list[str], joined: bool) -> None:
    """Threads of a group that is left behind abort the interpreter at its end, now and then."""
    environment = {**shell_environment(), "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, "-c", LEAVING, str(free_port()), *after]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, f"still joined: {joined}\n"), done.stderr


def launcher(rank: int, port: int) -> dict[str, str]:
    """What srun would say to one of two processes on this machine."""
    slurm = {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "SLURM_STEP_NUM_TASKS": 2, "MASTER_PORT": port}
    return {**{name: str(value) for name, value in slurm.items()}, "SLURM_STEP_TASKS_PER_NODE": "2"}


@dataclass(frozen=True)
class Two:
    """The two processes of a launcher, and the files that they print to."""

    processes: tuple[BaseProcess, BaseProcess]
    folder: Path

    def said(self, rank: int, where: str) -> str:
        return (self.folder / f"{where}-{rank}").read_text()

    def codes(self, seconds: float = PATIENCE_S) -> tuple[int | None, ...]:
        for process in self.processes:
            process.join(seconds)
        return tuple(process.exitcode for process in self.processes)


def spoil(prediction: Tensor, target: Tensor, kind: str) -> Tensor:
    """A pixel loss that is not finite."""
    return prediction.sum() * math.nan


def as_rank(rank: int, port: int, folder: str, arguments: tuple[str, ...], spoilt: bool) -> None:
    """Run the command in a process of its own as srun would start it."""
    os.environ.update(launcher(rank, port), OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    if spoilt:
        from muse_core.stages import objective

        vars(objective)["pixel_loss"] = spoil
    with (
        Path(folder, f"out-{rank}").open("w") as stdout,
        Path(folder, f"err-{rank}").open("w") as stderr,
        redirect_stdout(stdout),
        redirect_stderr(stderr),
    ):
        code = main(arguments)
    os._exit(code)


Start = Callable[..., Two]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Start]:
    """Start a command twice; whoever is left afterwards is killed."""
    started: list[BaseProcess] = []

    def start(*arguments: str, spoilt: int | None = None) -> Two:
        port = free_port()
        folder = tmp_path / f"said{len(started)}"
        folder.mkdir()
        both = [
            FORKS.Process(target=as_rank, args=(rank, port, str(folder), arguments, rank == spoilt))
            for rank in range(2)
        ]
        for process in both:
            process.start()
        started.extend(both)
        return Two((both[0], both[1]), folder)

    yield start
    for process in started:
        process.kill()
        process.join()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings of a lean first stage on shards of this machine."""
    shards = write_scene_shards("train", 24, tmp_path / "shards", per_shard=6, size=32).folder
    path = tmp_path / "config.yaml"
    changes = {"data.train": str(shards), "training.steps": 2, "training.devices": "auto"}
    path.write_text(yaml.safe_dump(lean(1, changes).model_dump(mode="json")))
    return path


@pytest.mark.slow
def test_srun_makes_one_run_and_the_first_process_tells_of_it(two: Start, config: Path, tmp_path: Path) -> None:
    running = two("train", "--config", str(config), "--out", str(tmp_path / "run"), "--json")
    assert running.codes() == (0, 0), running.said(0, "err") + running.said(1, "err")
    document = json.loads(running.said(0, "out"))
    assert (document["processes"], document["folder"]) == (2, str(tmp_path / "run"))
    assert running.said(1, "out") == ""
    run = RunFolder(tmp_path / "run")
    assert (run.status.state, run.status.step) == ("finished", 2)
    assert [record["step"] for record in run.metrics()] == [1, 2]
    again = two("train", "--config", str(config), "--out", str(tmp_path / "run"))
    assert again.codes() == (ExitCode.FILE, ExitCode.FILE)
    for rank in range(2):
        assert "run is not empty" in again.said(rank, "err")


@pytest.mark.slow
def test_what_goes_wrong_in_one_process_is_what_every_process_ends_with(
    two: Start, config: Path, tmp_path: Path
) -> None:
    running = two("train", "--config", str(config), "--out", str(tmp_path / "run"), "--json", spoilt=1)
    assert running.codes() == (ExitCode.STOPPED, ExitCode.STOPPED)
    assert "the loss is not finite" in json.loads(running.said(0, "out"))["error"]
    assert "the loss is not finite" in running.said(1, "err")
    status = RunFolder(tmp_path / "run").status
    assert (status.state, status.exit_code) == ("failed", ExitCode.STOPPED)
    assert "the loss is not finite" in str(status.error)


@pytest.mark.slow
def test_when_the_first_process_dies_the_others_say_so(two: Start, config: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    endless = ("--steps", "100000", "--save-every", "1", "--keep", "1")
    running = two("train", "--config", str(config), "--out", str(path), *endless)
    run = wait_for_step(path, running, 2)
    running.processes[0].kill()
    assert running.codes(60.0) == (-9, ExitCode.STOPPED)
    assert "another process of this run has ended without a word" in running.said(1, "err")
    assert (run.status.state, run.status.exit_code) == ("failed", ExitCode.STOPPED)


@pytest.mark.slow
def test_one_dead_process_ends_the_run_and_two_go_on_with_it(two: Start, config: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    endless = ("--steps", "100000", "--save-every", "1", "--keep", "1")
    running = two("train", "--config", str(config), "--out", str(path), *endless)
    run = wait_for_step(path, running, 2)
    running.processes[1].kill()
    assert running.codes(60.0) == (ExitCode.STOPPED, -9)
    assert "another process of this run has ended without a word" in running.said(0, "err")
    assert f"muse train --resume {path}" in running.said(0, "err")
    assert (run.status.state, run.status.exit_code) == ("failed", ExitCode.STOPPED)

    step = run.status.step
    again = two("train", "--resume", str(path))
    wait_for_step(path, again, step + 2)
    for process in again.processes:
        process.terminate()
    assert again.codes(60.0) == (ExitCode.TERMINATED, ExitCode.TERMINATED)
    assert (run.status.state, run.status.exit_code) == ("interrupted", ExitCode.TERMINATED)
    assert run.status.step >= step + 2


def wait_for_step(path: Path, running: Two, step: int) -> RunFolder:
    """Look until a run has saved a step, or a process of it has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while not (is_run(path) and RunFolder(path).status.step >= step):
        assert all(process.is_alive() for process in running.processes), running.said(0, "err")
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return RunFolder(path)


def test_going_on_with_a_number_of_processes_that_does_not_divide_changes_nothing(
    muse: Muse, config: Path, tmp_path: Path
) -> None:
    settings = yaml.safe_load(config.read_text())
    run = RunFolder.create(tmp_path / "run", settings, {}, stage=1, size="tiny", steps=2)
    run.interrupt(KeyboardInterrupt())
    before = (run.path / "config.yaml").read_text()
    ended = muse("train", "--resume", str(run.path), "--devices", "cpu:3")
    assert ended.code == ExitCode.SETTINGS
    assert "3 processes does not divide" in ended.err
    assert "the run keeps its 4 lanes, which so many processes can share: 1, 2, 4" in ended.err
    assert (run.path / "config.yaml").read_text() == before
    assert run.status.state == "interrupted"


@pytest.mark.slow
def test_torchrun_itself(config: Path, tmp_path: Path) -> None:
    """The real launcher on this machine: one document on stdout, one run, and a failure's word on stderr."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    muse = [*command, "-m", "muse_cli", "train", "--config", str(config), "--json", "--out"]
    environment = {**shell_environment(), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*muse, "run"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["processes"] == 2
    assert RunFolder(tmp_path / "run").status.state == "finished"
