"""Features are read once, kept on disk under what made them, and never mixed up."""

from pathlib import Path

import pytest
import torch

from muse_core.data.sample import Skip
from muse_core.errors import MuseError
from muse_core.evaluation.features import ProbeData, behaviour
from tests.evaluation.fakes import MeanColours, Passes, bright_classes, data, sample


def test_features_and_labels_stay_together_and_in_order() -> None:
    found = ProbeData(MeanColours(), data(bright_classes(20, 4))).features()
    assert found.features.shape == (20, 3)
    assert found.labels.tolist() == [k % 4 for k in range(20)]
    assert found.counts == {"seen": 20, "skipped": {}}
    assert found.class_count() == 4


def test_patch_features_are_the_mean_over_patches() -> None:
    found = ProbeData(MeanColours(), data(bright_classes(8, 2)))
    assert torch.allclose(found.features("patch").features, found.features("pooled").features, atol=1e-6)


def test_layers_are_concatenated() -> None:
    found = ProbeData(MeanColours(), data(bright_classes(8, 2))).features("pooled", ("one", "two"))
    assert found.features.shape == (8, 6)


def test_unlabelled_samples_are_counted_and_left_out() -> None:
    items = [*bright_classes(6, 2), sample(90), sample(91), Skip("image cannot be decoded", "x"), sample(92, label=0)]
    found = ProbeData(MeanColours(), data(items)).features()
    assert len(found) == 7
    assert found.counts == {"seen": 9, "skipped": {"image cannot be decoded": 1, "unlabelled": 2}}


def test_data_without_any_label_is_an_error_that_says_so() -> None:
    with pytest.raises(MuseError, match="not one of the 3 samples of memory has a label"):
        ProbeData(MeanColours(), data([sample(1), sample(2), sample(3)])).features()


def test_a_tokenizer_without_features_is_refused() -> None:
    with pytest.raises(MuseError, match="Passes gives no features"):
        ProbeData(Passes(), data(bright_classes(4, 2))).features()


def test_features_that_are_not_finite_are_refused() -> None:
    with pytest.raises(MuseError, match="not finite"):
        ProbeData(MeanColours(gain=float("nan")), data(bright_classes(4, 2))).features()


def test_the_second_reading_costs_nothing_and_equals_the_first(tmp_path: Path) -> None:
    tokenizer = MeanColours()
    probe = ProbeData(tokenizer, data(bright_classes(20, 4)), cache=tmp_path)
    first = probe.features()
    seen = tokenizer.seen
    second = probe.features()
    assert tokenizer.seen == seen + 2  # the two noise images that tell who it is
    assert torch.equal(first.features, second.features)
    assert (first.labels.tolist(), first.counts) == (second.labels.tolist(), second.counts)


def test_another_tokenizer_data_or_layer_has_its_own_cache(tmp_path: Path) -> None:
    base = ProbeData(MeanColours(), data(bright_classes(20, 4)), cache=tmp_path)
    other_weights = base.through(MeanColours(gain=1.0001))
    other_data = ProbeData(MeanColours(), data(bright_classes(20, 4, start=1)), cache=tmp_path)
    shorter = ProbeData(MeanColours(), data(bright_classes(20, 4), limit=9), cache=tmp_path)
    for probe in (base, other_weights, other_data, shorter):
        probe.features()
    base.features("patch")
    base.features("pooled", ("one",))
    assert len(list(tmp_path.iterdir())) == 6
    assert len(shorter.features()) == 9


def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    probe = ProbeData(MeanColours(), data(bright_classes(20, 4)), cache=tmp_path)
    first = probe.features()
    path = next(tmp_path.iterdir())
    path.write_bytes(path.read_bytes()[:40])
    assert torch.equal(probe.features().features, first.features)
    assert path.stat().st_size > 40


def test_a_tokenizer_is_known_by_what_it_does() -> None:
    assert behaviour(MeanColours(), 16, "cpu") == behaviour(MeanColours(), 16, "cpu")
    assert behaviour(MeanColours(), 16, "cpu") != behaviour(MeanColours(1.000001), 16, "cpu")
