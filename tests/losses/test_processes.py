"""Two processes learn what one process with both halves of the batch would."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.functional import normalize

from muse_core.losses.adversarial import LeCam
from muse_core.losses.contrastive import caption_groups, contrastive_loss

CAPTIONS = ["a cat", "a dog", "", "a cat", "a bird", "a fish"]
HALF = len(CAPTIONS) // 2


def towers() -> tuple[nn.Linear, nn.Linear, nn.Parameter]:
    torch.manual_seed(0)
    return nn.Linear(5, 8), nn.Linear(7, 8), nn.Parameter(torch.tensor(2.0))


def samples() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(len(CAPTIONS), 5), torch.randn(len(CAPTIONS), 7)


def learn(part: slice) -> dict[str, Tensor]:
    """The loss on a part of the batch and the gradients it leaves."""
    image_tower, text_tower, log_scale = towers()
    images, texts = (rows[part] for rows in samples())
    found = caption_groups(CAPTIONS[part])
    result = contrastive_loss(
        normalize(image_tower(images), dim=-1),
        normalize(text_tower(texts), dim=-1),
        log_scale,
        positives=found.positives,
        groups=found.groups,
    )
    result.loss.backward()
    named = {"image": image_tower.weight.grad, "text": text_tower.weight.grad, "scale": log_scale.grad}
    gradients = {name: gradient for name, gradient in named.items() if gradient is not None}
    return gradients | {"loss": result.loss.detach(), "negatives": result.negatives}


def lecam_means(part: slice) -> dict[str, Tensor]:
    torch.manual_seed(2)
    real, fake = torch.randn(2, len(CAPTIONS), 1, 4, 4)
    lecam = LeCam(decay=0.5)
    lecam(real[part], fake[part])
    return dict(lecam.state_dict())


def in_one_of_two_processes(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    part = slice(rank * HALF, (rank + 1) * HALF)
    learnt = learn(part)
    for name in ("image", "text", "scale"):
        dist.all_reduce(learnt[name])
        learnt[name] /= 2  # as data-parallel training averages
    torch.save(learnt | lecam_means(part), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    folder: Path = tmp_path_factory.mktemp("processes")
    spawn(in_one_of_two_processes, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_a8_gathered_negatives_give_the_gradient_of_one_process(two_processes: list[dict[str, Tensor]]) -> None:
    alone = learn(slice(None))
    for learnt in two_processes:
        for name in ("image", "text", "scale"):
            torch.testing.assert_close(learnt[name], alone[name])


def test_a8_each_process_reports_the_loss_of_the_whole_batch(two_processes: list[dict[str, Tensor]]) -> None:
    alone = learn(slice(None))
    for learnt in two_processes:
        torch.testing.assert_close(learnt["loss"], alone["loss"])
        assert learnt["negatives"] == alone["negatives"] == 3  # of 5 captions; one blank, two equal


def test_b9_lecam_means_are_those_of_all_processes(two_processes: list[dict[str, Tensor]]) -> None:
    alone = lecam_means(slice(None))
    for learnt in two_processes:
        torch.testing.assert_close(learnt["ema_real"], alone["ema_real"])
        torch.testing.assert_close(learnt["ema_fake"], alone["ema_fake"])
