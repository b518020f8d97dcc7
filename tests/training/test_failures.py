"""A loss or a gradient that is not finite ends the run before it spoils anything."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from muse_core.errors import ExitCode, MuseError
from muse_core.model.checkpoint import load_network
from muse_core.runs import RunFolder
from muse_core.stages import objective
from muse_core.stages.adversary import Adversary, Judged
from muse_core.stages.start import resume
from muse_core.training import loop
from muse_core.training.checkpointing import save
from muse_core.training.loop import train
from muse_core.training.trainer import Trainer
from muse_core.training.watch import Watch
from tests.training.mini import Begun, begin, equal, train_lean

BAD_STEP = 2


class InfiniteGradient(torch.autograd.Function):
    """The identity, whose gradient is not finite."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * math.inf


def broken_pixels(spoil: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """The pixel loss, spoilt from the third call on."""
    calls = iter(range(100))

    def loss(prediction: Tensor, target: Tensor, kind: str) -> Tensor:
        value = (prediction - target).square().mean()
        return value if next(calls) < BAD_STEP else spoil(value)

    return loss


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def whole_state(run: Begun) -> dict[str, Tensor]:
    """All that a step may change."""
    optimizer = {
        f"optimizer.{index}.{name}": value.clone()
        for index, entry in run.optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }
    average = {f"average.{name}": value.clone() for name, value in run.average.shadow.items()}
    assert run.adversary is not None
    return {**copied(run.network), **optimizer, **average, **copied(run.adversary.module)}


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda value: value * math.nan, "the loss is not finite (pixel)"),
        (lambda value: value * math.inf, "the loss is not finite (pixel)"),
        (InfiniteGradient.apply, "the gradient is not finite (shared, pixels)"),
    ],
)
def test_a_step_that_is_not_finite_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spoil: Callable[[Tensor], Tensor], what: str
) -> None:
    monkeypatch.setattr(objective, "pixel_loss", broken_pixels(spoil))
    run = begin(3, tmp_path / "run", {"training.save_every": 1, "training.keep": 9})
    states: list[dict[str, Tensor]] = []
    remember_after(monkeypatch, states)
    with pytest.raises(MuseError) as caught:
        train(run.trainer)
    assert caught.value.exit_code == ExitCode.STOPPED
    assert caught.value.what == f"step {BAD_STEP}: {what}; no weight was changed by this step"
    assert f"muse train --resume {tmp_path / 'run'}" in str(caught.value.hint)
    assert len(states) == BAD_STEP
    assert equal(whole_state(run), states[-1])
    assert run.average.updates == BAD_STEP
    assert [checkpoint.name for checkpoint in run.folder.checkpoints()] == ["step-0000001", "step-0000002"]


def remember_after(monkeypatch: pytest.MonkeyPatch, states: list[dict[str, Tensor]]) -> None:
    def remembered(trainer: Trainer, done: int) -> None:
        states.append(whole_state(Begun(trainer)))
        save(trainer, done)

    monkeypatch.setattr(loop, "save", remembered)


def test_the_run_is_failed_with_code_7_and_goes_on_once_the_cause_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(objective, "pixel_loss", broken_pixels(lambda value: value * math.nan))
        with pytest.raises(MuseError):
            train_lean(3, tmp_path / "run", {"training.save_every": 1})
    run = RunFolder(tmp_path / "run")
    status = run.status
    assert (status.state, status.exit_code, status.step) == ("failed", ExitCode.STOPPED, BAD_STEP)
    assert "not finite (pixel)" in str(status.error)
    last = run.last_checkpoint()
    assert last is not None
    network, _ = load_network(last)
    assert all(torch.isfinite(weight).all() for weight in network.state_dict().values())
    assert resume(run).steps == 4


def test_every_loss_that_is_not_finite_is_named() -> None:
    terms = {"pixel": torch.tensor(1.0), "topology": torch.tensor(math.nan), "contrastive": torch.tensor(-math.inf)}
    watch = Watch("runs/x", torch.device("cpu"), at_once=True)
    watch.see({"pixel": torch.tensor(1e30)}, 6, "loss")
    with pytest.raises(MuseError, match=r"step 7: the loss is not finite \(topology, contrastive\)"):
        watch.see(terms, 7, "loss")


@pytest.mark.parametrize("spoil", [lambda value: value * math.nan, InfiniteGradient.apply])
def test_where_a_look_has_to_be_waited_for_weights_stay_as_they_were_until_there_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spoil: Callable[[Tensor], Tensor]
) -> None:
    """As on a GPU: the numbers are looked at when a line is logged, two steps later; the optimizer stood still."""
    run = begin(1, tmp_path / "run", {"training.steps": 8, "training.log_every": BAD_STEP + 3})
    run.trainer.guard.at_once = False
    run.optimizer.found_inf = run.trainer.guard.spoilt = torch.zeros(())  # type: ignore[attr-defined]
    monkeypatch.setattr(objective, "pixel_loss", broken_pixels(spoil))
    weights: list[dict[str, Tensor]] = []
    update = Trainer.update

    def remembered(self: Trainer, step: int) -> dict[str, Tensor]:
        norms = update(self, step)
        weights.append({name: weight.detach().clone() for name, weight in Begun(self).weights.items()})
        return norms

    monkeypatch.setattr(Trainer, "update", remembered)
    with pytest.raises(MuseError, match=f"step {BAD_STEP}: .*; no weight was changed by this step") as caught:
        train(run.trainer)
    assert caught.value.exit_code == ExitCode.STOPPED
    assert len(weights) == BAD_STEP + 3
    assert not equal(weights[0], weights[1])
    assert all(equal(later, weights[BAD_STEP - 1]) for later in weights[BAD_STEP:])
    assert run.folder.checkpoints() == []


def test_a_discriminator_that_is_not_finite_is_not_saved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    losses = Adversary.losses

    def broken(self: Adversary, module: nn.Module, parts: Sequence[Judged]) -> tuple[Tensor, dict[str, Tensor]]:
        loss, terms = losses(self, module, parts)
        return loss, {**terms, "discriminator": torch.tensor(math.nan)}

    monkeypatch.setattr(Adversary, "losses", broken)
    with pytest.raises(MuseError, match="the discriminator is not finite") as caught:
        train_lean(3, tmp_path / "run", {"training.save_every": 1})
    assert caught.value.exit_code == ExitCode.STOPPED
    assert RunFolder(tmp_path / "run").checkpoints() == []
