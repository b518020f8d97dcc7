"""One step taken apart: accumulated parts, images that are decoded, the discriminator's turn."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from muse_core.data.sample import Batch
from muse_core.runs import RunFolder
from muse_core.stages.objective import Decoding, spread
from muse_core.stages.setup import decoded_share
from muse_core.training.loop import train
from tests.training.mini import Begun, Changes, begin, lean, train_lean

ALL_DECODED: Changes = {"training.reconstruct": 8, "training.steps": 1}


def gradients_of_one_step(run: Begun) -> tuple[dict[str, Tensor], set[str]]:
    """The gradients before they are clipped, and the scenes that gave them."""
    seen: set[str] = set()
    for _ in range(run.trainer.settings.accumulation):
        batch = run.next_batch()
        seen |= set(batch.keys)
        run.backward(run.losses(batch))
    found = {name: weight.grad.clone() for name, weight in run.weights.items() if weight.grad is not None}
    return found, seen


def test_two_parts_give_the_gradients_of_the_whole_batch(tmp_path: Path) -> None:
    """Without the contrastive loss, whose negatives are those of one part."""
    whole, scenes = gradients_of_one_step(begin(1, tmp_path / "whole", ALL_DECODED))
    parts, same = gradients_of_one_step(begin(1, tmp_path / "parts", {**ALL_DECODED, "training.accumulation": 2}))
    assert same == scenes
    assert len(scenes) == 8
    assert parts.keys() == whole.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max()))


def test_a8_parts_have_fewer_negatives_and_the_run_says_how_many(tmp_path: Path) -> None:
    negatives = {}
    for parts in (1, 2):
        changes = {"training.accumulation": parts, "training.steps": 1}
        summary = train_lean(2, tmp_path / f"{parts}", changes)
        negatives[parts] = RunFolder(summary.folder).metrics()[0]["negatives"]
    assert negatives[1] <= 7
    assert negatives[2] <= 3 < negatives[1]


@pytest.mark.parametrize(
    ("wanted", "accumulation", "processes", "decoded"),
    [(None, 1, 1, 8), (4, 1, 1, 4), (4, 2, 1, 2), (4, 2, 2, 1), (1, 2, 2, 1), (100, 1, 2, 4)],
)
def test_the_images_decoded_are_counted_over_the_whole_batch(
    wanted: int | None, accumulation: int, processes: int, decoded: int
) -> None:
    settings = lean(1, {"training.reconstruct": wanted, "training.accumulation": accumulation})
    assert settings.training.reconstruct == wanted
    assert decoded_share(settings, 8 // accumulation // processes) == decoded


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8])
def test_processes_decode_what_one_would_and_their_means_make_its_mean(count: int) -> None:
    values, device = torch.rand(8, generator=torch.Generator().manual_seed(0)), torch.device("cpu")
    alone = Decoding(count).of(8, device)
    assert (alone.rows.tolist(), alone.share) == (spread(8, count), 1)
    parts = [Decoding(count, rank, 4).of(2, device) for rank in range(4)]
    counted = [2 * rank + row for rank, part in enumerate(parts) if part.share for row in part.rows.tolist()]
    assert counted == spread(8, count)
    means = [part.share * values[2 * rank + part.rows].mean() for rank, part in enumerate(parts)]
    torch.testing.assert_close(torch.stack(means).mean(), values[alone.rows].mean())


def test_only_so_many_images_are_decoded_and_all_are_attended(tmp_path: Path) -> None:
    run = begin(2, tmp_path / "run", {"training.reconstruct": 3})
    batch = run.next_batch()
    output = run.objective.run(run.trainee, batch)
    assert output.reconstruction.shape == (3, 3, 32, 32)
    assert output.out.latents.shape[0] == output.out.attentions[0].shape[0] == len(output.embeds[0]) == 8
    terms = run.losses(batch)
    expected = (output.reconstruction - batch.images[[0, 2, 5]]).square().mean()
    torch.testing.assert_close(terms["pixel"], expected)
    every = run.network.decode(output.out.latents, (32, 32))
    torch.testing.assert_close(output.reconstruction, every[[0, 2, 5]], rtol=1e-4, atol=1e-5)


def test_images_of_every_lane_are_decoded(tmp_path: Path) -> None:
    """Else whole shards would never be reconstructed: a batch holds its lanes one after the other."""
    run = begin(1, tmp_path / "run", {"training.batch_size": 16, "training.reconstruct": 4})
    batch = run.next_batch()
    lanes = torch.tensor([int(key.split("-")[-1]) % 4 for key in batch.keys])
    assert lanes.tolist() == sorted(lanes.tolist())
    assert {int(lanes[row]) for row in spread(16, 4)} == {0, 1, 2, 3}
    assert all(len(set(spread(16, count))) == count for count in range(1, 17))


def test_a7_the_pixel_loss_sees_what_was_decoded_and_not_what_can_be_shown(tmp_path: Path) -> None:
    run = begin(1, tmp_path / "run")
    with torch.no_grad():
        run.network.connector.to_latent.bias.add_(50.0)
    batch = run.next_batch()
    output = run.objective.run(run.trainee, batch)
    assert output.reconstruction.min() < 0 or output.reconstruction.max() > 1
    output.reconstruction.retain_grad()
    terms, _ = run.objective.terms(output, batch, run.network.connector.logit_scale)
    terms["pixel"].backward()
    assert output.reconstruction.grad is not None
    outside = (output.reconstruction < 0) | (output.reconstruction > 1)
    assert (output.reconstruction.grad[outside] != 0).all()


def test_a5_the_same_images_have_the_same_target_at_every_step(tmp_path: Path) -> None:
    run = begin(1, tmp_path / "run")
    batch, teacher = run.next_batch(), run.objective.judges.teacher
    assert teacher is not None
    before = teacher(batch.images, (4, 4))
    run.trainee.train()
    train(run.trainer)
    assert torch.equal(teacher(batch.images, (4, 4)), before)


def test_topology_is_asked_of_every_block_or_of_the_last(tmp_path: Path) -> None:
    assert begin(1, tmp_path / "every").objective.topology_blocks == (0, 1)
    assert begin(1, tmp_path / "last", {"losses.topology_blocks": "last"}).objective.topology_blocks == (1,)


def test_losses_count_with_their_weights(tmp_path: Path) -> None:
    losses = {"pixel": 1.0, "perceptual": 0.0, "topology": 5.0, "contrastive": 0.2}
    objective = begin(2, tmp_path / "run", {f"losses.{name}": weight for name, weight in losses.items()}).objective
    assert objective.weights == {"pixel": 1.0, "topology": 5.0, "contrastive": 0.2}
    terms = {"pixel": torch.tensor(3.0), "topology": torch.tensor(0.5)}
    assert float(objective.total(terms)) == pytest.approx(3.0 * 1.0 + 0.5 * 5.0)


# The discriminator.


def test_b8_the_discriminator_moves_once_per_step_however_many_parts_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(3, tmp_path / "run", {"training.accumulation": 2, "training.steps": 3})
    assert run.adversary is not None
    optimizer, moves = run.opposition.learner.optimization.optimizer, Counter[str]()
    step = optimizer.step

    def counted() -> None:
        moves["discriminator"] += 1
        step()

    monkeypatch.setattr(optimizer, "step", counted)
    train(run.trainer)
    assert moves["discriminator"] == 3


def test_four_parts_are_the_whole_batch_for_every_loss_and_for_the_discriminator(tmp_path: Path) -> None:
    """Without the contrastive loss, whose negatives are those of one part; in double precision."""
    changes: Changes = {
        "losses.contrastive": 0,
        "training.steps": 2,
        "training.precision": "fp64",
        "training.reconstruct": 8,
        "data.lanes": 2,
    }
    whole, parts = (
        train_lean(3, tmp_path / f"{count}", {**changes, "training.accumulation": count}).folder for count in (1, 4)
    )
    for one, four in zip(RunFolder(whole).metrics(), RunFolder(parts).metrics(), strict=True):
        names = {name for name in one if name.startswith(("loss/", "grad_norm/"))}
        assert {"loss/discriminator", "loss/adversarial", "loss/pixel", "loss/fake"} <= names
        assert {name: four[name] for name in names} == pytest.approx({name: one[name] for name in names}, rel=1e-5)


def test_the_generators_term_leaves_no_gradient_in_the_discriminator(tmp_path: Path) -> None:
    run = begin(3, tmp_path / "run")
    assert run.adversary is not None
    batch = run.next_batch()
    terms = run.losses(batch)
    assert terms["adversarial"].requires_grad
    run.backward(terms)
    assert all(weight.grad is None for weight in run.adversary.module.parameters())
    assert all(weight.requires_grad for weight in run.adversary.module.parameters())
    assert all(weight.grad is not None for weight in run.network.decoder.parameters())


def test_the_discriminators_turn_leaves_no_gradient_in_the_generator(tmp_path: Path) -> None:
    run = begin(3, tmp_path / "run")
    assert run.adversary is not None
    batch = run.next_batch()
    before = {name: value.clone() for name, value in run.adversary.module.state_dict().items()}
    run.oppose(batch)
    assert all(weight.grad is None for weight in run.network.parameters())
    after = run.adversary.module.state_dict()
    assert any(not torch.equal(value, after[name]) for name, value in before.items())
    assert run.adversary.lecam.ema_real != 0


def test_a_discriminator_that_starts_late_stays_as_it_is_until_then(tmp_path: Path) -> None:
    changes = {"losses.adversarial_start": 2, "training.save_every": 1, "training.keep": 9}
    summary = train_lean(3, tmp_path / "run", changes)
    lines = RunFolder(summary.folder).metrics()
    assert ["loss/adversarial" in line for line in lines] == [False, False, True, True]
    assert ["loss/discriminator" in line for line in lines] == [False, False, True, True]


def test_captions_reach_the_contrastive_loss_in_the_order_of_the_images(tmp_path: Path) -> None:
    """A permuted batch has the same loss; images against permuted captions have not."""
    run = begin(2, tmp_path / "run")
    batch = run.next_batch()
    order = [3, 1, 7, 0, 2, 6, 5, 4]
    captions = [batch.captions[i] for i in order]
    permuted = with_images(batch, batch.images[order], captions)
    mixed_up = with_images(batch, batch.images, captions)
    whole, same, other = (run.losses(one)["contrastive"].item() for one in (batch, permuted, mixed_up))
    assert same == pytest.approx(whole, rel=1e-4)
    assert other != pytest.approx(whole, rel=1e-4)


def with_images(batch: Batch, images: Tensor, captions: list[str]) -> Batch:
    from dataclasses import replace

    return replace(batch, images=images, captions=captions)
