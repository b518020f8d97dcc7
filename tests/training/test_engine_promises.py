"""What the engine promises to whoever writes a task, and what it says when a task does not keep to its side."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from muse_core.errors import MuseError
from muse_core.runs import RunFolder
from muse_core.training.state import optimizer_state, random_states, restore_optimizer, restore_random
from muse_core.training.task import ParameterGroup, Partition, StepLosses, TensorBatch
from tests.training.test_engine import differing, lines, saved
from tests.training.toy import Doubling, new_run, train_doubling


class StoppedError(Exception):
    pass


def stopping_at(step: int) -> Any:
    """Spoils a task so that it fails at a step."""

    def change(task: Doubling) -> None:
        losses = task.losses

        def stops(module: nn.Module, batch: TensorBatch, at: int) -> StepLosses:
            if at == step:
                raise StoppedError
            return losses(module, batch, at)

        task.losses = stops  # type: ignore[method-assign, assignment]

    return change


@pytest.fixture
def stopped(tmp_path: Path) -> RunFolder:
    """A run that failed at step 6, with checkpoints of step 4."""
    folder = new_run(tmp_path / "stopped")
    with pytest.raises(StoppedError):
        train_doubling(folder, change=stopping_at(6))
    return folder


@pytest.mark.parametrize("decays", [(), (0.9,), (0.9, 0.5)])
def test_a_run_goes_on_with_as_many_averages_as_it_has(tmp_path: Path, decays: tuple[float, ...]) -> None:
    whole, parts = new_run(tmp_path / "whole"), new_run(tmp_path / "parts")
    train_doubling(whole, decays=decays)
    with pytest.raises(StoppedError):
        train_doubling(parts, decays=decays, change=stopping_at(6))
    train_doubling(parts, decays=decays)
    assert differing(saved(whole), saved(parts)) == []


@pytest.mark.parametrize("decays", [(), (0.9,), (0.5, 0.9), (0.95, 0.5)])
def test_other_averages_than_a_run_has_are_refused(stopped: RunFolder, decays: tuple[float, ...]) -> None:
    with pytest.raises(MuseError, match="holds averages of decays"):
        train_doubling(stopped, decays=decays)


def test_going_on_tells_each_step_once_and_forgets_why_it_failed(stopped: RunFolder, tmp_path: Path) -> None:
    """Whoever calls the engine again has nothing to tidy."""
    (stopped.path / "checkpoints" / ".step-0000004.1.tmp").mkdir()
    whole = new_run(tmp_path / "whole")
    train_doubling(whole)
    assert stopped.status.state == "failed"
    train_doubling(stopped)
    assert lines(stopped) == lines(whole)
    assert (stopped.status.state, stopped.status.error) == ("finished", None)
    assert list((stopped.path / "checkpoints").glob(".*")) == []


@pytest.mark.parametrize("file", ["model", "average", "training"])
def test_no_bit_of_a_checkpoint_may_be_another(stopped: RunFolder, file: str) -> None:
    last = stopped.last_checkpoint()
    assert last is not None
    path = last / f"{file}.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(MuseError, match="its checksum differs"):
        train_doubling(stopped)


@pytest.mark.parametrize("damage", ["gone", "cut", "cursor"])
def test_a_damaged_state_is_told_with_a_way_on(stopped: RunFolder, damage: str) -> None:
    last = stopped.last_checkpoint()
    assert last is not None
    path = last / "state.json"
    document = json.loads(path.read_text())
    path.unlink()
    if damage == "cut":
        path.write_text("{")
    if damage == "cursor":
        del document["training"]["cursor"]
        path.write_text(json.dumps(document))
    with pytest.raises(MuseError) as caught:
        train_doubling(stopped)
    assert "state.json" in caught.value.what
    assert caught.value.hint


def test_an_opponent_whose_gradient_is_not_finite_ends_the_run_before_it_is_saved(tmp_path: Path) -> None:
    def change(task: Doubling) -> None:
        losses = task.opponent.losses

        def steep(module: nn.Module, parts: Any) -> tuple[Tensor, dict[str, Tensor]]:
            loss, terms = losses(module, parts)
            return loss + (0 * next(module.parameters()).sum()).abs().sqrt(), terms

        task.opponent.losses = steep  # type: ignore[method-assign]

    folder = new_run(tmp_path / "run")
    with pytest.raises(MuseError, match="step 2: the rival is not finite"):
        train_doubling(folder, change=change)
    assert folder.checkpoints() == []


def test_random_numbers_of_every_process_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"random.cpu": torch.Generator().manual_seed(5).get_state()}
    monkeypatch.setattr("muse_core.training.state.gather_objects", lambda own: [own, other])
    torch.manual_seed(1)
    states = random_states()
    first = torch.rand(3)
    restore_random(states)
    assert torch.equal(torch.rand(3), first)
    monkeypatch.setattr("muse_core.training.state.rank", lambda: 1)
    restore_random(states)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(5)))


def test_the_count_of_steps_of_a_scalar_weight_stays_a_count() -> None:
    """In float64 it has the shape of the weight, and is none of its moments."""
    weight = nn.Parameter(torch.ones((), dtype=torch.float64))
    optimizers = [torch.optim.AdamW([weight], fused=True) for _ in range(2)]
    weight.square().backward()
    optimizers[0].step()
    restore_optimizer(optimizers[1], "o", *optimizer_state(optimizers[0], "o"))
    before, after = (optimizer.state[weight] for optimizer in optimizers)
    assert {name: value.dtype for name, value in after.items()} == {name: value.dtype for name, value in before.items()}


WEIGHTS = ("0.weight", "0.bias", "2.weight", "2.bias")
FEW, MISTYPED = WEIGHTS[:3], ("0.wieght", *WEIGHTS)


def parted(grouped: Sequence[str], clipped: Sequence[str], frozen: Sequence[str] = (), times: int = 1) -> Partition:
    return Partition(
        [ParameterGroup(grouped, 0.1)] * times, dict.fromkeys(clipped, "all"), dict.fromkeys(frozen, "why")
    )


@pytest.mark.parametrize(
    ("partition", "problem"),
    [
        (parted(FEW, FEW), "neither trained nor frozen: 2.bias"),
        (parted(WEIGHTS, WEIGHTS, ["2.bias"]), "trained and frozen: 2.bias"),
        (parted(WEIGHTS, FEW), "no clip group, or the reverse: 2.bias"),
        (parted(MISTYPED, MISTYPED), "of no module: 0.wieght"),
        (parted(WEIGHTS, WEIGHTS, times=2), "in several groups: 0.weight"),
    ],
)
def test_a_partition_says_of_every_weight_once_what_becomes_of_it(
    tmp_path: Path, partition: Partition, problem: str
) -> None:
    def change(task: Doubling) -> None:
        task.partition = partition

    with pytest.raises(MuseError, match=problem):
        train_doubling(new_run(tmp_path / "run"), change=change)


def test_slips_of_a_task_are_told_in_a_sentence(tmp_path: Path) -> None:
    def without_weights(task: Doubling) -> None:
        task.loss_weights = {"eror": 1.0}

    def ending(task: Doubling) -> None:
        batches = task.batches

        def few(cursor: Any) -> Any:
            yield from (batch for _, batch in zip(range(3), batches(cursor), strict=False))

        task.batches = few  # type: ignore[method-assign]

    slips = {"losses error, adversarial; weights eror": without_weights, "have to go on without end": ending}
    for number, (message, change) in enumerate(slips.items()):
        with pytest.raises(MuseError, match=message):
            train_doubling(new_run(tmp_path / f"{number}"), change=change)
