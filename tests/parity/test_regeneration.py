"""The fixtures are only worth something when weights and inputs are redrawn exactly."""

import hashlib

import pytest
import torch

from tests.fixtures.regenerate import image_u8, normal, read_json, rule_for, weight

GROUPS = ("model", "discriminator", "lpips", "convnext")


@pytest.mark.parametrize("group", GROUPS)
def test_every_key_is_drawn_by_the_documented_rule(group: str) -> None:
    for key, entry in read_json("manifest")[group].items():
        assert rule_for(key, tuple(entry["shape"])) == entry["rule"], key


@pytest.mark.parametrize("group", GROUPS)
def test_redrawn_weights_have_the_recorded_sums(group: str) -> None:
    for key, entry in read_json("manifest")[group].items():
        if entry["rule"] == "keep":
            continue
        drawn = weight(key, tuple(entry["shape"])).double()
        assert drawn.abs().sum().item() == pytest.approx(entry["abs_sum"], rel=1e-6, abs=1e-5), key
        assert drawn.flatten()[:3].tolist() == pytest.approx(entry["head"], abs=1e-6), key


def test_redrawn_inputs_have_the_recorded_checksums() -> None:
    inputs = read_json("config")["inputs"]
    for name in ("main", "odd", "alt", "disc", "loss_real", "loss_fake"):
        batch, _, side, _ = inputs[name]["shape"]
        pixels = image_u8(name, batch, side, 8 if name.startswith("loss_") else 14)
        assert hashlib.sha256(pixels.numpy().tobytes()).hexdigest()[:16] == inputs[name]["sha256_16"], name
    first = normal("input/text", (2, 768)).flatten()[:4]
    torch.testing.assert_close(first, torch.tensor(inputs["text"]["first4"]), rtol=0, atol=1e-6)
