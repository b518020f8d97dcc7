"""What the parts are trained on, and what they are measured on, never meet."""

import itertools
from collections.abc import Sequence

import pytest
import torch

from muse_core.data.sample import Sample
from muse_core.data.scenes import SPLITS, SceneMaker
from muse_core.data.scenes.compose import Scene
from muse_core.data.scenes.sprites import DESIGNERS
from muse_core.data.source import open_source
from muse_core.training.foundation import stream
from muse_core.training.foundation.stream import SceneStream, fixed_scenes, scene_batches

HELD_OUT = {one.name for one in DESIGNERS if one.held_out}


class Watched(SceneMaker):
    """Remembers every scene it made, and from which seed."""

    made: list[tuple[int, Scene]] = []

    def scene(self, seed: int) -> Scene:
        scene = super().scene(seed)
        self.made.append((seed, scene))
        return scene


def streamed(monkeypatch: pytest.MonkeyPatch, start: int, batches: int) -> Sequence[tuple[int, Scene]]:
    monkeypatch.setattr(Watched, "made", [])
    monkeypatch.setattr(stream, "SceneMaker", Watched)
    list(itertools.islice(SceneStream(16, start, colour_jitter=0.5), batches))
    return Watched.made


def test_no_held_out_designer_is_ever_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {item.designer for _, scene in streamed(monkeypatch, 0, 20) for item in scene.objects}
    assert drawn.isdisjoint(HELD_OUT)
    assert drawn == set(SPLITS["train"].designers)


@pytest.mark.parametrize("start", [0, 10**6 * 64])
def test_streamed_seeds_are_training_seeds_in_order(monkeypatch: pytest.MonkeyPatch, start: int) -> None:
    seeds = [seed for seed, _ in streamed(monkeypatch, start, 2)]
    assert seeds == list(range(start, start + 32))
    assert max(seeds) < SPLITS["train"].capacity <= SPLITS["val"].first_seed


def test_a_resumed_stream_continues_at_the_next_scene() -> None:
    whole = list(itertools.islice(SceneStream(4, 0, 0.5), 3))
    resumed = next(scene_batches(4, 8, 0.5))
    assert torch.equal(whole[2].images, resumed.images)
    assert whole[2].captions == resumed.captions


def test_starting_a_stream_draws_nothing_from_the_training() -> None:
    torch.manual_seed(3)
    next(scene_batches(2, 0, 0.0))
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))


def test_a_part_is_measured_on_the_scenes_that_the_commands_measure_on() -> None:
    batch = next(fixed_scenes("ood", 5, batch_size=5))
    samples = [item for item in open_source("demo:ood:5").once() if isinstance(item, Sample)]
    images = torch.stack([torch.from_numpy(item.image) for item in samples]).permute(0, 3, 1, 2) / 255
    assert torch.equal(batch.images, images)
    assert batch.labels.tolist() == [item.label for item in samples]


def test_fixed_scenes_are_as_many_as_asked_for() -> None:
    assert [len(batch.images) for batch in fixed_scenes("val", 25, batch_size=10)] == [10, 10, 5]
