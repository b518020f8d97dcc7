from typing import Any

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from muse_core.errors import MuseError
from muse_core.viz.grids import LINE, compare_strip, contact_grid, sample_labels, sample_strip
from muse_core.viz.pixels import as_pixels, colour_table, enlarge, overlay, psnr, reduce, upsample, whole_factor
from tests.viz.conftest import picture


def test_bytes_are_rounded_not_truncated() -> None:
    assert as_pixels(np.full((3, 1, 1), 0.999)).item(0) == 255
    assert as_pixels(np.full((3, 1, 1), 127.6 / 255)).item(0) == 128


def test_values_outside_are_clipped_and_values_that_are_not_finite_are_refused() -> None:
    assert as_pixels(np.full((3, 2, 2), 1.7)).min() == 255
    with pytest.raises(MuseError, match="not finite"):
        as_pixels(np.full((3, 2, 2), np.nan))
    with pytest.raises(MuseError, match="shape"):
        as_pixels(np.zeros((2, 2, 3)))


def test_small_images_are_enlarged_by_a_whole_factor_so_that_pixels_stay_pixels() -> None:
    pixels = as_pixels(picture(6, 4))
    factor = whole_factor(pixels, 20)
    large = enlarge(pixels, factor)
    assert factor == 3
    assert large.shape == (18, 12, 3)
    assert (large[::3, ::3] == pixels).all()
    assert (large[2::3, 2::3] == pixels).all()


def test_large_images_are_reduced_and_keep_their_shape() -> None:
    assert reduce(as_pixels(picture(300, 150)), 100).shape == (100, 50, 3)
    assert reduce(as_pixels(picture(30, 15)), 100).shape == (30, 15, 3)


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (37, 21)])
def test_sample_strip_shows_the_input_pixel_by_pixel(size: tuple[int, int]) -> None:
    image = picture(*size)
    strip = sample_strip([[image, image * 0.5, np.eye(4), np.eye(4)]], side=160)
    factor = 160 // max(size)
    shown = np.asarray(strip)[LINE : LINE + size[0] * factor, : size[1] * factor]
    assert (shown[::factor, ::factor, :3] == as_pixels(image)).all()
    assert (shown[..., 3] == 255).all()
    assert strip.height == LINE + size[0] * factor


def test_sample_strip_puts_rows_beside_each_other_and_leaves_missing_cells_empty() -> None:
    rows = [[picture(8, 8, seed), picture(8, 8), np.ones((2, 2)), None] for seed in range(4)]
    tall, wide = sample_strip(rows, side=64), sample_strip(rows, side=64, across=2)
    assert wide.width > 2 * tall.width
    assert wide.height < 0.7 * tall.height
    assert np.asarray(tall)[LINE:, -30:, 3].max() == 0


def test_sample_strip_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(MuseError, match="no rows"):
        sample_strip([])
    with pytest.raises(MuseError, match="labels"):
        sample_strip([[picture(8, 8)] * 5])
    with pytest.raises(MuseError, match="begins with an image"):
        sample_strip([[None, picture(8, 8)]])


def test_a_strip_with_an_end_draws_equal_attention_in_equal_colours_and_marks_the_query() -> None:
    grey = np.full((3, 128, 128), 0.5)
    rows: list[list[Any]] = [
        [grey, grey, np.full((2, 2), 1.0), np.full((2, 2), 4.0)],
        [grey, grey, np.full((2, 2), 4.0), None],
    ]
    strip = sample_strip(rows, sample_labels(4.0), side=128, end=4.0, queries=[(0.5, 0.5)] * 2)
    pixels = np.asarray(strip)[..., :3].astype(int)
    ground = np.full((1, 1, 3), 128, np.uint8)
    quarter, full = (overlay(ground, np.full((1, 1), part, np.float32))[0, 0].astype(int) for part in (0.25, 1.0))
    for row, column, expected in ((0, 2, quarter), (0, 3, full), (1, 2, full)):
        shown = pixels[LINE + row * 136 + 20, column * 136 + 20]
        assert np.abs(shown - expected).max() <= 1
    assert pixels[LINE + 64, 64 + 5].min() > 220, "a ring around the point"
    assert np.abs(pixels[LINE + 64, 64] - 128).max() <= 1
    assert sample_labels(4.0) == ("input", "reconstruction", "attention 0-4 x", "teacher 0-4 x")


def test_psnr_equals_scikit_image_on_bytes_and_is_infinite_for_equal_images() -> None:
    first, second = picture(20, 31), picture(20, 31, seed=1)
    expected = peak_signal_noise_ratio(as_pixels(first), as_pixels(second), data_range=255)
    assert psnr(first, second) == pytest.approx(expected, abs=1e-9)
    assert psnr(first, first) == float("inf")


def test_compare_strip_stands_original_reconstruction_and_difference_side_by_side() -> None:
    first, second = picture(10, 16), np.clip(picture(10, 16) + 0.1, 0, 1)
    strip = np.asarray(compare_strip(first, second, side=320))
    factor, height, width = 20, 200, 320
    original = strip[LINE : LINE + height, :width][::factor, ::factor, :3]
    assert (original == as_pixels(first)).all()
    third = strip[LINE : LINE + height, -width:][::factor, ::factor, :3]
    shades = (third[..., None, :] == colour_table()).all(-1).any(-1)
    assert shades.all(), "the difference is drawn in the colours of the map"


def test_compare_strip_of_a_perfect_reconstruction_has_a_black_difference() -> None:
    strip = np.asarray(compare_strip(picture(10, 10), picture(10, 10), side=200))
    assert (strip[LINE : LINE + 200, -200:, :3] == colour_table()[0]).all()


def test_compare_strip_refuses_images_of_different_sizes() -> None:
    with pytest.raises(MuseError, match="16 x 10 pixels and the reconstruction 10 x 10"):
        compare_strip(picture(10, 16), picture(10, 10))


def test_contact_grid_takes_images_of_any_size() -> None:
    sheet = contact_grid([picture(8, 8), picture(20, 10), picture(10, 400)], ["a", "b", "c"], columns=2, side=64)
    assert sheet.size[0] > 2 * 48
    with pytest.raises(MuseError, match="captions"):
        contact_grid([picture(8, 8)], ["a", "b"])


def test_smooth_maps_peak_where_the_patch_is_and_never_fall_below_zero() -> None:
    patches = np.zeros((4, 6), np.float32)
    patches[1, 4] = 1.0
    smooth = upsample(patches, 40, 60)
    row, column = divmod(int(smooth.argmax()), 60)
    assert (row // 10, column // 10) == (1, 4)
    assert smooth.min() >= 0
    blocks = upsample(patches, 40, 60, smooth=False)
    assert (blocks[10:20, 40:50] == 1).all()
    assert blocks.sum() == 100


def test_overlay_brightens_where_attention_is_and_lightness_rises_along_the_colours() -> None:
    ground = np.full((2, 2, 3), 128, np.uint8)
    laid = overlay(ground, np.array([[0.0, 0.3], [0.7, 1.0]], np.float32))
    assert np.diff(laid.astype(int).sum(-1).ravel()).min() > 0
    lightness = colour_table() @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) > -0.5).all()
