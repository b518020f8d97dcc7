"""The demo's held-out scenes belong to the demo's training scenes alone."""

import pytest

from muse_core.settings.layers import resolve
from muse_core.settings.presets import preset_for
from muse_core.settings.train import TrainSettings


@pytest.mark.parametrize(
    ("asked", "val"),
    [
        ({}, "demo:val"),
        ({"data.train": "demo"}, "demo:val"),
        ({"data.train": "demo:train:96"}, "demo:val"),
        ({"data.train": "mine/"}, None),
        ({"data.train": "./demo"}, None),
        ({"data.train": "0.5 demo + mine/"}, None),
        ({"data.train": "mine/", "data.val": "held/"}, "held/"),
        ({"data.train": "mine/", "data.val": "demo:val"}, "demo:val"),
    ],
)
def test_beside_other_data_nothing_is_held_out_unless_asked(asked: dict[str, str], val: str | None) -> None:
    flags = {"run.size": "tiny", **asked}
    assert resolve(TrainSettings, command="train", flags=flags, preset=preset_for, environ={})[0].data.val == val


def test_data_named_by_a_variable_count_as_well() -> None:
    environ = {"MUSE_TRAIN__DATA__TRAIN": "mine/"}
    settings, _ = resolve(
        TrainSettings, command="train", flags={"run.size": "tiny"}, preset=preset_for, environ=environ
    )
    assert settings.data.val is None
    assert settings.training.steps == 280
