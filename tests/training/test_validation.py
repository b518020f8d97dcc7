"""What is measured while training: held-out images, each once, with the averaged weights."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from PIL import Image

from muse_core.data.loader import eval_batches
from muse_core.data.sample import Batch
from muse_core.data.source import open_source
from muse_core.model.checkpoint import load_network
from muse_core.model.network import MuseNetwork
from muse_core.runs import RunFolder
from muse_core.stages.start import RunSummary
from muse_core.stages.validation import Validation, without_masks
from muse_core.training.loop import draw, evaluate
from tests.training.mini import begin, last_weights


def held_out(count: int, batch_size: int) -> list[Batch]:
    source = open_source("demo:val", split="val", size=32)
    return list(eval_batches(source, batch_size=batch_size, size=32, limit=count))


@pytest.fixture
def network_of(three_stages: Mapping[int, RunSummary]) -> Mapping[bool, MuseNetwork]:
    """The network of the finished stage 3, with its averaged weights and with its current ones."""
    checkpoint = RunFolder(three_stages[3].folder).last_checkpoint()
    assert checkpoint is not None
    return {average: load_network(checkpoint, average=average)[0] for average in (True, False)}


def test_b4_validation_measures_the_averaged_weights(
    three_stages: Mapping[int, RunSummary], network_of: Mapping[bool, MuseNetwork], tmp_path: Path
) -> None:
    objective = begin(3, tmp_path / "run").objective
    validation = Validation(held_out(6, 32))
    recorded = {key: value for key, value in three_stages[3].validation.items() if key.startswith("val/")}
    for average, network in network_of.items():
        scores = {f"val/{name}": score for name, score in validation.measure(network, objective).items()}
        assert (scores == pytest.approx(recorded, rel=1e-5)) == average


def test_b4_every_held_out_image_counts_once_however_it_is_batched(
    network_of: Mapping[bool, MuseNetwork], tmp_path: Path
) -> None:
    objective = begin(3, tmp_path / "run").objective
    together = Validation(held_out(7, 7)).measure(network_of[True], objective)
    apart = Validation(held_out(7, 3)).measure(network_of[True], objective)  # 3 + 3 + 1
    assert apart == pytest.approx(together, rel=1e-4)


def test_c15_agreement_with_the_teacher_is_measured_on_held_out_images(three_stages: Mapping[int, RunSummary]) -> None:
    for summary in three_stages.values():
        measured = [line for line in RunFolder(summary.folder).metrics() if "val/topology" in line]
        assert [line["step"] for line in measured] == [2, 4]
        assert all(line["val/topology"] > 0 for line in measured)


def test_measuring_leaves_weights_gradients_and_chance_alone(tmp_path: Path) -> None:
    run = begin(2, tmp_path / "run", {"data.val": "demo:val"})
    run.average.shadow["connector.to_latent.weight"].add_(1.0)
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    chance = torch.get_rng_state()
    evaluate(run.trainer, 1)
    draw(run.trainer, 1)
    assert all(torch.equal(value, before[name]) for name, value in run.network.state_dict().items())
    assert all(weight.grad is None for weight in run.network.parameters())
    assert torch.equal(torch.get_rng_state(), chance)


def test_samples_are_pictures(three_stages: Mapping[int, RunSummary]) -> None:
    for summary in three_stages.values():
        with Image.open(RunFolder(summary.folder).sample_path(4)) as strip:
            assert strip.size[0] > strip.size[1] > 100


def test_without_held_out_data_nothing_is_measured_and_nothing_drawn(tmp_path: Path) -> None:
    run = begin(1, tmp_path / "run")
    assert run.task.validation is None
    evaluate(run.trainer, 1)
    draw(run.trainer, 1)
    assert run.folder.metrics() == []
    assert not run.folder.sample_path(1).exists()


def test_held_out_images_are_kept_without_their_masks() -> None:
    (batch,) = held_out(2, 2)
    assert batch.masks is not None
    assert without_masks(batch).masks is None
    assert torch.equal(without_masks(batch).images, batch.images)


def test_held_out_scenes_are_not_those_trained_on(tmp_path: Path) -> None:
    run = begin(1, tmp_path / "run", {"data.val": "demo:val"})
    assert run.task.validation is not None
    held = {key for batch in run.task.validation.batches for key in batch.keys}
    assert len(held) == 6
    assert not held & set(run.next_batch().keys)


def test_drawing_needs_no_teacher(three_stages: Mapping[int, RunSummary], tmp_path: Path) -> None:
    run = begin(1, tmp_path / "run", {"data.val": "demo:val", "losses.topology": 0})
    draw(run.trainer, 3)
    assert run.folder.sample_path(3).is_file()
    assert last_weights(three_stages[1])
