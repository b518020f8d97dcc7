"""One process and two with the same global batch are the same training, to the last digits of float64.

Every loss counts, the discriminator plays from the first step, and three of four images are decoded, which two
processes cannot share out evenly: two there, one here.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import PartialState
from torch.multiprocessing.spawn import spawn
from torch.overrides import TorchFunctionMode

from muse_core.runs import FollowerFolder, RunFolder
from muse_core.training.loop import train
from tests.training.mini import CLOCK, Changes, lean, trainer_of

STEPS = 20
TOLERANCE = 1e-9
EXACT: Changes = {
    "training.steps": STEPS,
    "training.precision": "fp64",
    "training.batch_size": 4,
    "training.reconstruct": 3,
    "losses.topology": 1.0,
    "losses.pixel": 1.0,
    "losses.perceptual": 0.3,
    "losses.adversarial": 0.1,
    "losses.lecam": 0.1,
    "optim.clip": 0.5,
    "optim.warmup_steps": 2,
}
WITH_CAPTIONS: Changes = {"losses.contrastive": 0.2}


class NeverNarrower(TorchFunctionMode):
    """Leaves float64 as it is where the decoder's library rounds norms and attention to float32.

    Rounded there, numbers that agree to 16 digits come out 1e-7 apart as soon as they lie on two sides of an edge.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        narrowed = func is torch.Tensor.to and torch.float32 in (*args[1:], *options.values())
        return args[0] if narrowed and args[0].dtype == torch.float64 else func(*args, **options)


def train_stages(folder: Path, rank: int = 0) -> None:
    for stage in (1, 2, 3):
        settings = lean(stage, {**EXACT, **(WITH_CAPTIONS if stage > 1 else {})})
        path = folder / f"stage{stage}"
        here: RunFolder = FollowerFolder(path)
        if rank == 0:
            here = RunFolder.create(path, settings.model_dump(mode="json"), {}, stage=stage, size="tiny")
        with NeverNarrower():
            train(trainer_of(settings, here))


def in_one_of_two_processes(rank: int, folder: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    train_stages(Path(folder), rank)
    PartialState().destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of one process and of two."""
    from muse_cli.launch import free_port

    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    train_stages(one)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASTER_PORT", str(free_port()))
        spawn(in_one_of_two_processes, args=(str(two),), nprocs=2)
    return one, two


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_two_processes_have_the_losses_of_one(both: tuple[Path, Path], stage: int) -> None:
    one, two = (RunFolder(folder / f"stage{stage}").metrics() for folder in both)
    assert len(one) == len(two) == STEPS
    contrastive = {"loss/contrastive"} if stage > 1 else set()
    expected = {"loss/pixel", "loss/perceptual", "loss/topology", "loss/adversarial", "loss/discriminator"}
    assert expected | contrastive <= one[-1].keys() == two[-1].keys()
    for alone, shared in zip(one, two, strict=True):
        for name in alone.keys() - CLOCK:
            assert shared[name] == pytest.approx(alone[name], rel=TOLERANCE, abs=0), f"{name} at step {alone['step']}"
