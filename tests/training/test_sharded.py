"""Weights of which each process holds a part (FSDP2): checkpoints hold them whole.

The engine does not shard yet; here the one place that wraps modules does, on two processes over gloo.
"""

import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import PartialState
from torch import nn
from torch.multiprocessing.spawn import spawn

from muse_core.progress import Silent
from muse_core.runs import FollowerFolder, RunFolder
from muse_core.tensor_files import is_in_parts, read_tensors, whole
from muse_core.training import session
from muse_core.training.checkpointing import save
from muse_core.training.schedule import Schedule
from muse_core.training.session import build_trainer, new_accelerator
from muse_core.training.task import Compute
from muse_core.training.trainer import TrainerSettings
from tests.training.toy import Doubling, new_run


def sharded(module: nn.Module, _: Accelerator) -> nn.Module:
    """A module whose weights lie in parts in two processes."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    fully_shard(module, mesh=init_device_mesh("cpu", (2,)))
    return module


def saved_by_two(rank: int, path: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    mock.patch.object(session, "wrapped", sharded).start()
    folder = (FollowerFolder if rank else RunFolder)(Path(path))
    settings = TrainerSettings(Schedule(4), cpu=True, seed=-rank)  # one seed for both

    def build(compute: Compute, checkpoint: Path | None) -> Doubling:
        return Doubling(compute, checkpoint)

    trainer = build_trainer(build, settings, folder, Silent(), new_accelerator(settings))
    assert is_in_parts(trainer.learner.optimization.weights.values())
    weight: Any = trainer.learner.optimization.weights["0.weight"]
    torch.save({"own": weight.to_local().numel(), "all": whole(weight)}, f"{path}-{rank}.pt")
    save(trainer, 0)
    PartialState().destroy_process_group()


@pytest.mark.slow
def test_a_checkpoint_of_weights_in_parts_holds_them_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from muse_cli.launch import free_port

    folder = new_run(tmp_path / "run")
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    spawn(saved_by_two, args=(str(folder.path),), nprocs=2)
    parts = [torch.load(f"{folder.path}-{rank}.pt") for rank in (0, 1)]
    checkpoint = folder.last_checkpoint()
    assert checkpoint is not None
    plain = Doubling(Compute(torch.device("cpu")), None).module
    shapes = {name: weight.shape for name, weight in plain.named_parameters()}
    for file in ("model", "average"):
        tensors = read_tensors(checkpoint / f"{file}.safetensors")
        assert {name: value.shape for name, value in tensors.items()} == shapes
        assert torch.equal(tensors["0.weight"], parts[0]["all"])
    assert sum(part["own"] for part in parts) == parts[0]["all"].numel()
