"""The probe `conflict` on the real objective: streams meet where the routing says, and a step does what it must."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import pytest
import torch

from muse_core.data.source import open_source
from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.builtin import CONFLICT
from muse_core.evaluation.features import ProbeData
from muse_core.evaluation.probing import run_probe
from muse_core.evaluation.processes import Team
from muse_core.evaluation.protocol import Scores
from muse_core.evaluation.reading import EvalData
from muse_core.evaluation.spec import ProbeContext
from muse_core.model.load import load_tokenizer
from muse_core.model.tokenizer import MuseTokenizer
from tests.evaluation.fakes import data, sample

QUICK = {"batches": 2, "batch_size": 3}


@cache
def tiny() -> MuseTokenizer:
    tokenizer: MuseTokenizer = load_tokenizer("tiny")
    return tokenizer


@cache
def measured(stage: int) -> Scores:
    return run_probe("conflict", CONFLICT, context(), {**QUICK, "stage": stage})


def context(read: EvalData | None = None) -> ProbeContext:
    read = read or EvalData(open_source("demo:val", size=64), size=64)
    return ProbeContext(tiny(), ProbeData(tiny(), read))


def test_several_processes_are_refused_with_what_to_type() -> None:
    here = context()
    with pytest.raises(MuseError, match="by one process") as caught:
        run_probe("conflict", CONFLICT, replace(here, validation=replace(here.validation, team=Team(0, 2))), QUICK)
    assert "--devices cpu" in str(caught.value.hint)


def cosines(scores: Scores, column: str) -> Mapping[tuple[str, str], object]:
    return {(str(row["weights"]), str(row["pair"])): row[column] for row in scores.tables["where streams meet"]}


@pytest.mark.slow
def test_in_stage_2_streams_meet_in_no_weight_of_the_network() -> None:
    scores = measured(2)
    assert set(cosines(scores, "cosine").values()) == {"disjoint"}
    assert set(scores.not_measured) == {
        f"cosine/{pair}" for pair in ("pixels-topology", "pixels-contrastive", "topology-contrastive")
    }
    assert "encoder" not in {group for group, _ in cosines(scores, "cosine")}  # frozen there


@pytest.mark.slow
def test_in_stage_3_they_meet_in_adapter_and_encoder_alone() -> None:
    meets = {group for (group, _), value in cosines(measured(3), "cosine").items() if value != "disjoint"}
    assert meets == {"all weights", "encoder", "adapter"}
    assert set(measured(3).not_measured) == set()
    assert measured(3).standard_errors["cosine/pixels-topology"] > 0


@pytest.mark.parametrize("stage", [2, 3])
def test_without_stop_gradients_they_would_meet_in_the_blocks(stage: int) -> None:
    free = cosines(measured(stage), "without stop-gradients")
    assert free["block 0 QK", "pixels-topology"] != "disjoint"
    assert free["block 0 S", "pixels-contrastive"] != "disjoint"
    assert free["decoder", "pixels-topology"] == "disjoint"
    assert -1 <= measured(stage).metrics["joint-cosine/pixels-topology"] <= 1


def test_a_step_lowers_its_own_loss_as_planned_and_leaves_the_weights_alone() -> None:
    before = {name: weight.clone() for name, weight in tiny().network.state_dict().items()}
    rows = measured(2).tables["one step on one loss"]
    changes = {(row["step on"], row["loss"]): float(row["relative change"] or 0) for row in rows}
    for stream in ("pixels", "topology", "contrastive"):
        assert -0.012 < changes[stream, stream] < -0.005
    assert changes["contrastive", "topology"] == pytest.approx(0, abs=1e-6)  # strict: it reaches no attention
    assert changes["topology", "contrastive"] == pytest.approx(0, abs=1e-2)
    after = tiny().network.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())
    assert not any(weight.requires_grad for weight in tiny().network.parameters())


def test_the_figure_is_a_png_and_no_part_of_the_json() -> None:
    assert measured(3).pictures["probe-conflict"].startswith(b"\x89PNG")
    assert "pictures" not in measured(3).to_json()


def test_a_pair_may_be_asked_for_and_stage_1_has_no_captions_to_ask_for() -> None:
    scores = run_probe("conflict", CONFLICT, context(), {**QUICK, "between": "pixel,topology", "batches": 1})
    assert set(scores.metrics) == {"cosine/pixels-topology", "joint-cosine/pixels-topology"}
    for wrong in ({"stage": 1, "between": "pixels,contrastive"}, {"between": "topology"}):
        with pytest.raises(MuseError) as caught:
            run_probe("conflict", CONFLICT, context(), {**QUICK, **wrong})
        assert caught.value.exit_code == ExitCode.SETTINGS


def test_data_without_captions_a_lone_image_and_other_tokenizers_are_refused() -> None:
    silent = replace(data([sample(k) for k in range(4)]), size=64)
    with pytest.raises(MuseError, match="has no captions"):
        run_probe("conflict", CONFLICT, context(silent), QUICK)
    alone = replace(data([sample(0)]), size=64)
    with pytest.raises(MuseError, match="no batch of two images"):
        run_probe("conflict", CONFLICT, context(alone), QUICK)
    untouched = load_tokenizer("tiny-encoder")
    with pytest.raises(MuseError, match="is not supported by tiny-encoder"):
        run_probe("conflict", CONFLICT, replace(context(), tokenizer=untouched), QUICK)
