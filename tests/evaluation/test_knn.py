"""Nearest neighbours vote as scikit-learn's do."""

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from muse_core.errors import MuseError
from muse_core.evaluation.builtin import KNN
from muse_core.evaluation.features import FeatureSet
from muse_core.evaluation.knn import vote
from muse_core.evaluation.probing import run_probe
from tests.evaluation.fakes import bright_classes
from tests.evaluation.test_linear import context


@pytest.mark.parametrize("k", [1, 5, 20])
def test_every_answer_equals_scikit_learns(k: int) -> None:
    images, labels = load_digits(return_X_y=True)
    rows, truth = torch.from_numpy(images).float(), torch.from_numpy(labels)
    train = FeatureSet(rows[:900], truth[:900], {"seen": 900, "skipped": {}})
    theirs = KNeighborsClassifier(k, metric="cosine").fit(images[:900], labels[:900]).predict(images[900:])
    assert vote(train, rows[900:], k).tolist() == theirs.tolist()


def test_classes_that_show_in_the_features_are_found() -> None:
    here = context(bright_classes(80, 4), bright_classes(40, 4, start=500))
    scores = run_probe("knn", KNN, here, {"k": 5})
    assert scores.metrics["top1"] > 0.9
    assert scores.baselines["chance"]["top1"] == 0.25
    assert scores.counts == {"seen": 40, "skipped": {}}


def test_more_neighbours_than_samples_is_an_error() -> None:
    with pytest.raises(MuseError, match="20 neighbours of 8"):
        run_probe("knn", KNN, context(bright_classes(8, 2), bright_classes(8, 2, start=500)))


def test_it_is_not_measured_on_its_own_memory() -> None:
    with pytest.raises(MuseError, match="begin with the same sample"):
        run_probe("knn", KNN, context(bright_classes(40, 2), bright_classes(40, 2)))
