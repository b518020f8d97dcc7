"""The 1b network has room for a released 1B checkpoint: every key, every shape, and nothing besides."""

from functools import cache

from torch import Tensor

from muse_core.model.build import ConnectorSpec, plan_network
from tests.fixtures.regenerate import read_json
from tests.parity.released import our_keys

RELEASED_1B = ConnectorSpec(
    layout="released", width=512, heads=8, blocks=6, latent_channels=32, inject=False, resolution=224
)


@cache
def planned() -> dict[str, Tensor]:
    return plan_network("1b", RELEASED_1B).state_dict()


def released_shapes() -> dict[str, list[int]]:
    return {key: shape for key, shape in read_json("keys_1b").items() if not key.startswith("dino_")}


def test_every_released_tensor_has_its_place() -> None:
    for key, shape in released_shapes().items():
        places = our_keys(key)
        expected = [shape[0] // len(places), *shape[1:]] if shape else []
        for place in places:
            assert list(planned()[place].shape) == expected, f"{key} -> {place}"


def test_no_place_stays_empty() -> None:
    assert {place for key in released_shapes() for place in our_keys(key)} == set(planned())


def test_the_parameters_add_up() -> None:
    assert sum(weight.numel() for weight in planned().values()) == 486_459_556
