"""Where gradients go, over the names of the weights: for each routing and each layout."""

from functools import cache

import pytest
import torch
from torch import Tensor

from muse_core.model.connector import Layout, scale_gradient
from muse_core.model.network import MuseNetwork
from muse_core.model.routing import ROUTINGS
from tests.model.small import BLOCKS, STREAMS, gradients, reached, small_images, small_network

LAYOUTS: tuple[Layout, ...] = ("muse", "released")


@cache
def streams_of(layout: Layout, routing: str, inject: bool = True) -> dict[str, set[str]]:
    """For every weight, the streams whose loss has a gradient path to it."""
    network = small_network(layout, inject)
    paths = {stream: reached(stream, network, ROUTINGS[routing]) for stream in STREAMS}
    return {name: {stream for stream in STREAMS if name in paths[stream]} for name, _ in network.named_parameters()}


def of_blocks(table: dict[str, set[str]]) -> dict[str, set[str]]:
    return {name: streams for name, streams in table.items() if name.startswith("connector.blocks.")}


def of_part(table: dict[str, set[str]], prefix: str) -> set[frozenset[str]]:
    """The different sets of streams that reach the weights under a prefix."""
    found = {frozenset(streams) for name, streams in table.items() if name.startswith(prefix)}
    assert found, prefix
    return found


def only(*streams: str) -> set[frozenset[str]]:
    return {frozenset(streams)}


# Strict and open: inside the blocks the streams never meet.


@pytest.mark.parametrize("routing", ["strict", "open"])
@pytest.mark.parametrize("inject", [True, False])
def test_no_weight_of_a_block_is_reached_by_two_streams(routing: str, inject: bool) -> None:
    table = of_blocks(streams_of("muse", routing, inject))
    assert table
    assert {name: streams for name, streams in table.items() if len(streams) != 1} == {}


@pytest.mark.parametrize("routing", ["strict", "open"])
def test_structure_goes_to_queries_and_keys_meaning_to_the_anchor_pixels_to_the_rest(routing: str) -> None:
    for name, streams in of_blocks(streams_of("muse", routing)).items():
        kind = name.split(".")[3]
        assert streams == {"topology": {"topology"}, "semantic": {"contrastive"}}.get(kind, {"pixels"}), name


@pytest.mark.parametrize("routing", ["strict", "open"])
def test_a_released_block_shares_one_gain_between_streams_and_nothing_else(routing: str) -> None:
    table = of_blocks(streams_of("released", routing))
    shared = {name: streams for name, streams in table.items() if len(streams) != 1}
    assert shared == {f"connector.blocks.{i}.norm1.weight": {"pixels", "topology"} for i in range(BLOCKS)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strict_sends_only_pixels_to_adapter_and_encoder(layout: Layout) -> None:
    table = streams_of(layout, "strict")
    assert of_part(table, "connector.adapter.") == only("pixels")
    assert of_part(table, "encoder.") == only("pixels")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_open_sends_all_three_to_adapter_and_encoder(layout: Layout) -> None:
    table = streams_of(layout, "open")
    assert of_part(table, "connector.adapter.") == only(*STREAMS)
    assert of_part(table, "encoder.") == only(*STREAMS)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("routing", list(ROUTINGS))
def test_heads_belong_to_one_stream_in_every_routing(layout: Layout, routing: str) -> None:
    table = streams_of(layout, routing)
    assert of_part(table, "connector.to_latent.") == of_part(table, "decoder.") == only("pixels")
    assert of_part(table, "connector.projector.") == of_part(table, "connector.logit_scale") == only("contrastive")


def test_a3_losses_of_structure_and_meaning_train_no_texture() -> None:
    for routing in ("strict", "open"):
        for name, streams in streams_of("muse", routing).items():
            if any(part in name for part in (".texture.", ".out.", ".feed_forward.", ".gate")):
                assert streams == {"pixels"}, (routing, name)


def test_the_straight_path_passes_a_gradient_on_as_it_is_and_past_the_block() -> None:
    x, origin, received = (torch.randn(2, 3, requires_grad=True) for _ in range(3))
    read = ROUTINGS["open"].read(x, origin)
    assert torch.equal(read, x)
    to_x, to_origin = torch.autograd.grad(read, (x, origin), received.detach(), allow_unused=True)
    assert to_x is None
    assert torch.equal(to_origin, received)


# Joint and released: where they do meet.


def test_joint_is_entangled() -> None:
    table = streams_of("muse", "joint")
    last = f"connector.blocks.{BLOCKS - 1}."
    for name, streams in of_blocks(table).items():
        expected = set(STREAMS) if not name.startswith(last) else {"pixels", *_own(name)}
        assert streams == expected, name


def _own(name: str) -> set[str]:
    return {"topology": {"topology"}, "semantic": {"contrastive"}}.get(name.split(".")[3], set())


def test_routing_released_entangles_the_texture_of_all_blocks_but_the_last() -> None:
    table = streams_of("released", "released")
    for block in range(BLOCKS):
        expected = only(*STREAMS) if block < BLOCKS - 1 else only("pixels")
        assert of_part(table, f"connector.blocks.{block}.texture.") == expected
        assert of_part(table, f"connector.blocks.{block}.topology.query.") == only("topology")


# What is computed never depends on it.


@torch.no_grad()
def outputs(network: MuseNetwork, routing: str) -> list[Tensor]:
    images = small_images(2, 14, 19)
    out = network.connect(images, ROUTINGS[routing])
    return [out.latents, out.tokens, *out.attentions, *out.anchors, network.decode(out.latents, (14, 19))]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_routing_changes_no_bit_of_any_output(layout: Layout) -> None:
    network = small_network(layout)
    strict = outputs(network, "strict")
    for routing in ROUTINGS:
        assert all(map(torch.equal, outputs(network, routing), strict)), routing


def test_routing_changes_no_bit_in_training_either() -> None:
    network = small_network()
    losses = {routing: gradients_and_loss(network, routing) for routing in ROUTINGS}
    assert len(set(losses.values())) == 1


def gradients_and_loss(network: MuseNetwork, routing: str) -> tuple[float, ...]:
    from tests.model.small import loss_of

    return tuple(loss_of(stream, network, ROUTINGS[routing], small_images()).item() for stream in STREAMS)


def test_scaling_a_gradient_changes_no_value() -> None:
    x = torch.randn(5, 7, requires_grad=True)
    for factor in (0.5, 1.0, 0.1, 0.0):
        scaled = scale_gradient(x, factor)
        assert torch.equal(scaled, x)
        (gradient,) = torch.autograd.grad(scaled.sum(), x)
        torch.testing.assert_close(gradient, torch.full_like(x, factor))


# The anchor in the texture stream.


def test_an_untrained_anchor_has_no_influence_on_pixels() -> None:
    network = small_network()
    for block in network.connector.blocks:
        torch.nn.init.zeros_(block.gate)  # type: ignore[arg-type]
    before = network(small_images())
    for block in network.connector.blocks:
        torch.nn.init.normal_(block.semantic.weight)  # type: ignore[union-attr, arg-type]
    assert torch.equal(network(small_images()), before)


def test_a_new_connector_starts_with_gates_at_zero() -> None:
    from muse_core.model.connector import Connector

    connector = Connector(encoder_width=4, width=8, heads=2, blocks=2, latent_channels=2, caption_width=4)
    gates = [weight for name, weight in connector.named_parameters() if name.endswith("gate")]
    assert len(gates) == 2
    assert not any(gate.any() for gate in gates)


def test_a4_the_anchor_is_mixed_into_the_texture_behind_a_stop() -> None:
    network = small_network()
    before = network(small_images())
    last = network.connector.blocks[-1]
    last.semantic.weight.data.mul_(-1)  # type: ignore[union-attr, operator]
    assert not torch.allclose(network(small_images()), before)
    assert "connector.blocks.2.semantic.weight" not in reached("pixels", network, ROUTINGS["open"])


def test_without_injection_there_is_no_gate_and_the_anchor_never_touches_pixels() -> None:
    network = small_network(inject=False)
    assert not any(name.endswith("gate") for name, _ in network.named_parameters())
    before = network(small_images())
    for block in network.connector.blocks:
        torch.nn.init.normal_(block.semantic.weight)  # type: ignore[union-attr, arg-type]
    assert torch.equal(network(small_images()), before)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("routing", list(ROUTINGS))
def test_a2_queries_keys_and_anchors_of_every_block_learn(layout: Layout, routing: str) -> None:
    network = small_network(layout)
    structure = gradients("topology", network, ROUTINGS[routing])
    meaning = gradients("contrastive", network, ROUTINGS[routing])
    for block in range(BLOCKS):
        for weight in ("query", "key", "query_norm", "key_norm"):
            assert norm(structure[f"connector.blocks.{block}.topology.{weight}.weight"]) > 0
        assert norm(meaning[f"connector.blocks.{block}.semantic.weight"]) > 0


def norm(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else gradient.norm().item()


def test_a12_queries_keys_and_anchors_read_normalised_tokens() -> None:
    network = small_network()
    block, rotary = network.connector.blocks[0], network.connector.rotary((2, 3), torch.device("cpu"))
    x = torch.randn(2, 6, 16)
    small, large = (block(scale * x, x, ROUTINGS["strict"], rotary) for scale in (1, 100))
    torch.testing.assert_close(large.anchor, small.anchor)
    torch.testing.assert_close(large.attention, small.attention)
