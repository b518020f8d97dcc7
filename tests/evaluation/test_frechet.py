"""The Frechet distance equals torch-fidelity's and the reference fixture, however the rows arrive."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from muse_core.evaluation.frechet import Moments, frechet_distance
from muse_core.evaluation.spec import NotMeasuredError
from tests.fixtures import regenerate


def moments(rows: torch.Tensor, batch: int = 17) -> Moments:
    out = Moments()
    for part in torch.split(rows, batch):
        out.add(part)
    return out


def random_rows(seed: int, count: int = 300, width: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return torch.randn(count, width, generator=generator, dtype=torch.float64) @ mix + 5 * seed


def test_distance_equals_the_reference_fixture() -> None:
    real = torch.from_numpy(regenerate.normal64("input/fid_real", (96, 24)))
    fake = torch.from_numpy(1.3 * regenerate.normal64("input/fid_fake", (96, 24)) + 0.2)
    expected = regenerate.read_json("misc")["fid"]["value"]
    assert frechet_distance(moments(fake), moments(real)) == pytest.approx(expected, rel=1e-6)


def test_distance_equals_torch_fidelity_and_the_textbook() -> None:
    first, second = random_rows(1), random_rows(2)
    statistics = fid_features_to_statistics(first), fid_features_to_statistics(second)
    theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    (mu, sigma), (mu2, sigma2) = ((entry["mu"], entry["sigma"]) for entry in statistics)
    root = np.trace(sqrtm(sigma @ sigma2).real)
    textbook = ((mu - mu2) ** 2).sum() + np.trace(sigma) + np.trace(sigma2) - 2 * root
    ours = frechet_distance(moments(first), moments(second))
    assert ours == pytest.approx(theirs, rel=1e-9)
    assert ours == pytest.approx(float(textbook), rel=1e-7)


def test_moments_are_unbiased_and_do_not_depend_on_batching() -> None:
    rows = random_rows(3)
    whole = moments(rows, batch=300).statistics()
    for batch in (1, 7, 128):
        parts = moments(rows, batch).statistics()
        np.testing.assert_allclose(parts["mu"], whole["mu"], rtol=1e-12)
        np.testing.assert_allclose(parts["sigma"], np.cov(rows.numpy(), rowvar=False), rtol=1e-9, atol=1e-12)


def test_merging_equals_having_seen_both() -> None:
    rows = random_rows(4)
    left, right = moments(rows[:100]), moments(rows[100:])
    left.merge(right)
    left.merge(Moments())
    np.testing.assert_allclose(left.statistics()["sigma"], moments(rows).statistics()["sigma"], rtol=1e-10)
    assert left.count == 300


def test_one_image_has_no_covariance() -> None:
    with pytest.raises(NotMeasuredError, match="at least 2"):
        frechet_distance(moments(random_rows(1, count=1)), moments(random_rows(2)))
