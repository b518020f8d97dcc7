"""What a step costs: parameters, floating-point operations and memory, counted on networks without weights.

Everything here is computed, nothing is measured: operations are those of matrix products, convolutions and attention;
memory is that of the tensors which a step holds at its fullest moment, when all losses are computed and no gradient is.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torchvision.models import convnext_small, vgg16

from muse_core.losses.perceptual import (
    LPIPS,
    VGG_LAYERS,
    VGG_WIDTHS,
    ConvNextLogits,
    FeatureDistance,
    Perceptual,
    parse_perceptual,
)
from muse_core.model.discriminator import PatchDiscriminator
from muse_core.model.images import pad_to_multiple
from muse_core.model.network import MuseNetwork
from muse_core.model.routing import Routing
from muse_core.model.weights import tiny
from muse_core.model.weights.parts import find_part
from muse_core.model.weights.published import new_teacher, new_text
from muse_core.stages.acceleration import layers_of, recompute
from muse_core.stages.judging import TINY_PERCEPTUAL_LAYERS, tiny_features
from muse_core.training.counting import Counted, count

FLOAT = 4
ADAM_MOMENTS = 2
RESERVED = 1.07
"""What torch's allocator takes from the device for each byte that tensors hold, its gaps and the buffers of a moment
included. Measured on an H200 at three settings of 1b against the bytes counted here (docs/training-speed.md): 1.07,
1.03 and 1.12."""

# Forward passes of one image that a training step costs: a backward pass costs one for the gradient of the input and
# one for that of the weights.
TRAINED, FROZEN = 3, 1
JUDGED = 3  # two images forward, and back to the pixels of one of them
OPPOSED = 8  # the generator's turn: forward and back to the pixels; the discriminator's: two images, both ways


@dataclass(frozen=True)
class PartCost:
    """One network: its parameters, how many of them train, and per image operations forward, how many such passes a
    step takes, and the bytes that are kept for the backward pass; then the bytes of weights that are kept in bf16 as
    well, and those that an image takes for a moment where a layer is computed a second time."""

    name: str
    parameters: int
    trained: int = 0
    flop: int = 0
    passes: int = 0
    kept: int = 0
    copies: int = 0
    again: int = 0


@dataclass(frozen=True)
class Cost:
    """parts of a step; images that one device reads at once; how many of them it decodes at most (None: all);
    processes; parts a batch is computed in; bytes of a weight."""

    parts: tuple[PartCost, ...]
    images: int
    most_decoded: int | None
    processes: int
    accumulation: int = 1
    weight_bytes: int = FLOAT

    @property
    def step_flop(self) -> int:
        """Operations of one device in one forward and backward pass."""
        return sum(part.flop * part.passes * self._images_of(part) for part in self.parts)

    def memory(self) -> dict[str, int]:
        """Bytes of tensors on one device at the fullest moment of a step, by what they are for."""
        trained = self.weight_bytes * sum(part.trained for part in self.parts)
        averaged = sum(part.trained for part in self.parts if part.name != OPPONENT)
        copies = sum(part.copies for part in self.parts)
        kept = sum(part.kept * self._images_of(part) for part in self.parts)
        again = max((part.again * self._images_of(part) for part in self.parts), default=0)
        # Of one process, gradients take the place of what is kept, except those of earlier parts of the batch. Data
        # parallel processes always hold them, in the buckets that are exchanged.
        held = trained if self.processes > 1 or self.accumulation > 1 else max(0, trained - kept - copies - again)
        return {
            "weights": self.weight_bytes * sum(part.parameters for part in self.parts),
            "copies": copies,
            "gradients": held,
            "optimizer": ADAM_MOMENTS * trained,
            "average": self.weight_bytes * averaged,
            "activations": max(kept + again, self._judged()),
        }

    def allocated(self) -> int:
        """Bytes of tensors on one device at the fullest moment of a step."""
        return sum(self.memory().values())

    def reserved(self) -> int:
        """Bytes that the allocator then has taken from the device."""
        return round(RESERVED * self.allocated())

    def doubled(self) -> "Cost":
        """Return the cost where every number takes twice the bytes, as float64 does."""
        parts = tuple(replace(part, kept=2 * part.kept, again=2 * part.again) for part in self.parts)
        return replace(self, parts=parts, weight_bytes=2 * self.weight_bytes)

    def largest(self, memory: int) -> int:
        """Return how many images at once fit into this much memory of a device; 0 if none does."""
        fewest, most = 0, 1
        while replace(self, images=most).reserved() <= memory:
            fewest, most = most, 2 * most
        while most - fewest > 1:
            middle = (fewest + most) // 2
            fits = replace(self, images=middle).reserved() <= memory
            fewest, most = (middle, most) if fits else (fewest, middle)
        return fewest

    def _judged(self) -> int:
        """Bytes that the discriminator's own step keeps: of real and painted images of all parts of a batch at once."""
        opponents = [part for part in self.parts if part.name == OPPONENT]
        return sum(2 * self.accumulation * part.kept * self._images_of(part) for part in opponents)

    def _images_of(self, part: PartCost) -> int:
        few = part.name in DECODED and self.most_decoded is not None
        return min(self.images, self.most_decoded or 0) if few else self.images


OPPONENT = "discriminator"
DECODED = ("decoder", "lpips", "convnext_s", "tiny-features", "discriminator")


def network_parts(
    network: MuseNetwork, trained: Iterable[str], routing: Routing, side: int, *, low: bool = False, again: bool = False
) -> list[PartCost]:
    """Count encoder, connector and decoder of a network on the meta device, for square images of a side.

    low: in bf16 under autocast; again: layers are computed a second time in the backward pass (this changes `network`).
    """
    chosen = frozenset(trained)
    for name, weight in network.named_parameters():
        weight.requires_grad_(name in chosen)
    first = _network_calls(network, routing, side, low)
    if not again:
        return [_part(name, getattr(network, name), chosen, one) for name, one in first.items()]
    recompute(network)
    second = _network_calls(network, routing, side, low)
    return [
        _part(name, getattr(network, name), chosen, replace(second[name], flop=one.flop), one.largest)
        for name, one in first.items()
    ]


def _network_calls(network: MuseNetwork, routing: Routing, side: int, low: bool) -> dict[str, Counted]:
    images = pad_to_multiple(torch.empty(1, 3, side, side, device="meta"), network.cell)
    cells = images.shape[-1] // network.cell
    learns = any(weight.requires_grad for weight in network.encoder.parameters())
    layers = tuple(layers_of(network))
    with torch.set_grad_enabled(learns):
        encoder = count(lambda: network.encoder(images), network, low=low, layers=layers)
    patches = cells * network.connector.fold_side
    tokens = torch.empty(1, patches, patches, network.encoder.width, device="meta", requires_grad=learns)
    connector = count(lambda: network.connector(tokens, routing), network, low=low)
    latents = torch.empty(1, network.connector.to_latent.out_features, cells, cells, device="meta", requires_grad=True)
    decoder = count(lambda: network.decode(latents, (side, side)), network, low=low, layers=layers)
    return {"encoder": encoder, "connector": connector, "decoder": decoder}


def _part(name: str, module: nn.Module, trained: frozenset[str], counted: Counted, again: int = 0) -> PartCost:
    sizes = {f"{name}.{key}": weight.numel() for key, weight in module.named_parameters()}
    training = sum(size for key, size in sizes.items() if key in trained)
    passes = TRAINED + (again > 0) if training else FROZEN
    return PartCost(
        name, sum(sizes.values()), training, counted.flop, passes, counted.kept, copies=counted.copies, again=again
    )


def judge_parts(
    size: str, losses: Mapping[str, float], perceptual_kind: str, side: int, *, low: bool = False
) -> list[PartCost]:
    """Count what the active losses compare with, on the meta device; low: in bf16 under autocast."""
    parts: list[PartCost] = []
    with torch.device("meta"):
        image = torch.empty(1, 3, side, side)
        if "topology" in losses:
            parts.append(_frozen("teacher", _teacher(size), image))
        if "contrastive" in losses:
            parts.append(_text(size))
        if "perceptual" in losses:
            parts += [_judged(*one, image, low) for one in _perceptual(size, perceptual_kind)]
    return parts


def opponent_part(discriminator: Callable[[], PatchDiscriminator], side: int, *, low: bool = False) -> PartCost:
    """Count the discriminator, which trains beside the network; kept is what the generator's loss keeps in it."""
    with torch.device("meta"):
        model = discriminator().requires_grad_(False)
        image = torch.empty(1, 3, side, side, requires_grad=True)
    counted = count(lambda: model(image), model, low=low)
    own = _size(model)
    return PartCost(OPPONENT, own, own, counted.flop, OPPOSED, counted.kept, counted.copies)


def _frozen(name: str, model: nn.Module, image: Tensor) -> PartCost:
    with torch.no_grad():
        counted = count(lambda: model(_whole_patches(model, image)), model)
    return PartCost(name, _size(model), flop=counted.flop, passes=FROZEN)


def _whole_patches(model: nn.Module, image: Tensor) -> Tensor:
    return pad_to_multiple(image, int(model.config.patch_size))  # type: ignore[union-attr, arg-type]


def _teacher(size: str) -> nn.Module:
    model: nn.Module = tiny.new_teacher() if size == "tiny" else new_teacher(find_part(size, "teacher").folder)
    return model


def _text(size: str) -> PartCost:
    model = tiny.new_text(len(tiny.load_words())) if size == "tiny" else new_text(find_part(size, "text").folder)
    ids = torch.zeros(1, model.config.max_position_embeddings, dtype=torch.int64)
    with torch.no_grad():
        counted = count(lambda: model(input_ids=ids), model)
    return PartCost("text", _size(model), flop=counted.flop, passes=FROZEN)


def _perceptual(size: str, kind: str) -> list[tuple[str, nn.Module, Perceptual]]:
    """Return the distances of a perceptual loss on the meta device, each with its name and its network."""
    if size == "tiny":
        layers = tiny.new_backbone()
        layers.encoder.layer = layers.encoder.layer[:TINY_PERCEPTUAL_LAYERS]
        return [("tiny-features", layers, FeatureDistance(tiny_features(layers, TINY_PERCEPTUAL_LAYERS)))]
    return [(name, network, network) for name in parse_perceptual(kind) for network in [_published(name)]]


def _published(name: str) -> LPIPS | ConvNextLogits:
    if name == "lpips":
        return LPIPS(vgg16(weights=None).features[:VGG_LAYERS], [torch.empty(1, w, 1, 1) for w in VGG_WIDTHS])
    return ConvNextLogits(convnext_small(weights=None))


def _judged(name: str, model: nn.Module, distance: Perceptual, image: Tensor, low: bool) -> PartCost:
    model.requires_grad_(False)
    counted = count(lambda: distance(image.detach().requires_grad_(), image), model, low=low)
    one_of_two = counted.flop // 2
    return PartCost(name, _size(model), flop=one_of_two, passes=JUDGED, kept=counted.kept, copies=counted.copies)


def _size(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())
