"""The 1b network has room for a released 1B checkpoint: every key, every shape, and nothing besides."""

from collections import Counter
from functools import cache

import pytest
import torch
from torch import Tensor

from muse_core.model.architecture import PUBLISHED
from muse_core.model.build import ConnectorSpec, empty_network, plan_network
from muse_core.model.released import read_architecture, read_spec
from muse_core.model.weights.filling import fill
from muse_core.model.weights.keymaps import released_names
from muse_core.model.weights.published import new_teacher, new_text
from muse_core.model.weights.reading import LazyTensors
from tests.fixtures.regenerate import FOLDER, read_json
from tests.parity.released import our_keys

RELEASED_1B = ConnectorSpec(
    layout="released", width=512, heads=8, blocks=6, latent_channels=32, inject=False, resolution=224
)


@cache
def planned() -> dict[str, Tensor]:
    return plan_network("1b", RELEASED_1B).state_dict()


@cache
def released_shapes() -> dict[str, list[int]]:
    return {key: shape for key, shape in read_json("keys_1b").items() if not key.startswith("dino_")}


def source() -> LazyTensors:
    """The real 1B checkpoint, of which only names and shapes are known."""
    shapes = {key: tuple(shape) for key, shape in read_json("keys_1b").items()}
    return LazyTensors({key: lambda: torch.empty(0) for key in shapes}, shapes, "the 1B checkpoint")


def test_every_released_tensor_has_its_place() -> None:
    for key, shape in released_shapes().items():
        places = our_keys(key)
        expected = [shape[0] // len(places), *shape[1:]] if shape else []
        for place in places:
            assert list(planned()[place].shape) == expected, f"{key} -> {place}"


def test_no_place_stays_empty() -> None:
    assert {place for key in released_shapes() for place in our_keys(key)} == set(planned())


def test_the_617_keys_load_on_the_meta_device_with_nothing_missing_or_unexpected() -> None:
    shapes = read_json("keys_1b")
    assert len(shapes) == 617
    weights: dict[str, Tensor] = {}
    for key, shape in shapes.items():
        places = released_names(key)
        whole = torch.empty(shape, device="meta")
        parts = whole.chunk(len(places)) if len(places) > 1 else [whole] * len(places)
        weights |= dict(zip(places, parts, strict=True))
    network = empty_network(PUBLISHED, RELEASED_1B)
    fill(network, weights, source="the 1B checkpoint", assign=True)  # refuses anything missing or unexpected
    assert network.state_dict().keys() == weights.keys()


def test_the_sizes_of_the_1b_checkpoint_are_read_off_its_keys() -> None:
    assert read_spec(source()) == RELEASED_1B
    assert read_architecture(source(), FOLDER / "nothing beside it") == PUBLISHED


def test_the_parameters_of_each_part_are_those_of_the_fact_sheet() -> None:
    counts: Counter[str] = Counter()
    for name, weight in planned().items():
        top, _, rest = name.partition(".")
        counts[rest.partition(".")[0] if top == "connector" else top] += weight.numel()
    assert counts == {
        "encoder": 304_012_288,
        "adapter": 2_101_248,
        "blocks": 20_451_072,
        "to_latent": 16_416,
        "projector": 655_360,
        "logit_scale": 1,
        "decoder": 159_223_171,
    }
    assert sum(counts.values()) == 486_459_556


def test_3b_has_the_shapes_of_1b() -> None:
    ours = {name: weight.shape for name, weight in plan_network("3b", RELEASED_1B).state_dict().items()}
    assert ours == {name: weight.shape for name, weight in planned().items()}


@pytest.mark.parametrize(("build", "count"), [(new_teacher, 840_592_640), (new_text, 123_650_304)])
def test_judges_have_the_published_sizes(build: type, count: int) -> None:
    with torch.device("meta"):
        assert sum(weight.numel() for weight in build().parameters()) == count
