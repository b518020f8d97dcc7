"""The self-supervised attempt: views that know where they lie, answers that stay even, and no mask or caption."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from muse_core.training.foundation import crops
from muse_core.training.foundation.crops import Views, blob_masks, random_views, seen_from
from muse_core.training.foundation.self_teacher import SelfTeacher, even_answers
from muse_core.training.foundation.stream import fixed_scenes


@pytest.fixture
def untinted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "random_colours", lambda images: images)


def coordinates(count: int, side: int = 64) -> Tensor:
    """Pictures whose red is x and whose green is y of each pixel, (B, 3, S, S)."""
    line = (torch.arange(side) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack((x, y, torch.zeros_like(x))).expand(count, -1, -1, -1)


@pytest.mark.usefixtures("untinted")
@pytest.mark.parametrize(("side", "patches"), [(64, 8), (32, 4)])
def test_a_view_knows_where_its_patches_lie(side: int, patches: int) -> None:
    views = random_views(coordinates(40), side, (0.2, 0.9))
    middles = torch.nn.functional.avg_pool2d(views.images, side // patches)[:, :2].flatten(2).mT  # B n 2
    assert torch.allclose(middles, views.centres(patches), atol=0.02)
    assert views.half[:, 0].lt(0).any()
    assert views.half[:, 0].gt(0).any()


@pytest.mark.usefixtures("untinted")
def test_views_stay_inside_their_scene_and_keep_to_their_area() -> None:
    views = random_views(coordinates(300), 64, (0.2, 0.5))
    assert (views.middle.abs() + views.half.abs() <= 1 + 1e-6).all()
    areas = views.half.abs().prod(-1)
    assert areas.min() >= 0.2 * 0.99
    assert areas.max() <= 0.5 * 1.01


@pytest.mark.usefixtures("untinted")
def test_answers_are_read_at_the_same_place() -> None:
    scenes = coordinates(30)
    mine, other = (random_views(scenes, 64, (0.4, 1.0)) for _ in range(2))
    answers = other.centres(8)  # every patch answers with its own place
    read, inside = seen_from(answers, mine, other, 8)
    assert 0.2 < inside.float().mean() < 1
    within = (((mine.centres(8) - other.middle[:, None]) / other.half[:, None]).abs() < 1 - 1 / 8).all(-1)
    assert torch.allclose(read[within], mine.centres(8)[within], atol=1e-4)


def test_colours_stay_colours_and_places_stay() -> None:
    images = next(fixed_scenes("train", 8, batch_size=8)).images
    tinted = crops.random_colours(images)
    assert tinted.shape == images.shape
    assert 0 <= tinted.min() <= tinted.max() <= 1
    assert not torch.allclose(tinted, images, atol=0.05)


def test_half_of_the_views_hide_nothing_and_none_hides_more_than_asked() -> None:
    hidden = blob_masks(400, 8, 0.5)
    share = hidden.float().mean(1)
    assert 0.4 < (share == 0).float().mean() < 0.6
    assert share[share > 0].min() >= 0.08
    assert share.max() <= 0.5


def test_answers_are_sharp_sum_to_one_and_use_every_prototype() -> None:
    answers = even_answers(torch.randn(512, 16).tanh(), 0.06)
    assert torch.allclose(answers.sum(1), torch.ones(512), atol=1e-5)
    assert torch.allclose(answers.sum(0), torch.full((16,), 32.0), rtol=0.2)
    assert answers.max(1).values.mean() > 0.5


def test_identical_answers_stay_even() -> None:
    """What a collapsed network would say is told to use all prototypes."""
    answers = even_answers(torch.zeros(64, 8), 0.06)
    assert torch.allclose(answers, torch.full((64, 8), 1 / 8))


def test_neither_masks_nor_captions_nor_classes_are_looked_at() -> None:
    batch = next(fixed_scenes("train", 4, batch_size=4))
    blind = replace(
        batch, masks=torch.zeros_like(batch.masks), captions=[""] * 4, classes=torch.full_like(batch.classes, -1)
    )
    torch.manual_seed(0)
    model = SelfTeacher()
    found = []
    for one in (batch, blind):
        torch.manual_seed(1)
        found.append({name: value.item() for name, value in model(one, 0.0).items()})
    assert found[0] == found[1]
    assert all(math.isfinite(value) for value in found[0].values())


def test_the_average_follows_and_is_never_trained() -> None:
    model = SelfTeacher()
    assert not any(weight.requires_grad for weight in model.average.parameters())
    with torch.no_grad():
        for weight in model.student.parameters():
            weight.add_(1.0)
    before = model.average.vision.embeddings.cls_token.clone()
    model.follow(0.0)
    assert torch.allclose(model.average.vision.embeddings.cls_token - before, torch.tensor(0.01), atol=1e-5)
    settled = model.average.vision.embeddings.cls_token.clone()
    model.follow(1.0)
    assert torch.equal(model.average.vision.embeddings.cls_token, settled)


def test_views_of_one_place_share_it() -> None:
    same = Views(torch.zeros(1, 3, 64, 64), torch.zeros(1, 2), torch.ones(1, 2))
    answers = torch.rand(1, 64, 5)
    read, inside = seen_from(answers, same, same, 8)
    assert inside.all()
    assert torch.allclose(read, answers, atol=1e-6)
