"""The topology probe: the tokenizer beside everything that needs no learning, on the same images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from muse_core.data.sample import Sample
from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.attention import measure
from muse_core.evaluation.builtin import TOPOLOGY
from muse_core.evaluation.features import ProbeData
from muse_core.evaluation.options import TopologyOptions
from muse_core.evaluation.probing import run_probe
from muse_core.evaluation.spec import ProbeContext
from muse_core.evaluation.topology import gaussian_map
from tests.evaluation.fakes import SIDE, Looks, MeanColours, data, sample

GRID = (4, 4)
UNIFORM = torch.full((16, 16), 1 / 16)


def masked(key: int) -> Sample:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:12, 4 * (key % 2) : 4 * (key % 2) + 8] = 5
    return sample(key, mask=mask)


def teacher(images: Tensor, grid: tuple[int, int]) -> Tensor:
    return gaussian_map(grid, 1.0).float().expand(len(images), -1, -1)


def context(tokenizer: object, **more: object) -> ProbeContext:
    probe = ProbeData(tokenizer, data([masked(key) for key in range(10)]))
    return replace(ProbeContext(tokenizer, probe, teacher=teacher), **more)  # type: ignore[arg-type]


def test_the_teachers_own_map_has_no_divergence_and_uniform_attention_all_of_it() -> None:
    taught = measure(context(Looks(gaussian_map(GRID, 1.0).float(), GRID)), TopologyOptions())
    assert taught.metrics["kl"] == pytest.approx(0.0, abs=1e-5)
    flat = measure(context(Looks(UNIFORM, GRID)), TopologyOptions())
    assert flat.metrics["kl_over_uniform"] == pytest.approx(1.0, abs=1e-6)
    assert flat.metrics["auc"] == flat.metrics["auc_distance_matched"] == 0.5


def test_baselines_stand_beside_the_score() -> None:
    scores = measure(context(Looks(gaussian_map(GRID, 2.0).float(), GRID)), TopologyOptions())
    distance = scores.baselines["distance only"]
    assert distance["auc"] > 0.6
    assert distance["auc_distance_matched"] == scores.metrics["auc_distance_matched"] == 0.5
    assert distance["kl"] == pytest.approx(0.0, abs=1e-4)
    assert {"uniform", "teacher", "mean patch colour", "best map that ignores the image"} <= scores.baselines.keys()
    assert "sigma 1" in scores.notes[0]
    assert scores.counts["seen"] == 10


def test_the_untouched_encoder_is_resized_to_the_same_grid() -> None:
    raw = Looks(torch.full((64, 64), 1 / 64), (8, 8), prefix=1)
    scores = measure(context(Looks(UNIFORM, GRID), baseline=raw), TopologyOptions())
    assert scores.baselines["untouched encoder"]["kl"] == pytest.approx(scores.metrics["kl"], abs=1e-6)


def test_a_baseline_that_shows_no_attention_is_left_out() -> None:
    scores = measure(context(Looks(UNIFORM, GRID), baseline=MeanColours()), TopologyOptions())
    assert "untouched encoder" not in scores.baselines


def test_prefix_tokens_do_not_count() -> None:
    plain = measure(context(Looks(gaussian_map(GRID, 2.0).float(), GRID)), TopologyOptions())
    prefixed = measure(context(Looks(gaussian_map(GRID, 2.0).float(), GRID, prefix=3)), TopologyOptions())
    assert prefixed.metrics == pytest.approx(dict(plain.metrics), abs=1e-6)


def test_without_masks_only_agreement_is_measured_and_the_rest_is_listed() -> None:
    tokenizer = Looks(UNIFORM, GRID)
    bare = ProbeData(tokenizer, data([sample(key) for key in range(5)]))
    scores = measure(context(tokenizer, validation=bare), TopologyOptions())
    assert set(scores.metrics) == {"kl", "kl_over_uniform"}
    assert set(scores.not_measured) == {"auc", "auc_distance_matched"}


def test_without_a_teacher_only_objects_are_measured() -> None:
    scores = measure(context(Looks(UNIFORM, GRID), teacher=None), TopologyOptions())
    assert set(scores.metrics) == {"auc", "auc_distance_matched"}
    assert "no teacher" in scores.not_measured["kl"]
    assert scores.protocol.fields["teacher"] == "none"


def test_with_neither_there_is_nothing_to_say() -> None:
    tokenizer = Looks(UNIFORM, GRID)
    bare = ProbeData(tokenizer, data([sample(1)]))
    with pytest.raises(MuseError, match="compared with nothing"):
        measure(context(tokenizer, validation=bare, teacher=None), TopologyOptions())


def test_it_runs_by_its_declaration_and_names_a_missing_ability() -> None:
    assert run_probe("topology", TOPOLOGY, context(Looks(UNIFORM, GRID))).command == "probe topology"
    with pytest.raises(MuseError, match="lacks attends"):
        run_probe("topology", TOPOLOGY, context(MeanColours()))


def test_a_layer_that_does_not_exist_is_refused() -> None:
    with pytest.raises(MuseError, match="no attention layer 3") as caught:
        measure(context(Looks(UNIFORM, GRID)), TopologyOptions(layer="3"))
    assert caught.value.exit_code == ExitCode.SETTINGS


def test_another_teacher_is_another_protocol() -> None:
    tokenizer = Looks(UNIFORM, GRID)

    def sharper(images: Tensor, grid: tuple[int, int]) -> Tensor:
        return gaussian_map(grid, 0.5).float().expand(len(images), -1, -1)

    one, other = (measure(context(tokenizer, teacher=who), TopologyOptions()) for who in (teacher, sharper))
    assert one.protocol.column("kl") != other.protocol.column("kl")
