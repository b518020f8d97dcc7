"""The three stages as values: which parts train, and where each weight of the network belongs.

A part is a set of weights; a stream is the set of parts that one kind of loss owns and that is clipped together.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from muse_core.model.network import MuseNetwork
from muse_core.model.routing import Routing
from muse_core.training.held_out import Score

PARTS = ("encoder", "adapter", "topology", "semantic", "texture", "decoder")

STREAM_OF: Mapping[str, str] = {
    "encoder": "shared",
    "adapter": "shared",
    "topology": "topology",
    "semantic": "semantic",
    "texture": "pixels",
    "decoder": "pixels",
}
"""Clipping parts of different streams together would couple them again: a large pixel gradient would shorten the
topology step."""


@dataclass(frozen=True)
class Stage:
    """One stage: its name, the parts that train in it, those that the paper names for it, and the held-out score that
    decides which of its checkpoints is the best."""

    number: int
    title: str
    trained: frozenset[str]
    named: frozenset[str]
    decides: Score


_PIXELS = frozenset({"adapter", "topology", "texture", "decoder"})
_ALL = frozenset(PARTS)
UNITS = {"psnr": "dB", "topology": "nats"}
"""Of what is measured on held-out images."""

_KL = Score("topology", higher=False, units=UNITS)
_PSNR = Score("psnr", higher=True, units=UNITS)
STAGES: Mapping[int, Stage] = {
    1: Stage(1, "topology", _PIXELS, named=frozenset({"topology"}), decides=_KL),
    2: Stage(2, "semantics", _PIXELS | {"semantic"}, named=frozenset({"topology", "semantic"}), decides=_PSNR),
    3: Stage(3, "synergy", _ALL, named=_ALL, decides=_PSNR),
}
"""The paper's table names W_Q and W_K for stage 1, W_V and the projector for stage 2; its figure draws the topology
loss in both."""


@dataclass(frozen=True)
class Objectives:
    """What decides which weights train: active losses, whether anchors are mixed in, how gradients go, and whether only
    what the paper names does.
    """

    topology: bool
    contrastive: bool
    topology_last_only: bool
    contrastive_last_only: bool
    injects: bool
    routing: Routing
    named_only: bool = False


def part_of(name: str) -> str:
    """Say which part a weight of `MuseNetwork` belongs to, by its name."""
    top, _, rest = name.partition(".")
    if top != "connector":
        return top
    if rest.startswith("adapter."):
        return "adapter"
    if rest.startswith("projector.") or rest == "logit_scale":
        return "semantic"
    if rest.startswith("blocks."):
        kind = rest.split(".")[2]
        return kind if kind in ("topology", "semantic") else "texture"
    return "texture"


def unreached(name: str, blocks: int, objectives: Objectives) -> str | None:
    """Say why no active loss can reach a weight, or None if one does.

    Only what a setting implies is known here; `refuse_dead_weights` finds the rest.
    """
    part = part_of(name)
    words = name.split(".")
    earlier = "blocks" in words and int(words[words.index("blocks") + 1]) < blocks - 1
    through_attention = not objectives.routing.attention
    # With split "through", a loss on the last block trains the texture of earlier blocks, never their own streams.
    if part == "topology" and not through_attention:
        if not objectives.topology:
            return "no topology loss"
        if objectives.topology_last_only and earlier:
            return "the topology loss is on the last block only"
    if part == "semantic":
        mixed_in = not objectives.routing.anchor and objectives.injects and "blocks" in words
        if not objectives.contrastive and not mixed_in:
            return "no contrastive loss"
        if objectives.contrastive_last_only and earlier and not mixed_in:
            return "the contrastive loss is on the last block only"
    if name.endswith(".gate") and not objectives.contrastive:
        return "its anchor is untrained without a contrastive loss"
    return None


@dataclass(frozen=True)
class Division:
    """Names of trained weights, and of frozen ones with the reason."""

    trained: tuple[str, ...]
    frozen: Mapping[str, str]


def divide(network: MuseNetwork, stage: Stage, objectives: Objectives) -> Division:
    """Decide for each weight whether it trains in a stage."""
    parts = stage.named if objectives.named_only else stage.trained
    trained: list[str] = []
    frozen: dict[str, str] = {}
    for name, _ in network.named_parameters():
        part = part_of(name)
        reason = None if part in parts else f"stage {stage.number} does not train the {part}"
        reason = reason or unreached(name, len(network.connector.blocks), objectives)
        if reason:
            frozen[name] = reason
        else:
            trained.append(name)
    return Division(tuple(trained), frozen)


def freeze(network: nn.Module, division: Division) -> None:
    """Let exactly the trained weights take gradients."""
    chosen = set(division.trained)
    for name, weight in network.named_parameters():
        weight.requires_grad_(name in chosen)
