"""Pictures become square: as the reference does it for evaluation, and with masks in step."""

import numpy as np
import pytest
import torch

from muse_core.data.sample import Sample
from muse_core.data.transforms import eval_transform, train_transform
from tests.fixtures import regenerate


def marked(height: int, width: int, caption: str = "") -> Sample:
    """A picture whose mask is its red channel."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Sample("k", image, caption, mask=image[..., 0].copy())


def test_evaluation_resizes_and_crops_as_the_reference_does() -> None:
    pixels = regenerate.image_u8("transform", 1, 300, 10)[0].permute(1, 2, 0).numpy()[:, :260].copy()
    ours = torch.tensor(eval_transform(224)(Sample("k", pixels)).image)
    normal = (ours.permute(2, 0, 1)[None] / 255 - regenerate.MEAN) / regenerate.STD
    expected = regenerate.reference_tensors()["transform.eval_s8"]
    torch.testing.assert_close(normal[0, :, ::8, ::8], expected, atol=0.02, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(24, 24), (24, 40), (40, 24), (7, 100), (100, 33)])
def test_any_shape_becomes_square(height: int, width: int) -> None:
    for result in (
        eval_transform(24)(marked(height, width)),
        train_transform(24, flip=True)(marked(height, width), np.random.default_rng(0)),
    ):
        assert result.mask is not None
        assert (result.image.shape, result.mask.shape) == ((24, 24, 3), (24, 24))


def test_masks_are_cropped_and_mirrored_along() -> None:
    for seed in range(20):
        result = train_transform(24, flip=True)(marked(24, 40), np.random.default_rng(seed))
        assert result.mask is not None
        np.testing.assert_array_equal(result.mask, result.image[..., 0])


def test_masks_are_never_interpolated() -> None:
    mask = np.zeros((48, 48), np.uint8)
    mask[:, 24:] = 200
    result = eval_transform(20)(Sample("k", np.zeros((48, 48, 3), np.uint8), mask=mask))
    assert set(np.unique(result.mask)) == {0, 200}  # type: ignore[arg-type]


def mirrored(caption: str, *, flip: bool) -> float:
    sample = marked(24, 24, caption)
    results = [train_transform(24, flip=flip)(sample, np.random.default_rng(seed)) for seed in range(200)]
    return float(np.mean([not np.array_equal(one.image, sample.image) for one in results]))


def test_half_are_mirrored_where_that_is_wanted_and_the_caption_stays_true() -> None:
    assert abs(mirrored("a dog above a cat", flip=True) - 0.5) < 0.1
    assert mirrored("a dog left of a cat", flip=True) == 0
    assert mirrored("a dog to the Right of a cat", flip=True) == 0
    assert mirrored("a dog above a cat", flip=False) == 0


def test_a_transform_follows_from_its_random_numbers() -> None:
    one, other = (train_transform(24)(marked(40, 60), np.random.default_rng([1, 2, 3])) for _ in range(2))
    np.testing.assert_array_equal(one.image, other.image)
