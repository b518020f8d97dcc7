"""Distances as networks see them: frozen judges, and names that mean one thing."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import vgg16

from muse_core.errors import ExitCode, MuseError
from muse_core.losses.perceptual import (
    LPIPS,
    CombinedPerceptual,
    ConvNextLogits,
    FeatureDistance,
    Perceptual,
    parse_perceptual,
)


def images(seed: int, side: int = 32) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(seed))


def thin_vgg() -> nn.Sequential:
    """VGG16's layers in VGG16's order, with four channels each."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for count in (2, 2, 3, 3, 3):
        for _ in range(count):
            layers += [nn.Conv2d(4 if layers else 3, 4, 3, padding=1), nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def lpips() -> LPIPS:
    return LPIPS(thin_vgg(), [torch.full((1, 4, 1, 1), 0.25)] * 5)


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.layer = nn.Linear(3, 7)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.layer(self.dropout(pixels.mean((2, 3))))
        return logits


def pyramid(pixels: Tensor) -> list[Tensor]:
    return [pixels, nn.functional.avg_pool2d(pixels, 4)]


DISTANCES: dict[str, Callable[[], Perceptual]] = {
    "lpips": lpips,
    "convnext": lambda: ConvNextLogits(Classifier()),
    "features": lambda: FeatureDistance(pyramid),
}


@pytest.mark.parametrize("kind", DISTANCES)
def test_equal_images_have_no_distance_and_different_ones_have(kind: str) -> None:
    distance = DISTANCES[kind]()
    assert distance(images(0), images(0)).item() == pytest.approx(0, abs=1e-6)
    assert distance(images(0), images(1)).item() > 1e-5


@pytest.mark.parametrize("kind", DISTANCES)
def test_only_the_prediction_gets_a_gradient(kind: str) -> None:
    distance = DISTANCES[kind]()
    prediction, target = images(0).requires_grad_(), images(1).requires_grad_()
    distance(prediction, target).backward()
    assert prediction.grad is not None
    assert prediction.grad.abs().sum() > 0
    assert target.grad is None


@pytest.mark.parametrize("kind", DISTANCES)
def test_a7_predictions_out_of_range_keep_their_gradient(kind: str) -> None:
    prediction = (images(0) + 1.5).requires_grad_()
    distance = DISTANCES[kind]()
    distance(prediction, images(1)).backward()
    assert prediction.grad is not None
    assert prediction.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", ["lpips", "convnext"])
def test_judges_never_train(kind: str) -> None:
    judge = DISTANCES[kind]()
    assert isinstance(judge, nn.Module)
    holder = nn.Sequential(judge).train()
    assert not any(module.training for module in holder[0].modules())
    assert not any(parameter.requires_grad for parameter in judge.parameters())


def test_black_images_do_not_break_the_unit_vectors() -> None:
    black = torch.zeros(1, 3, 8, 8, requires_grad=True)
    FeatureDistance(pyramid)(black, images(0, side=8)[:1]).backward()
    assert black.grad is not None
    assert torch.isfinite(black.grad).all()


def test_feature_distance_is_the_squared_distance_of_unit_vectors() -> None:
    north, east = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    north[:, 0], east[:, 1] = 0.5, 0.1
    same_layer_twice = FeatureDistance(lambda pixels: [pixels, pixels])
    assert same_layer_twice(north, east).item() == pytest.approx(2)
    assert same_layer_twice(north, 3 * north).item() == pytest.approx(0, abs=1e-6)


def test_a_combination_is_the_weighted_mean() -> None:
    one: Perceptual = lambda prediction, target: torch.tensor(1.0)  # noqa: E731
    two: Perceptual = lambda prediction, target: torch.tensor(2.0)  # noqa: E731
    both = CombinedPerceptual([(1.0, one), (0.1, two)])
    assert both(images(0), images(1)).item() == pytest.approx(1.2 / 1.1)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("lpips-convnext_s-1.0-0.1", {"lpips": 1.0, "convnext_s": 0.1}),
        ("lpips", {"lpips": 1.0}),
        ("convnext_s", {"convnext_s": 1.0}),
    ],
)
def test_names(name: str, parts: dict[str, float]) -> None:
    assert parse_perceptual(name) == parts


@pytest.mark.parametrize(
    "name",
    [
        "",
        "vgg",
        "features",
        "lpips-convnext_s",
        "lpips-convnext_s-1.0",
        "lpips-lpips-1-1",
        "1.0-lpips",
        "lpips-0",
        "lpips-nan",
    ],
)
def test_a_name_that_means_nothing_is_refused_with_an_example(name: str) -> None:
    with pytest.raises(MuseError, match="perceptual loss") as refused:
        parse_perceptual(name)
    assert refused.value.exit_code == ExitCode.SETTINGS
    assert refused.value.hint is not None
    assert "lpips-convnext_s-1.0-0.1" in refused.value.hint


def test_published_weights_are_loaded_by_name_and_strictly() -> None:
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in vgg16(weights=None).state_dict().items() if "features" in key}
    vgg = {key: torch.zeros(1).expand(shape) for key, shape in shapes.items()}
    heads = {f"lin{i}.model.1.weight": torch.ones(1, c, 1, 1) for i, c in enumerate((64, 128, 256, 512, 512))}
    judge = LPIPS.from_states(vgg, heads)
    assert judge(images(0), images(1)).item() == 0
    del vgg["features.28.bias"]
    with pytest.raises(MuseError, match=r"28\.bias"):
        LPIPS.from_states(vgg, heads)
