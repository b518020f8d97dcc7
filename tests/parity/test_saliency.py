"""The intended attention picture, where the public code draws a blank one."""

import numpy as np
import pytest

from muse_core.viz.saliency import (
    Map,
    emphasise,
    invert_if_background,
    main_component,
    received_attention,
    salient_region,
)
from tests.fixtures.regenerate import reference_tensors

GRID = (8, 8)
MASK_TOLERANCE = 2e-3  # the reference's blur and closing are another library's


def expected(name: str) -> Map:
    return reference_tensors()[f"viz.{name}"].double().numpy()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("saliency_t0.0", {}),
        ("saliency_t0.1", {"temperature": 0.1}),
        ("saliency_keepdiag_k8_t0.0", {"heads": 8, "own": True}),
    ],
)
def test_received_attention(name: str, options: dict[str, float]) -> None:
    ours = received_attention(expected("attn"), GRID, **options)  # type: ignore[arg-type]
    np.testing.assert_allclose(ours, expected(name), atol=1e-4)


def test_a_map_whose_border_outshines_its_centre_is_turned_over() -> None:
    saliency = received_attention(expected("attn"), GRID)
    np.testing.assert_allclose(invert_if_background(1 - saliency), expected("inverted"), atol=1e-4)


def test_mask_of_the_main_component() -> None:
    saliency = invert_if_background(received_attention(expected("attn"), GRID))
    np.testing.assert_allclose(main_component(saliency), expected("mask"), atol=MASK_TOLERANCE)


def test_c1_the_refined_map_is_the_intended_one_and_not_blank() -> None:
    region = salient_region(expected("attn"), GRID)
    np.testing.assert_allclose(region.strength, expected("refined_intended"), atol=MASK_TOLERANCE)
    assert expected("refined_reference_bug").max() == 0
    assert region.strength.max() > 0.9


def test_the_whole_is_the_sum_of_its_steps() -> None:
    upright = invert_if_background(received_attention(expected("attn"), GRID))
    mask = main_component(upright)
    np.testing.assert_array_equal(salient_region(expected("attn"), GRID).strength, emphasise(upright, mask))
