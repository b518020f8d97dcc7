"""The engine trains whatever keeps to the protocol of a task: here forty lines that know of no stage."""

import ast
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import PartialState
from torch.multiprocessing.spawn import spawn

from muse_core.runs import FollowerFolder, RunFolder
from muse_core.tensor_files import read_tensors
from muse_core.training import tracker_kinds, trackers
from tests.training.mini import CLOCK
from tests.training.toy import new_run, train_doubling

ENGINE = Path(trackers.__file__).parent
MOST_MEMBERS = 12


@pytest.fixture
def undisturbed(tmp_path: Path) -> RunFolder:
    folder = new_run(tmp_path / "undisturbed")
    train_doubling(folder)
    return folder


def lines(folder: RunFolder) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key not in CLOCK} for line in folder.metrics()]


def saved(folder: RunFolder) -> dict[str, Any]:
    """All that the last checkpoint holds."""
    last = folder.last_checkpoint()
    assert last is not None
    state = json.loads((last / "state.json").read_text(encoding="utf-8"))
    tensors = {file.name: read_tensors(file) for file in sorted(last.glob("*.safetensors"))}
    return {"state": state, **{f"{file}/{name}": value for file, one in tensors.items() for name, value in one.items()}}


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    same = {
        name: torch.equal(one[name], other[name]) if isinstance(one[name], torch.Tensor) else one[name] == other[name]
        for name in one.keys() & other.keys()
    }
    return sorted(one.keys() ^ other.keys()) + [name for name, equal in same.items() if not equal]


def test_the_task_takes_at_most_forty_lines() -> None:
    text = (Path(__file__).parent / "toy.py").read_text(encoding="utf-8")
    task = text.partition("# task: begins\n")[2].partition("# task: ends")[0]
    assert 30 < len([line for line in task.splitlines() if line.strip()]) <= 40


def test_a_task_trains_validates_and_draws(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run", 60)
    finished = train_doubling(folder, 60)
    first, last = lines(folder)[0], [line for line in lines(folder) if "loss/error" in line][-1]
    assert last["loss/error"] < first["loss/error"] / 4
    assert "loss/rival" not in first
    assert {"loss/rival", "loss/adversarial", "grad_norm/all", "lr", "images_per_s"} <= folder.metrics()[-2].keys()
    assert finished.steps == 60
    assert finished.validation["val/error"] < 1
    assert finished.best is not None
    assert (folder.path / "samples" / "step-0000006.png").read_bytes()[:4] == b"\x89PNG"
    assert folder.status.state == "finished"


def test_a_task_averages_with_as_many_decays_as_are_asked_for(undisturbed: RunFolder) -> None:
    tensors = saved(undisturbed)
    fast, slow, now = (tensors[f"{name}.safetensors/0.bias"] for name in ("average-0.5", "average", "model"))
    assert (fast - now).abs().max() < (slow - now).abs().max()
    assert [one["cap"] for one in tensors["state"]["training"]["averages"]] == [0.9, 0.5]


def test_a_tracker_hears_what_metrics_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: dict[tuple[int, str], float] = {}
    figures: list[int] = []

    class Listening:
        identity: Mapping[str, str] = {}
        place = ""

        def log(self, step: int, numbers: Mapping[str, float]) -> None:
            heard.update({(step, name): number for name, number in numbers.items()})

        def figure(self, step: int, name: str, path: Path) -> None:
            figures.append(step)

        def text(self, name: str, text: str) -> None: ...

        def end(self, *, ok: bool) -> None: ...

    monkeypatch.setitem(tracker_kinds.KINDS, "tensorboard", lambda beginning: Listening())
    folder = new_run(tmp_path / "run")
    train_doubling(folder, track=("tensorboard",))
    recorded = {
        (line["step"], name): value for line in folder.metrics() for name, value in line.items() if name != "step"
    }
    assert recorded.items() <= heard.items()
    assert {name for _, name in heard.keys() - recorded.keys()} == {"final/error"}
    assert figures == [6, 12]


def test_four_parts_are_the_whole_batch_for_the_task_and_for_its_opponent(
    undisturbed: RunFolder, tmp_path: Path
) -> None:
    """Logged losses too are those of the whole batch."""
    parts = new_run(tmp_path / "parts")
    train_doubling(parts, parts=4)
    for whole, same in zip(lines(undisturbed), lines(parts), strict=True):
        assert same == pytest.approx(whole, rel=1e-9)
    whole_tensors, part_tensors = saved(undisturbed), saved(parts)
    opponents = [name for name in whole_tensors if "adversary.model" in name]
    assert opponents
    for name in [*opponents, "model.safetensors/2.weight"]:
        torch.testing.assert_close(part_tensors[name], whole_tensors[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("step", [2, 6])
def test_a_killed_run_goes_on_to_the_same_bits(undisturbed: RunFolder, tmp_path: Path, step: int) -> None:
    folder = new_run(tmp_path / "killed")
    command = [sys.executable, "-m", "tests.training.toy", str(folder.path), str(step)]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    assert subprocess.run(command, cwd=root, env=environment, check=False).returncode == -9
    checkpoint = folder.last_checkpoint()
    assert (checkpoint is None) == (step < 4)
    folder.cut_metrics(4 if checkpoint else 0)
    finished = train_doubling(folder)
    assert (finished.first_step, finished.steps) == (4 if checkpoint else 0, 12)
    assert differing(saved(undisturbed), saved(folder)) == []
    assert lines(folder) == lines(undisturbed)


def in_one_of_two(rank: int, path: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    train_doubling((FollowerFolder if rank else RunFolder)(Path(path)))
    PartialState().destroy_process_group()


def test_two_processes_train_as_one(undisturbed: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from muse_cli.launch import free_port

    folder = new_run(tmp_path / "two")
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    spawn(in_one_of_two, args=(str(folder.path),), nprocs=2)
    assert len(lines(folder)) == len(lines(undisturbed))
    for alone, shared in zip(lines(undisturbed), lines(folder), strict=True):
        assert shared == pytest.approx(alone, rel=1e-9)


# The shape of the engine.


def engine_files() -> list[Path]:
    """The engine; how the tiny pack was made lies beneath it for now, and is none of it."""
    return sorted(ENGINE.glob("*.py"))


@pytest.mark.parametrize("path", engine_files(), ids=lambda path: path.stem)
def test_the_engine_knows_no_stage_no_network_and_no_loss(path: Path) -> None:
    above = {f"muse_core.{part}" for part in ("stages", "model", "losses", "evaluation")}
    modules = {
        node.module or ""
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
    }
    assert {module for module in modules if ".".join(module.split(".")[:2]) in above} == set()


@pytest.mark.parametrize("path", engine_files(), ids=lambda path: path.stem)
def test_no_class_of_the_engine_does_everything(path: Path) -> None:
    """Fields and methods together; a class with more says why in its own words."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ClassDef):
            continue
        methods = [item.name for item in node.body if isinstance(item, ast.FunctionDef) and item.name != "__init__"]
        fields = [
            item.target.id
            for item in node.body
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
        ]
        own = {
            target.attr
            for item in ast.walk(node)
            if isinstance(item, ast.Attribute) and isinstance(item.ctx, ast.Store)
            for target in [item]
            if isinstance(target.value, ast.Name) and target.value.id == "self"
        }
        assert len({*methods, *fields, *own}) <= MOST_MEMBERS, node.name


# docs/architecture.md


DOCS = Path(__file__).parents[2] / "docs" / "architecture.md"
STEP = re.compile(r"^\d+\. `([\w/]+\.py)::([\w.]+)`", re.MULTILINE)
MOST_STEPS = 40


def test_the_page_on_tasks_shows_the_task_that_is_tested() -> None:
    shown = DOCS.read_text(encoding="utf-8").partition("<!-- task: begins -->")[2].partition("<!-- task: ends -->")[0]
    source = (Path(__file__).parent / "toy.py").read_text(encoding="utf-8")
    task = source.partition("# task: begins\n")[2].partition("# task: ends")[0]
    assert shown.strip() == f"```python\n{task.strip()}\n```"


def test_every_line_of_the_walk_through_a_step_names_a_function_that_is_there() -> None:
    walk = DOCS.read_text(encoding="utf-8").partition("## One step of stage 3")[2]
    steps = STEP.findall(walk)
    assert len(steps) == len(re.findall(r"^\d+\. ", walk, re.MULTILINE)) <= MOST_STEPS
    for file, name in steps:
        found: Any = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        for part in name.split("."):
            found = getattr(found, part)
        assert Path(inspect.getsourcefile(inspect.unwrap(found)) or "").as_posix().endswith(file), name
