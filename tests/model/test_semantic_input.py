"""What the anchor reads: the block's input over its rms, or as it is."""

from dataclasses import asdict

import pytest
import torch

from muse_core.model.block import SemanticInput, SynergisticBlock
from muse_core.model.build import ConnectorSpec
from muse_core.model.rotary import axial_rotary
from muse_core.model.routing import ROUTINGS

SPEC = ConnectorSpec("muse", width=32, heads=4, blocks=2, latent_channels=8, inject=True, resolution=64)
WIDTH, HEADS, GRID = 16, 2, (2, 3)


def block(reads: SemanticInput) -> SynergisticBlock:
    torch.manual_seed(0)
    return SynergisticBlock(WIDTH, HEADS, semantic_input=reads)


@pytest.mark.parametrize(("reads", "factor"), [("normalized", 1.0), ("raw", 3.0)])
def test_only_a_raw_anchor_grows_with_its_input(reads: SemanticInput, factor: float) -> None:
    x, rotary = torch.randn(2, 6, WIDTH), axial_rotary(GRID, WIDTH // HEADS, torch.device("cpu"))
    run = block(reads)
    once, thrice = (run(part, part, ROUTINGS["strict"], rotary) for part in (x, 3 * x))
    torch.testing.assert_close(thrice.anchor, factor * once.anchor, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(thrice.attention, once.attention, rtol=1e-4, atol=1e-5)  # structure never sees the scale


def test_a_raw_anchor_is_as_separate_from_pixels_as_a_normalized_one() -> None:
    x, rotary = torch.randn(2, 6, WIDTH), axial_rotary(GRID, WIDTH // HEADS, torch.device("cpu"))
    for reads in ("normalized", "raw"):
        run = block(reads)
        assert run.gate is not None
        torch.nn.init.normal_(run.gate)
        run(x, x, ROUTINGS["strict"], rotary).x.sum().backward()
        assert run.semantic.weight.grad is None


def test_checkpoints_from_before_it_was_a_choice_read_the_normalized_input() -> None:
    document = asdict(SPEC)
    del document["semantic_input"]
    assert ConnectorSpec(**document) == SPEC
    assert SPEC.semantic_input == "normalized"
