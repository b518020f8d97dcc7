"""The parts of the connector in layout `released`, one by one."""

import torch

from muse_core.model.block import ReleasedBlock
from muse_core.model.connector import fold
from muse_core.model.rotary import raster_rotary
from muse_core.model.routing import ROUTINGS
from tests.fixtures.regenerate import normal, reference_tensors, released_state
from tests.parity.closeness import assert_close
from tests.parity.released import block_key

CPU = torch.device("cpu")


def first_block() -> ReleasedBlock:
    prefix = "muse_blocks.0."
    block = ReleasedBlock(512, 8)
    block.load_state_dict({block_key(key.removeprefix(prefix)): value for key, value in released_state(prefix).items()})
    return block


@torch.no_grad()
def test_one_block() -> None:
    tensors, x = reference_tensors(), normal("input/block", (2, 10, 512))
    out = first_block()(x, x, ROUTINGS["released"], raster_rotary(10, 64, CPU))
    assert_close(out.x, tensors["block0.out"])
    assert_close(out.attention, tensors["block0.attn"])
    assert_close(out.anchor, tensors["block0.v_itc"])


def test_positions_along_the_raster() -> None:
    rotary = raster_rotary(10, 64, CPU)
    assert_close(rotary.cos, reference_tensors()["rope.cos"])
    assert_close(rotary.sin, reference_tensors()["rope.sin"])


def test_space_to_depth() -> None:
    even = torch.arange(2.0 * 36 * 3).view(2, 6, 6, 3)
    assert_close(fold(even).flatten(1, 2), reference_tensors()["pixel_unshuffle.6x6"])


def test_space_to_depth_drops_a_row_and_a_column_that_fill_no_cell() -> None:
    odd = torch.arange(50.0).view(1, 5, 5, 2)
    assert_close(fold(odd).flatten(1, 2), reference_tensors()["pixel_unshuffle.5x5"])
