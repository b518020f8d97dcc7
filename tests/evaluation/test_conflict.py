"""The gradient meter: cosines with missing gradients as zero, and streams that never meet told apart from 0."""

import math

import pytest
import torch

from muse_core.evaluation.conflict import EVERYTHING, ConflictMeter, gradient, groups_of
from tests.model.small import BLOCKS, small_network

GROUPS = {EVERYTHING: ("a", "b", "c"), "shared": ("a",), "apart": ("b", "c")}


def meter(*batches: dict[str, dict[str, torch.Tensor | None]]) -> ConflictMeter:
    made = ConflictMeter(GROUPS, ("pixels", "topology"))
    for batch in batches:
        made.add(batch)
    return made


def batch(angle: float) -> dict[str, dict[str, torch.Tensor | None]]:
    """Two streams at an angle in `a`; each has a weight of its own."""
    turned = torch.tensor([math.cos(angle), math.sin(angle)])
    return {
        "pixels": {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([2.0]), "c": None},
        "topology": {"a": turned, "b": None, "c": torch.tensor([1.0])},
    }


def test_the_cosine_of_a_group_is_that_of_its_gradients() -> None:
    met = meter(batch(math.pi / 3)).meeting("shared", "pixels", "topology")
    assert met.cosine == pytest.approx(0.5)
    assert met.energies == pytest.approx((1.0, 1.0))
    assert met.error is None


def test_b5_a_missing_gradient_counts_as_zero() -> None:
    met = meter(batch(math.pi / 3)).meeting(EVERYTHING, "pixels", "topology")
    assert met.cosine == pytest.approx(0.5 / math.sqrt(5 * 2))


def test_paths_that_never_meet_are_disjoint_not_orthogonal() -> None:
    measured = meter(batch(math.pi / 2))
    assert measured.meeting("apart", "pixels", "topology").cosine is None
    assert measured.meeting("shared", "pixels", "topology").cosine == pytest.approx(0.0, abs=1e-7)


def test_the_mean_over_batches_has_a_standard_error() -> None:
    met = meter(batch(0.0), batch(math.pi)).meeting("shared", "pixels", "topology")
    assert met.cosine == pytest.approx(0.0, abs=1e-7)
    assert met.error == pytest.approx(1.0)


def test_the_shares_of_a_stream_tell_where_it_learns() -> None:
    measured = meter(batch(1.0))
    assert measured.share("shared", "pixels") == pytest.approx(1 / 5)
    assert measured.share("apart", "pixels") == pytest.approx(4 / 5)


def test_every_weight_is_in_one_group_and_blocks_are_told_apart() -> None:
    network = small_network()
    names = {name for name, _ in network.named_parameters()}
    groups = groups_of(network, names)
    parts = [name for group, weights in groups.items() if group != EVERYTHING for name in weights]
    assert sorted(parts) == sorted(names)
    assert sorted(groups[EVERYTHING]) == sorted(names)
    blocks = [f"block {k} {kind}" for k in range(BLOCKS) for kind in ("QK", "S", "V+out+mlp")]
    assert list(groups) == [EVERYTHING, "encoder", "adapter", *blocks, "to latent", "decoder", "projector"]
    assert all("topology" in name for name in groups["block 1 QK"])


def test_a_loss_without_any_path_has_no_gradient() -> None:
    weight = torch.ones(2, requires_grad=True)
    other = torch.ones(2, requires_grad=True)
    assert gradient(torch.tensor(1.0), {"weight": weight}) == {"weight": None}
    found = gradient((weight * 3).sum(), {"weight": weight, "other": other})
    assert found["other"] is None
    assert found["weight"] is not None
