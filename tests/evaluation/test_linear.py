"""The linear probe: as good as scikit-learn's, chosen without the test data, honest about odd data."""

from dataclasses import replace

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.builtin import LINEAR
from muse_core.evaluation.features import FeatureSet, ProbeData
from muse_core.evaluation.linear import Recipe, Scaling, _probe, fit, measure
from muse_core.evaluation.options import LinearOptions, layer_names
from muse_core.evaluation.probing import run_probe
from muse_core.evaluation.spec import ProbeContext
from tests.evaluation.fakes import MeanColours, bright_classes, data, sample

OPTIONS = LinearOptions()


def context(train: list, validation: list, **more: object) -> ProbeContext:  # type: ignore[type-arg]
    tokenizer = MeanColours()
    context = ProbeContext(tokenizer, ProbeData(tokenizer, data(validation)), ProbeData(tokenizer, data(train)))
    return replace(context, **more)  # type: ignore[arg-type]


def feature_set(features: Tensor, labels: Tensor) -> FeatureSet:
    return FeatureSet(features.float(), labels.long(), {"seen": len(labels), "skipped": {}})


def clusters() -> tuple[FeatureSet, FeatureSet]:
    generator = torch.Generator().manual_seed(1)
    mix = torch.randn(48, 48, generator=generator) @ torch.diag(torch.logspace(0, -1.5, 48))
    centres = torch.randn(20, 48, generator=generator)

    def draw(n: int) -> FeatureSet:
        labels = torch.randint(0, 20, (n,), generator=generator)
        return feature_set((centres[labels] + 1.6 * torch.randn(n, 48, generator=generator)) @ mix + 0.5, labels)

    return draw(3000), draw(3000)


def digits() -> tuple[FeatureSet, FeatureSet]:
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    rows, truth = torch.from_numpy(images)[order], torch.from_numpy(labels)[order]
    return feature_set(rows[:900], truth[:900]), feature_set(rows[900:], truth[900:])


def best_of_scikit_learn(train: FeatureSet, validation: FeatureSet) -> float:
    """Logistic regression with the strength chosen on the same held-out part, trained again on everything."""
    held_out = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    held_out, kept = held_out[: len(train) // 10], held_out[len(train) // 10 :]
    rows = Scaling.of(train.features)(train.features).numpy()
    tests = Scaling.of(train.features)(validation.features).numpy()
    labels = train.labels.numpy()

    def score(strength: float) -> float:
        model = LogisticRegression(C=strength, max_iter=2000).fit(rows[kept], labels[kept])
        return float(model.score(rows[held_out], labels[held_out]))

    strength = max((0.0001, 0.001, 0.01, 0.1, 1.0), key=score)
    model = LogisticRegression(C=strength, max_iter=2000).fit(rows, labels)
    return float(model.score(tests, validation.labels.numpy()))


@pytest.mark.parametrize("made", [clusters, digits])
def test_it_is_within_half_a_point_of_logistic_regression(made: object) -> None:
    train, validation = made()  # type: ignore[operator]
    theirs = best_of_scikit_learn(train, validation)
    found = _probe(train, validation, OPTIONS, context([], []))
    assert 0.5 < theirs < 0.99
    assert found.metrics["top1"] >= theirs - 0.005
    if made is clusters:  # 3000 test samples: half a point is 15 of them, in either direction
        assert found.metrics["top1"] <= theirs + 0.005


def test_recipes_trained_together_equal_recipes_trained_alone() -> None:
    train, _ = clusters()
    rows, labels = Scaling.of(train.features)(train.features[:300]), train.labels[:300]
    recipes = [Recipe(0.1, 0.0), Recipe(1.0, 1e-2)]
    options = LinearOptions(epochs=3, least_steps=1)
    together = fit(rows, labels, 20, recipes, options)
    for k, recipe in enumerate(recipes):
        alone = fit(rows, labels, 20, [recipe], options)
        assert torch.allclose(together.weight[:, k], alone.weight[:, 0], atol=1e-5)


def test_the_gradient_is_that_of_cross_entropy() -> None:
    rows, labels = torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
    options = LinearOptions(epochs=1, least_steps=1, batch_size=8)
    weight, bias = torch.zeros(5, 3, requires_grad=True), torch.zeros(3, requires_grad=True)
    torch.nn.functional.cross_entropy(rows @ weight + bias, labels).backward()
    assert weight.grad is not None
    assert bias.grad is not None
    ours = fit(rows, labels, 3, [Recipe(0.5, 0.3)], options)
    first_nesterov_step = -0.5 * (1 + 0.9)
    assert torch.allclose(ours.weight[:, 0], first_nesterov_step * weight.grad, atol=1e-6)
    assert torch.allclose(ours.bias[0], first_nesterov_step * bias.grad, atol=1e-6)


def test_a_recipe_that_diverges_harms_no_other_and_is_not_chosen() -> None:
    train, validation = digits()
    options = LinearOptions(rates=(0.1, 1e38), decays=(0.0,), epochs=5, least_steps=1)
    found = _probe(train, validation, options, context([], []))
    assert [row["chosen"] for row in found.sweep] == [1, 0]
    assert found.sweep[1]["held-out top1"] == 0.0
    assert found.metrics["top1"] > 0.8


def test_classes_that_show_in_the_features_are_found_and_reported() -> None:
    scores = measure(context(bright_classes(120, 4), bright_classes(60, 4, start=500)), OPTIONS)
    assert scores.metrics["top1"] > 0.95
    assert "top5" not in scores.metrics
    assert scores.baselines["chance"]["top1"] == 0.25
    assert {row["class"] for row in scores.tables["per class"]} == {"0", "1", "2", "3"}
    assert len(scores.tables["sweep"]) == 20
    assert scores.protocol.fields["train_images"] == 120
    assert scores.counts["seen"] == 60


def test_the_untouched_encoder_is_measured_the_same_way() -> None:
    here = context(bright_classes(120, 4), bright_classes(60, 4, start=500), baseline=MeanColours(gain=2.0))
    scores = measure(here, OPTIONS)
    assert scores.baselines["untouched encoder"]["top1"] == pytest.approx(scores.metrics["top1"], abs=0.05)


def test_validation_labels_have_no_say_in_the_choice() -> None:
    train, validation = digits()
    shuffled = feature_set(validation.features, (validation.labels + 1) % 10)
    honest, fooled = (_probe(train, one, OPTIONS, context([], [])) for one in (validation, shuffled))
    assert honest.sweep == fooled.sweep
    assert torch.equal(honest.said, fooled.said)


def test_labels_that_training_never_saw_are_wrong_and_named() -> None:
    validation = [*bright_classes(20, 2, start=500), sample(900, label=7)]
    scores = measure(context(bright_classes(80, 2), validation), OPTIONS)
    assert scores.metrics["top1"] == pytest.approx(20 / 21)
    assert scores.baselines["chance"]["top1"] == pytest.approx(20 / 21 / 2)
    assert "1 class of" in scores.notes[0]
    assert scores.notes[0].endswith("cannot be right: 7")


def test_one_class_is_an_error_not_a_perfect_score() -> None:
    with pytest.raises(MuseError, match="at least two classes"):
        measure(context(bright_classes(20, 1), bright_classes(20, 1, start=500)), OPTIONS)


def test_a_score_on_images_that_were_trained_on_is_refused() -> None:
    with pytest.raises(MuseError, match="begin with the same sample"):
        measure(context(bright_classes(40, 2), bright_classes(20, 2)), OPTIONS)


def test_unlabelled_training_data_is_an_error() -> None:
    with pytest.raises(MuseError, match="has a label"):
        measure(context([sample(1), sample(2)], bright_classes(4, 2, start=500)), OPTIONS)


def test_two_samples_can_be_split_and_one_cannot() -> None:
    with pytest.raises(MuseError, match="two classes"):
        measure(context(bright_classes(1, 1), bright_classes(4, 2, start=500)), OPTIONS)
    measure(context(bright_classes(2, 2), bright_classes(4, 2, start=500)), OPTIONS)


def test_it_runs_by_its_declaration_and_refuses_wrong_options() -> None:
    here = context(bright_classes(40, 2), bright_classes(20, 2, start=500))
    assert run_probe("linear", LINEAR, here, {"epochs": 5}).command == "probe linear"
    with pytest.raises(MuseError, match="epoch: is not known") as caught:
        run_probe("linear", LINEAR, here, {"epoch": 5})
    assert caught.value.exit_code == ExitCode.SETTINGS
    with pytest.raises(MuseError, match="learns from training data"):
        run_probe("linear", LINEAR, replace(here, train=None))


def test_the_last_blocks_are_joined_and_named_once() -> None:
    assert layer_names("", 2) == ("block-1", "block-2")
    assert layer_names("texture, latent") == ("texture", "latent")
    with pytest.raises(MuseError, match="the same thing twice") as caught:
        layer_names("texture", 2)
    assert caught.value.exit_code == ExitCode.SETTINGS
    scores = measure(
        context(bright_classes(40, 2), bright_classes(20, 2, start=500)), LinearOptions(blocks=2, epochs=5)
    )
    assert scores.protocol.fields["layers"] == ["block-1", "block-2"]
    share = scores.metrics["top1"]
    assert scores.standard_errors["top1"] == pytest.approx((share * (1 - share) / 20) ** 0.5)


def test_c4_labelled_shards_are_read_and_the_score_is_of_the_last_epoch_once() -> None:
    """The reference read caption shards (no sample at all) and reported the best of many looks at the test data."""
    train = [*bright_classes(60, 3), sample(400), sample(401)]
    scores = measure(context(train, bright_classes(30, 3, start=500)), OPTIONS)
    assert scores.protocol.fields["train_images"] == 60
    assert scores.metrics["top1"] > 0.9
    assert sum(int(row["chosen"] or 0) for row in scores.tables["sweep"]) == 1  # chosen on a held-out part of training
