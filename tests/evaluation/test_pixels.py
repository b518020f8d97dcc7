"""PSNR and SSIM agree with scikit-image, image by image, and bytes are made once."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from muse_core.errors import MuseError
from muse_core.evaluation.pixels import mean_of_finite, psnr, ssim, to_bytes
from tests.fixtures import regenerate


def random_bytes(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def nearby(images: Tensor, spread: int = 20) -> Tensor:
    noise = torch.randint(-spread, spread + 1, images.shape, generator=torch.Generator().manual_seed(1))
    return (images.int() + noise).clamp(0, 255).to(torch.uint8)


def unit(image: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return image.permute(1, 2, 0).numpy().astype(np.float64) / 255


@pytest.mark.parametrize("size", [(64, 64), (7, 7), (31, 50)])
def test_psnr_and_ssim_equal_scikit_image_for_any_size(size: tuple[int, int]) -> None:
    original = random_bytes(3, 3, *size)
    original[1] = 128  # a flat picture, where naive single precision loses the variance
    reconstruction = nearby(original)
    for index in range(3):
        a, b = unit(original[index]), unit(reconstruction[index])
        expected = structural_similarity(a, b, channel_axis=-1, data_range=1.0)
        assert float(psnr(original, reconstruction)[index]) == pytest.approx(
            peak_signal_noise_ratio(a, b, data_range=1.0), abs=1e-10
        )
        assert float(ssim(original, reconstruction)[index]) == pytest.approx(expected, abs=1e-10)


def fixture_pair() -> tuple[Tensor, Tensor]:
    a = regenerate.image_u8("metric_a", 2, 64, 8)
    noise = regenerate._draws("input/metric_noise").randint(-20, 21, size=(2, 64, 64, 3))
    b = np.clip(a.permute(0, 2, 3, 1).numpy().astype(np.int64) + noise, 0, 255).astype(np.uint8)
    return a, torch.from_numpy(b).permute(0, 3, 1, 2)


def test_psnr_equals_the_reference_fixture() -> None:
    expected = regenerate.read_json("misc")["metrics"]["psnr"]
    assert psnr(*fixture_pair()).tolist() == pytest.approx(expected, abs=1e-6)


def test_c6_ssim_uses_data_range_one() -> None:
    fixture = regenerate.read_json("misc")["metrics"]
    measured = ssim(*fixture_pair()).tolist()
    assert measured == pytest.approx(fixture["ssim_correct"], abs=1e-6)
    assert all(ours < inflated for ours, inflated in zip(measured, fixture["ssim_reference_data_range_2"], strict=True))


def test_c8_bytes_are_rounded_once() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_bytes(levels.float() / 255), levels)
    just_below = (levels.float() + 0.49) / 255
    just_above = (levels.float() - 0.49) / 255
    assert torch.equal(to_bytes(just_below), levels)
    assert torch.equal(to_bytes(just_above), levels)


def test_bytes_are_clamped_not_wrapped() -> None:
    assert to_bytes(torch.tensor([-0.3, 1.7])).tolist() == [0, 255]


def test_an_image_that_is_not_finite_is_refused_and_counted() -> None:
    images = torch.zeros(3, 3, 8, 8)
    images[1, 0, 0, 0] = float("nan")
    with pytest.raises(MuseError, match="1 of 3 images"):
        to_bytes(images)


def test_equal_images_have_infinite_psnr_and_ssim_one() -> None:
    images = random_bytes(2, 3, 16, 16)
    assert torch.isinf(psnr(images, images)).all()
    assert ssim(images, images).tolist() == pytest.approx([1.0, 1.0])


def test_images_smaller_than_the_window_have_no_ssim() -> None:
    images = random_bytes(1, 3, 6, 20)
    with pytest.raises(MuseError, match="at least 7 x 7"):
        ssim(images, images)


def test_the_mean_leaves_infinite_values_out_unless_all_are() -> None:
    assert mean_of_finite(torch.tensor([1.0, float("inf"), 3.0])) == 2.0
    assert mean_of_finite(torch.tensor([float("inf")])) == float("inf")
