"""wandb offline, mlflow and trackio on this machine hold what a run holds, which was stopped and resumed on the way."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from muse_core.offline import REPORTS
from muse_core.runs import RunFolder
from tests.old.archive import ROOT
from tests.trust.test_offline import WATCH

STEPS = 12
NAMES = ("wandb", "mlflow", "trackio")
TRAIN = [
    *("train", "--stage", "1", "--size", "tiny", "--data", "demo", "--val-data", "demo:val:8", "--devices", "cpu"),
    *("--steps", str(STEPS), "--batch-size", "8", "--eval-every", "6", "--out", "run", "--json"),
    *("--set", "training.log_every=1", "--set", "training.sample_every=6", "--set", "data.workers=1"),
    *(word for name in ("tensorboard", *NAMES) for word in ("--track", name)),
]
CI = ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST", "GITLAB_CI", "JENKINS_URL", "BUILDKITE", "TF_BUILD", "CIRCLECI")
"""Where mlflow finds one of these it reports nothing, whatever it is told."""

UNANSWERED = """
from pathlib import Path
from types import SimpleNamespace
from accelerate import Accelerator
from muse_core.training.trackers import Trackers

Accelerator(cpu=True)  # which the engine has made before
heard = SimpleNamespace(say=print, warn=print)
left = Trackers.begin(("wandb", "trackio"), Path("run"), {}, heard)
left.log(1, {"a": 1.0})
left.finish({})
"""


@dataclass
class Proxy:
    """What programs that are not Python's ask for, such as wandb's own: they go through a proxy where there is one."""

    address: str = ""
    asked: list[str] = field(default_factory=list)


@contextmanager
def proxy() -> Iterator[Proxy]:
    """Listen as a proxy that notes who is asked for, and answers nobody."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        noted = Proxy(f"http://127.0.0.1:{server.getsockname()[1]}")

        def listen() -> None:
            while True:
                try:
                    caller, _ = server.accept()
                except OSError:
                    return
                with caller:
                    noted.asked.append(caller.recv(1024).decode(errors="replace").splitlines()[0])

        threading.Thread(target=listen, daemon=True).start()
        yield noted
        server.shutdown(socket.SHUT_RDWR)


def environment(folder: Path, asked: Proxy, **more: str) -> dict[str, str]:
    """The variables of a shell in which nobody set anything about trackers, watched as to what is connected to."""
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site" / "sitecustomize.py").write_text(WATCH)
    theirs = {
        name for name in os.environ if name in (*REPORTS, *CI) or name.startswith(("WANDB_", "MLFLOW_", "TRACKIO_"))
    }
    kept = {name: value for name, value in os.environ.items() if name not in theirs}
    return {
        **kept,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{folder / 'site'}",
        "HOME": str(folder),
        "HF_TOKEN": "hf_planted",  # with one, trackio would ask whose it is
        "TRACKIO_DIR": str(folder / "trackio"),
        "WATCHED": str(folder / "attempts"),
        "HTTPS_PROXY": asked.address,
        "HTTP_PROXY": asked.address,
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
        **more,
    }


@dataclass
class Tracked:
    """A run that was stopped and resumed: its folder, what each tracker holds, and what its two commands said."""

    run: RunFolder
    held: dict[str, Any]
    said: list[str]
    printed: list[str]
    attempts: Path
    asked: Proxy


@pytest.fixture(scope="module")
def tracked(trackers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracked]:
    """Train, stop, resume with MUSE_OFFLINE=1, and read everything back."""
    folder = tmp_path_factory.mktemp("tracked")
    with proxy() as asked:
        shell = environment(folder, asked)
        muse = [str(trackers), "-m", "muse_cli"]
        first = _stopped([*muse, *TRAIN], folder, {**shell, "WANDB_MODE": "offline"})
        assert first.returncode == 143, first.stderr[-3000:]
        line = [*muse, "train", "--resume", "run", "--json"]
        second = subprocess.run(line, cwd=folder, env={**shell, "MUSE_OFFLINE": "1"}, capture_output=True, text=True)
        assert second.returncode == 0, second.stderr[-3000:]
        line = [str(trackers), str(ROOT / "tests" / "extras" / "read_trackers.py"), str(folder)]
        read = subprocess.run(line, cwd=folder, env=shell, capture_output=True, text=True)
        assert read.returncode == 0, read.stderr[-3000:]
        run, printed = RunFolder(folder / "run"), [first.stdout, second.stdout]
        held = json.loads(read.stdout.splitlines()[-1])
        yield Tracked(run, held, [first.stderr, second.stderr], printed, folder / "attempts", asked)


def _stopped(line: list[str], folder: Path, shell: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a training until its first steps are recorded, and stop it as a scheduler does."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(line, cwd=folder, env=shell, stdout=pipe, stderr=pipe, text=True)
    metrics = folder / "run" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") >= 2):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(line, process.returncode, out, err)


def test_all_extras_install_together_at_the_versions_of_constraints(trackers: Path) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    assert {"wandb", "mlflow-skinny", "trackio", "sqlalchemy", "alembic"} <= pins.keys()
    code = (
        "import json, sys, importlib.metadata as m; print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))"
    )
    shown = subprocess.run([trackers, "-c", code, *pins], capture_output=True, text=True, check=True).stdout
    assert json.loads(shown) == pins
    code = "import wandb, mlflow, trackio, mlflow.store.tracking.sqlalchemy_store"
    done = subprocess.run([trackers, "-c", code], env={**os.environ, **REPORTS}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_each_holds_the_numbers_of_the_run(tracked: Tracked, name: str) -> None:
    expected = {
        (key, line["step"]): value
        for line in tracked.run.metrics()
        for key, value in line.items()
        if key != "step" and value is not None
    }
    assert len({step for _, step in expected}) == STEPS
    told = {(key, step): value for key, step, value in tracked.held[name]["numbers"]}
    final = {key: value for (key, _), value in told.items() if key.startswith("final/")}
    assert {key: value for key, value in told.items() if key[0] not in final} == expected
    details = tracked.run.status.details
    assert final == {f"final/{key[4:]}": value for key, value in details.items() if key.startswith("val/")}
    assert final


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_went_on_in_the_same_tracker_run(tracked: Tracked, name: str) -> None:
    kept = json.loads((tracked.run.path / "trackers.json").read_text())
    assert tracked.held[name]["ids"] == [kept[name]["id"]]
    assert "interrupted at step" in (tracked.run.path / "log.txt").read_text()


def test_the_ends_are_told(tracked: Tracked) -> None:
    assert tracked.held["wandb"]["ends"] == [1, 0]
    assert tracked.held["mlflow"]["ends"] == ["FINISHED"]


@pytest.mark.parametrize("name", NAMES)
def test_figures_settings_and_plan_are_there(tracked: Tracked, name: str) -> None:
    held = tracked.held[name]
    assert len(held["figures"]) == 2
    config = held["config"]
    assert str(config["training.steps"]) == str(STEPS)
    assert config["files"][0] == "plan.txt" if name == "mlflow" else "losses   pixel" in str(config["plan"])


def test_nothing_left_the_machine(tracked: Tracked) -> None:
    assert not tracked.attempts.exists(), tracked.attempts.read_text()
    assert tracked.asked.asked == []


def test_results_are_printed_alone_and_no_tracker_failed(tracked: Tracked) -> None:
    assert json.loads(tracked.printed[1])["steps"] == STEPS
    for said in tracked.said:
        assert "no tracking with" not in said
        assert [line.split(": ")[0].split()[-1] for line in said.splitlines() if line.startswith("tracks")] == [*NAMES]


def test_a_tracker_that_nobody_answers_is_left_out(trackers: Path, tmp_path: Path) -> None:
    """And what wandb's own program asks for is seen by the proxy."""
    (tmp_path / "run").mkdir()
    with proxy() as asked:
        online = {"WANDB_API_KEY": "0" * 40, "WANDB_INIT_TIMEOUT": "3"}
        shell = environment(tmp_path, asked, **online)
        done = subprocess.run([trackers, "-c", UNANSWERED], cwd=tmp_path, env=shell, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    warning, place = done.stdout.splitlines()  # and nothing of theirs
    assert warning.startswith("no tracking with wandb from here on, training goes on: ")
    assert place.startswith("tracks   trackio: run run-")
    assert any(line.startswith("CONNECT") for line in asked.asked)
