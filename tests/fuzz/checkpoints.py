"""Damaged checkpoints and torch files: through inspect, infer and the loading of every command."""

import io
import json
import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from PIL import Image

from muse_core.errors import ExitCode
from muse_core.model.build import ConnectorSpec, build_network
from muse_core.model.checkpoint import CheckpointState, save_network
from muse_core.runs import RunFolder
from tests.fuzz.judge import Ended, muse
from tests.fuzz.kinds import Bug, Cases
from tests.fuzz.mutate import damaged, wrong


@cache
def base(folder: Path) -> Path:
    """A finished run of a narrow network, as far as files go, with a picture beside it."""
    spec = ConnectorSpec("muse", width=16, heads=2, blocks=1, latent_channels=4, inject=True, resolution=32)
    run = RunFolder.create(folder / "run", {"run": {"stage": 1}}, {}, stage=1, size="tiny", steps=2)
    network = build_network("tiny", spec)
    state = CheckpointState("tiny", stage=1, step=2, spec=spec, encoder_trained=False, frozen={})
    for step in (1, 2):
        with run.checkpoint(step) as inside:
            average = {"connector.logit_scale": torch.zeros(())}
            average = {name: value for name, value in network.state_dict().items() if name in average}
            save_network(inside, network, average, state)
        run.append_metrics({"step": step, "loss/pixel": 0.5, "lr": 0.1})
    run.finish(2)
    Image.new("RGB", (16, 16), (200, 30, 60)).save(folder / "picture.png")
    return run.path


def _loaded(where: Path, picture: Path) -> Ended:
    out = str(picture.parent / "out")
    return muse("infer", str(picture), "--checkpoint", str(where), "--size-px", "16", "--out", out, "--json")


def checkpoints(folder: Path, cases: list[int], of: Cases) -> Iterator[Bug]:
    """A checkpoint with a damaged file: weights that are not those written are refused, and inspect names them."""
    run = base(folder.parent / "base-checkpoint")
    picture = run.parent / "picture.png"
    for case in cases:
        checkpoint = folder / f"{case}"
        shutil.copytree(run / "checkpoints" / "step-0000002", checkpoint)
        weights = _spoil(checkpoint, case, of)
        looked, loaded = muse("inspect", str(checkpoint), "--json"), _loaded(checkpoint, picture)
        for ended in (looked, loaded):
            if ended.bug:
                yield of.bug(case, ended)
        if weights and not loaded.bug and loaded.code != ExitCode.FILE:
            yield of.bug(case, loaded, "loads weights that are not those written")
        if weights and not looked.bug and looked.code not in (ExitCode.PROBLEMS, ExitCode.FILE):
            yield of.bug(case, looked, "is content with weights that are not those written")
        shutil.rmtree(checkpoint)


def _spoil(checkpoint: Path, case: int, of: Cases) -> bool:
    """Damage one file; returns whether it holds weights."""
    rng, state = of.rng(case), checkpoint / "state.json"
    kind = case % 4
    if kind == 0:
        state.write_text(json.dumps(wrong(json.loads(state.read_text()), rng)))
    elif kind == 1:
        state.write_bytes(damaged(state.read_bytes(), rng))
    else:
        path = checkpoint / "model.safetensors"
        content = path.read_bytes()
        # Half of the damage goes to the head, of which a file has little.
        head = 8 + int.from_bytes(content[:8], "little") if kind == 2 else 0
        path.write_bytes(damaged(content[:head], rng) + content[head:] if head else damaged(content, rng))
    return kind > 1


def torch_files(folder: Path, cases: list[int], of: Cases) -> Iterator[Bug]:
    """Damaged files as the public code writes them: refused, and nothing in them is run."""
    folder.mkdir(parents=True)
    run = base(folder.parent / "base-checkpoint")
    picture = run.parent / "picture.png"
    for case in cases:
        stream = io.BytesIO()
        torch.save({"state_dict": {"a.weight": torch.ones(3, 2), "b": torch.zeros(4)}}, stream)
        legacy = io.BytesIO()
        torch.save({"a.weight": torch.ones(2)}, legacy, _use_new_zipfile_serialization=False)
        path = folder / f"{case}.{('pt', 'bin', 'pth')[case % 3]}"
        path.write_bytes(damaged((legacy if case % 2 else stream).getvalue(), of.rng(case)))
        for ended in (_loaded(path, picture), muse("inspect", str(path), "--json")):
            if ended.bug:
                yield of.bug(case, ended)
            elif ended.code == ExitCode.DONE:
                yield of.bug(case, ended, "is content with a damaged file")
        path.unlink()


FILES = ("status.json", "config.yaml", "metrics.jsonl", "checkpoints/last", "origins.json")


def runs(folder: Path, cases: list[int], of: Cases) -> Iterator[Bug]:
    """A run folder with a damaged file: every command that looks for runs still works, or says what is wrong."""
    run = base(folder.parent / "base-checkpoint")
    for case in cases:
        place = folder / f"{case}"
        shutil.copytree(run, place / "runs" / "one")
        name, rng = FILES[case % len(FILES)], of.rng(case)
        path = place / "runs" / "one" / name
        if name.endswith("on") and case % 2:
            path.write_text(json.dumps(wrong(json.loads(path.read_text()), rng)))
        else:
            path.write_bytes(damaged(path.read_bytes(), rng))
        one = str(place / "runs" / "one")
        for command in (["inspect", one], ["inspect", "latest"], ["ls", "runs"], ["train", "--resume", one]):
            ended = _with_runs(place / "runs", *command, "--json")
            if ended.bug:
                yield of.bug(case, ended)
        shutil.rmtree(place)


def _with_runs(folder: Path, *command: str) -> Ended:
    before = os.environ.get("MUSE_RUNS")
    os.environ["MUSE_RUNS"] = str(folder)
    try:
        return muse(*command)
    finally:
        if before is None:
            del os.environ["MUSE_RUNS"]
        else:
            os.environ["MUSE_RUNS"] = before
