"""From an attention map to the region it is about."""

import numpy as np
import pytest

from muse_core.viz.saliency import Map, invert_if_background, main_component, received_attention, salient_region


def attention_to(tokens: list[int], heads: int = 4, size: int = 64) -> Map:
    """Every query of every head spends most of its attention on these tokens."""
    weights = np.full((heads, size, size), 0.1 / size)
    weights[:, :, tokens] += 0.9 / len(tokens)
    return weights


OBJECT = [27, 28, 35, 36]  # the centre of an 8 x 8 grid


def test_c1_a_peaked_map_is_drawn_peaked() -> None:
    region = salient_region(attention_to(OBJECT), (8, 8))
    strength, mask = region.strength.ravel(), region.mask.ravel()
    assert strength[OBJECT].min() > 0.6
    assert strength[[0, 7, 56, 63]].max() == 0
    assert mask[OBJECT].min() > 0.5
    assert 0 < region.strength.mean() < 0.3


def test_c1_temperature_one_would_erase_the_map() -> None:
    assert np.all(received_attention(attention_to(OBJECT), (8, 8), temperature=1.0) == 1)


def test_columns_are_what_is_attended_to() -> None:
    saliency = received_attention(attention_to([5]), (8, 8)).ravel()
    assert saliency.argmax() == 5


def test_what_a_token_pays_to_itself_does_not_count() -> None:
    selfish = np.eye(16)[None] * 0.9 + attention_to([3], heads=1, size=16) * 0.1
    assert received_attention(selfish, (4, 4), heads=1).ravel()[3] == pytest.approx(1)
    # Counting it, all tokens look nearly alike before the stretch; not counting it, only token 3 stands out.
    assert np.delete(received_attention(selfish, (4, 4), heads=1).ravel(), 3).max() < 0.1


def test_heads_that_look_everywhere_are_left_out() -> None:
    flat = np.full((5, 64, 64), 1 / 64)
    mixed = np.concatenate((flat, attention_to(OBJECT, heads=3)))
    np.testing.assert_allclose(
        received_attention(mixed, (8, 8)), received_attention(attention_to(OBJECT), (8, 8)), atol=1e-6
    )


def test_attention_that_outlines_the_object_is_turned_over() -> None:
    around = np.ones((8, 8))
    around[2:6, 2:6] = 0
    np.testing.assert_array_equal(invert_if_background(around), 1 - around)
    np.testing.assert_array_equal(invert_if_background(1 - around), 1 - around)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (1, 9)])
def test_a_grid_without_a_centre_is_left_as_it_is(shape: tuple[int, int]) -> None:
    saliency = np.linspace(0, 1, shape[0] * shape[1]).reshape(shape)
    np.testing.assert_array_equal(invert_if_background(saliency), saliency)


def test_the_region_with_the_largest_sum_wins_over_the_brightest_spot() -> None:
    saliency = np.zeros((8, 8))
    saliency[0, 0] = 1.0
    saliency[3:6, 3:6] = 0.6
    mask = main_component(saliency)
    assert mask[4, 4] > 0.9
    assert mask[0, 0] == 0


def test_a_map_with_nothing_in_it_has_no_component_to_prefer() -> None:
    assert np.all(main_component(np.zeros((4, 4))) == 1)
    blank = salient_region(np.full((2, 16, 16), 1 / 16), (4, 4))
    assert np.isfinite(blank.strength).all()


def test_oblong_grids() -> None:
    region = salient_region(attention_to([14, 15], size=40), (4, 10))
    assert region.strength.shape == region.mask.shape == (4, 10)
