"""Which weights move in which stage, and what is said of those that do not."""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from muse_core.errors import ExitCode, MuseError
from muse_core.model.connector import Layout
from muse_core.model.network import MuseNetwork
from muse_core.model.routing import ROUTINGS
from muse_core.runs import RunFolder
from muse_core.stages.setup import division_of
from muse_core.stages.stage import PARTS, STAGES, STREAM_OF, Objectives, divide, part_of
from muse_core.training.loop import train
from muse_core.training.optimization import Optimization, parameter_groups, refuse_dead_weights
from muse_core.training.task import Partition
from tests.model.small import BLOCKS, STREAMS, gradients, small_images, small_network
from tests.training.mini import Begun, begin, lean, train_lean

Declares = Callable[[str], bool]


def has(*parts: str) -> Declares:
    return lambda name: any(part in name for part in parts)


PIXELS = has("adapter.", ".topology.", ".texture.", ".out.", ".feed_forward.", "to_latent.", "decoder.")
MEANING = has(".semantic.", "projector.", "logit_scale", ".gate")
DECLARED: dict[int, Declares] = {
    1: PIXELS,
    2: lambda name: PIXELS(name) or MEANING(name),
    3: lambda name: True,
}
"""The table of the architecture, by name. In stage 1 gates stay shut: the anchors behind them are untrained."""


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def frozen_judges(run: Begun) -> dict[str, Tensor]:
    judges = run.objective.judges
    parts = {"teacher": judges.teacher and judges.teacher.model, "text": judges.text and judges.text.tower.model}
    return {f"{key}.{name}": value for key, part in parts.items() if part for name, value in copied(part).items()}


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_stage_moves_exactly_the_weights_it_declares(stage: int, tmp_path: Path) -> None:
    run = begin(stage, tmp_path / "run", {"training.steps": 2})
    before, judges = copied(run.network), frozen_judges(run)
    train(run.trainer)
    after = run.network.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved == {name for name in before if DECLARED[stage](name)}
    assert judges
    assert all(torch.equal(value, judges[name]) for name, value in frozen_judges(run).items())


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_what_is_declared_is_what_takes_gradients_and_what_the_optimizer_holds(stage: int, tmp_path: Path) -> None:
    run = begin(stage, tmp_path / "run")
    trained = {name for name, weight in run.network.named_parameters() if weight.requires_grad}
    assert trained == {name for name, _ in run.network.named_parameters() if DECLARED[stage](name)}
    held = {id(weight) for group in run.optimizer.param_groups for weight in group["params"]}
    assert held == {id(weight) for name, weight in run.network.named_parameters() if name in trained}
    assert set(run.weights) == set(run.average.shadow) == trained


def test_a5_a_frozen_part_never_enters_training_mode(tmp_path: Path) -> None:
    run = begin(2, tmp_path / "run")
    run.trainee.train()
    judges = run.objective.judges
    assert judges.teacher is not None
    assert judges.text is not None
    for part in (run.network.encoder.vision, judges.teacher.model, judges.text.tower.model):
        assert not any(module.training for module in part.modules())
        assert not any(weight.requires_grad for weight in part.parameters())
    assert run.network.connector.training


def test_the_encoder_learns_more_slowly_and_vectors_do_not_decay(tmp_path: Path) -> None:
    run = begin(3, tmp_path / "run")
    names = {id(weight): name for name, weight in run.network.named_parameters()}
    for group in run.optimizer.param_groups:
        for weight in group["params"]:
            name = names[id(weight)]
            assert group["peak"] == pytest.approx(1e-3 * (0.5 if name.startswith("encoder.") else 1.0)), name
            excepted = weight.ndim < 2 or "embeddings" in name
            assert group["weight_decay"] == (0.0 if excepted else 1e-4), name


def test_every_weight_has_one_part_and_one_stream() -> None:
    for layout, inject in (("muse", True), ("muse", False), ("released", True)):
        network = small_network(layout, inject)  # type: ignore[arg-type]
        assert {part_of(name) for name, _ in network.named_parameters()} == set(PARTS)
    assert set(STREAM_OF) == set(PARTS)


# What cannot be reached is frozen with its reason; what is left must be reached.


def reach(network: MuseNetwork, objectives: Objectives) -> set[str]:
    """The weights that pixels and the active losses have a path to, found by differentiating."""
    found: set[str] = set()
    active = {"pixels": True, "topology": objectives.topology, "contrastive": objectives.contrastive}
    last = {"topology": objectives.topology_last_only, "contrastive": objectives.contrastive_last_only}
    for stream in STREAMS:
        if active[stream]:
            shown = gradients_of_last_block if last.get(stream) else gradients
            table = shown(stream, network, objectives.routing, small_images(2))
            found |= {name for name, gradient in table.items() if gradient is not None}
    return found


def gradients_of_last_block(stream: str, network: MuseNetwork, routing: object, images: Tensor) -> dict[str, object]:
    from dataclasses import replace

    connect = network.connect

    def last_only(images: Tensor, routing: object) -> object:
        out = connect(images, routing)  # type: ignore[arg-type]
        return replace(out, attentions=out.attentions[-1:], anchors=out.anchors[-1:])

    network.connect = last_only  # type: ignore[method-assign, assignment]
    try:
        return dict(gradients(stream, network, routing, images))  # type: ignore[arg-type]
    finally:
        del network.connect


@pytest.mark.parametrize("routing", list(ROUTINGS))
@pytest.mark.parametrize(("layout", "inject"), [("muse", True), ("muse", False), ("released", True)])
def test_a2_exactly_what_an_active_loss_reaches_is_trained(layout: Layout, inject: bool, routing: str) -> None:
    for topology, contrastive, last in product((True, False), repeat=3):
        network = small_network(layout, inject, blocks=2)
        objectives = Objectives(
            topology=topology,
            contrastive=contrastive,
            topology_last_only=last,
            contrastive_last_only=layout == "released",
            injects=inject and layout == "muse",
            routing=ROUTINGS[routing],
        )
        division = divide(network, STAGES[3], objectives)
        reachable = reach(network, objectives)
        if not contrastive:  # a choice, not a fact of the graph: see DECLARED
            reachable = {name for name in reachable if not name.endswith(".gate")}
        assert set(division.trained) == reachable, objectives
        assert set(division.trained) | set(division.frozen) == {name for name, _ in network.named_parameters()}


def reasons(stage: int, **changes: object) -> dict[str, str]:
    settings = lean(stage, {key.replace("__", "."): value for key, value in changes.items()})
    network = small_network(settings.model.layout, settings.model.inject)
    return dict(division_of(network, settings).frozen)


@pytest.mark.parametrize(("stage", "parts"), [(1, {"topology"}), (2, {"topology", "semantic"}), (3, set(PARTS))])
def test_only_what_the_paper_names_trains_when_so_asked(stage: int, parts: set[str]) -> None:
    settings = lean(stage, {"training.trains": "paper", "training.routing": "figure"})
    division = division_of(small_network("muse"), settings)
    assert {part_of(name) for name in division.trained} == parts


def test_as_the_figure_draws_it_pixels_train_queries_and_keys(tmp_path: Path) -> None:
    """Stage 1 of the paper's recipe: even with the topology loss off, W_Q and W_K move, and they alone."""
    changes = {"training.trains": "paper", "training.routing": "figure", "losses.topology": 0.0}
    run = begin(1, tmp_path / "run", changes)
    batch = run.next_batch()
    loss = run.losses(batch)["pixel"]
    loss.backward()
    weights = dict(run.network.named_parameters())
    moved = {name for name, weight in weights.items() if weight.grad is not None and bool(weight.grad.any())}
    assert moved == {name for name in weights if part_of(name) == "topology"}


def test_a_topology_loss_on_the_last_block_freezes_the_queries_and_keys_before_it() -> None:
    frozen = reasons(3, losses__topology_blocks="last")
    assert set(frozen.values()) == {"the topology loss is on the last block only"}
    assert {name.split(".")[2] for name in frozen} == {str(block) for block in range(BLOCKS - 1)}
    assert {name.split(".")[3] for name in frozen} == {"topology"}


def test_without_a_topology_loss_attention_stays_as_it_is() -> None:
    frozen = reasons(3, losses__topology=0)
    assert set(frozen.values()) == {"no topology loss"}
    assert {name.split(".")[3] for name in frozen} == {"topology"}


def test_without_a_contrastive_loss_anchors_stay_as_they_are_and_gates_stay_shut() -> None:
    frozen = reasons(3, losses__contrastive=0)
    gates = {name for name, reason in frozen.items() if reason.startswith("its anchor is untrained")}
    assert gates == {f"connector.blocks.{block}.gate" for block in range(BLOCKS)}
    others = {name for name, reason in frozen.items() if reason == "no contrastive loss"}
    assert gates | others == set(frozen)
    assert {part_of(name) for name in others} == {"semantic"}


def test_a_part_that_a_stage_does_not_train_says_so() -> None:
    frozen = reasons(1)
    assert frozen["encoder.vision.embeddings.cls_token"] == "stage 1 does not train the encoder"
    assert frozen["connector.logit_scale"] == "stage 1 does not train the semantic"


def test_a2_a_weight_that_should_learn_and_cannot_is_refused_by_name() -> None:
    weights = {f"connector.blocks.{i}.out.weight": nn.Parameter(torch.zeros(2, 2)) for i in range(8)}
    for weight in list(weights.values())[:1]:
        weight.grad = torch.zeros(2, 2)
    with pytest.raises(MuseError) as caught:
        refuse_dead_weights(weights)
    assert caught.value.exit_code == ExitCode.SETTINGS
    assert caught.value.what.startswith("7 weights are to be trained but no active loss reaches them")
    assert "connector.blocks.1.out.weight" in caught.value.what
    assert caught.value.what.endswith("and 2 more")
    for weight in weights.values():
        weight.grad = torch.zeros(2, 2)
    refuse_dead_weights(weights)


def test_a2_a_run_with_weights_that_no_loss_reaches_ends_before_its_first_step(tmp_path: Path) -> None:
    with pytest.raises(MuseError, match="no active loss reaches them") as caught:
        train_lean(1, tmp_path / "run", {"losses.pixel": 0, "losses.perceptual": 0})
    assert caught.value.exit_code == ExitCode.SETTINGS
    status = RunFolder(tmp_path / "run").status
    assert (status.state, status.exit_code, status.step) == ("failed", ExitCode.SETTINGS, 0)
    assert RunFolder(tmp_path / "run").checkpoints() == []


@pytest.mark.parametrize(
    "losses",
    [
        {"pixel": 0, "perceptual": 0, "topology": 0},
        {"pixel": 0, "perceptual": 0, "topology": 0, "contrastive": 0.2},
        {"pixel": 0, "perceptual": 0, "topology": 0, "adversarial": 0.5, "adversarial_start": 2},
    ],
)
def test_losses_that_reach_nothing_are_a_mistake_in_the_settings(losses: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(MuseError) as caught:
        train_lean(1, tmp_path / "run", {f"losses.{name}": weight for name, weight in losses.items()})
    assert caught.value.exit_code == ExitCode.SETTINGS


# Clipping.


def made_up(norms: dict[str, float]) -> dict[str, nn.Parameter]:
    """One weight per stream with a gradient of a norm."""
    weights = {}
    for name, norm in norms.items():
        weights[name] = nn.Parameter(torch.zeros(4))
        weights[name].grad = torch.full((4,), norm / 2)
    return weights


class Named(nn.Module):
    """A module whose weights have the names of a network's."""

    def __init__(self, weights: dict[str, nn.Parameter]) -> None:
        super().__init__()
        self.weights = weights

    def named_parameters(self, *_: object, **__: object) -> Iterator[tuple[str, nn.Parameter]]:
        return iter(self.weights.items())


def clipped(weights: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    partition = Partition(parameter_groups(weights, 1e-3, 0.0), {name: STREAM_OF[part_of(name)] for name in weights})
    return Optimization(Named(weights), partition, betas=(0.9, 0.999), clip=1.0).clip_gradients()


def test_clipping_one_stream_leaves_the_others_alone() -> None:
    norms = {
        "connector.blocks.0.texture.weight": 1e6,
        "connector.blocks.0.topology.query.weight": 0.5,
        "connector.projector.0.weight": 0.25,
        "connector.adapter.1.weight": 3.0,
    }
    weights = made_up(norms)
    found = clipped(weights)
    assert {stream: pytest.approx(float(norm)) for stream, norm in found.items()} == {
        "pixels": 1e6,
        "topology": 0.5,
        "semantic": 0.25,
        "shared": 3.0,
    }
    after = [float(weight.grad.norm()) for weight in weights.values() if weight.grad is not None]
    assert after == pytest.approx([1.0, 0.5, 0.25, 1.0], rel=1e-4)


def test_weights_of_one_stream_are_clipped_together() -> None:
    weights = made_up({"connector.to_latent.weight": 3.0, "decoder.decoder.conv_in.weight": 4.0})
    assert clipped(weights) == {"pixels": pytest.approx(5.0)}
    after = [float(weight.grad.norm()) for weight in weights.values() if weight.grad is not None]
    assert after == pytest.approx([0.6, 0.8], rel=1e-4)


def test_a_huge_pixel_gradient_does_not_shorten_the_topology_step(tmp_path: Path) -> None:
    """One step of plain gradient descent, where a shorter gradient is a shorter step; Adam would hide it."""
    after = {}
    for weight in (1.0, 1e6):
        run = begin(1, tmp_path / f"weight-{weight:g}", {"losses.pixel": weight, "training.steps": 1})
        optimization = run.trainer.learner.optimization
        plain = torch.optim.SGD([{**group, "lr": 1.0} for group in optimization.optimizer.param_groups])
        optimization.optimizer = plain  # type: ignore[assignment]
        train(run.trainer)
        after[weight] = copied(run.network)
    topology = [name for name in after[1.0] if ".topology." in name]
    assert topology
    assert all(torch.equal(after[1.0][name], after[1e6][name]) for name in topology)
    assert not torch.equal(after[1.0]["connector.to_latent.weight"], after[1e6]["connector.to_latent.weight"])


def test_groups_without_members_are_left_out() -> None:
    groups = parameter_groups({"connector.to_latent.weight": nn.Parameter(torch.zeros(2, 2))}, 1e-3, 0.1)
    assert [(group.lr, group.weight_decay) for group in groups] == [(1e-3, 0.1)]
