"""What a step costs: parameters, floating-point operations and memory, counted on networks without weights.

Everything here is computed, nothing is measured: operations are those of matrix products, convolutions and attention,
and memory is what the tensors that must be there take, without the allocator's rest and without temporary buffers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import convnext_small, vgg16

from muse_core.losses.perceptual import CONVNEXT_SIDE, VGG_LAYERS, parse_perceptual
from muse_core.model.discriminator import PatchDiscriminator
from muse_core.model.images import pad_to_multiple
from muse_core.model.network import MuseNetwork
from muse_core.model.routing import Routing
from muse_core.model.weights import tiny
from muse_core.model.weights.parts import find_part
from muse_core.model.weights.published import new_teacher, new_text

FLOAT, HALF = 4, 2
ADAM_MOMENTS = 2
# Forward passes of one image that a training step costs: a backward pass costs one for the gradient of the input and
# one for that of the weights.
TRAINED, FROZEN = 3, 1
_CONVNEXT = (CONVNEXT_SIDE, CONVNEXT_SIDE)  # it sees every image at this size
JUDGED = 3  # two images forward, and back to the pixels of one of them
OPPOSED = 8  # the generator's turn: forward and back to the pixels; the discriminator's: two images, both ways


@dataclass(frozen=True)
class PartCost:
    """One network: its parameters, how many of them train, and per image operations forward, how many such passes a
    step takes, and the bytes that are kept for the backward pass in float32."""

    name: str
    parameters: int
    trained: int = 0
    flop: int = 0
    passes: int = 0
    kept: int = 0


@dataclass(frozen=True)
class Cost:
    """parts of a step; images read and decoded by one device at once; processes; bytes of a kept number."""

    parts: tuple[PartCost, ...]
    images: int
    decoded: int
    processes: int
    kept_bytes: int

    @property
    def step_flop(self) -> int:
        """Operations of one device in one forward and backward pass."""
        return sum(part.flop * part.passes * self._images_of(part) for part in self.parts)

    def memory(self) -> dict[str, int]:
        """Bytes on one device, by what they are for."""
        trained = sum(part.trained for part in self.parts)
        averaged = sum(part.trained for part in self.parts if part.name != "discriminator")
        copies = 2 if self.processes > 1 else 1  # data parallel keeps gradients in buckets as well
        kept = sum(part.kept * self._images_of(part) for part in self.parts)
        return {
            "weights": FLOAT * sum(part.parameters for part in self.parts),
            "gradients": FLOAT * copies * trained,
            "optimizer": FLOAT * ADAM_MOMENTS * trained,
            "average": FLOAT * averaged,
            "activations": kept * self.kept_bytes // FLOAT,
        }

    def _images_of(self, part: PartCost) -> int:
        return self.decoded if part.name in DECODED else self.images


DECODED = ("decoder", "lpips", "convnext_s", "tiny-features", "discriminator")


@dataclass(frozen=True)
class Counted:
    """Operations and kept bytes of one call."""

    flop: int
    kept: int


def count(call: Callable[[], object], *modules: nn.Module) -> Counted:
    """Count one call on the meta device; weights of the modules are not counted as kept, they are there anyway."""
    own = {tensor.untyped_storage()._cdata for module in modules for tensor in module.state_dict().values()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # held, so that no other storage takes its place
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        FlopCounterMode(display=False) as counter,
    ):
        call()
    return Counted(counter.get_total_flops(), sum(storage.nbytes() for storage in kept.values()))


def network_parts(network: MuseNetwork, trained: frozenset[str], routing: Routing, side: int) -> list[PartCost]:
    """Count encoder, connector and decoder of a network on the meta device, for square images of a side."""
    for name, weight in network.named_parameters():
        weight.requires_grad_(name in trained)
    images = pad_to_multiple(torch.empty(1, 3, side, side, device="meta"), network.cell)
    cells = images.shape[-1] // network.cell
    with torch.set_grad_enabled(any(weight.requires_grad for weight in network.encoder.parameters())):
        encoder = count(lambda: network.encoder(images), network)
    patches = cells * network.connector.fold_side
    tokens = torch.empty(1, patches, patches, network.encoder.width, device="meta")
    connector = count(lambda: network.connector(tokens, routing), network)
    latents = torch.empty(1, network.connector.to_latent.out_features, cells, cells, device="meta", requires_grad=True)
    decoder = count(lambda: network.decode(latents, (side, side)), network)
    counted = {"encoder": encoder, "connector": connector, "decoder": decoder}
    return [_part(name, getattr(network, name), trained, one) for name, one in counted.items()]


def _part(name: str, module: nn.Module, trained: frozenset[str], counted: Counted) -> PartCost:
    sizes = {f"{name}.{key}": weight.numel() for key, weight in module.named_parameters()}
    training = sum(size for key, size in sizes.items() if key in trained)
    passes = TRAINED if training else FROZEN
    return PartCost(name, sum(sizes.values()), training, counted.flop, passes, counted.kept)


def judge_parts(size: str, losses: Mapping[str, float], perceptual_kind: str, side: int) -> list[PartCost]:
    """Count what the active losses compare with, on the meta device."""
    parts: list[PartCost] = []
    with torch.device("meta"):
        image = torch.empty(1, 3, side, side)
        if "topology" in losses:
            parts.append(_frozen("teacher", _teacher(size), image))
        if "contrastive" in losses:
            parts.append(_text(size))
        if "perceptual" in losses:
            parts += _perceptual(size, perceptual_kind, image)
    return parts


def opponent_part(discriminator: Callable[[], PatchDiscriminator], side: int) -> PartCost:
    """Count the discriminator, which trains beside the network."""
    with torch.device("meta"):
        model = discriminator()
        image = torch.empty(1, 3, side, side, requires_grad=True)
    counted = count(lambda: model(image), model)
    own = sum(weight.numel() for weight in model.parameters())
    return PartCost("discriminator", own, own, counted.flop, OPPOSED, counted.kept)


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


def _perceptual(size: str, kind: str, image: Tensor) -> list[PartCost]:
    if size == "tiny":
        layers = tiny.new_backbone()
        layers.encoder.layer = layers.encoder.layer[:2]
        return [_judged("tiny-features", layers, image)]
    networks: Mapping[str, Callable[[], PartCost]] = {
        "lpips": lambda: _judged("lpips", vgg16(weights=None).features[:VGG_LAYERS], image),
        "convnext_s": lambda: _judged("convnext_s", convnext_small(weights=None), torch.empty(1, 3, *_CONVNEXT)),
    }
    return [networks[name]() for name in parse_perceptual(kind)]


def _judged(name: str, model: nn.Module, image: Tensor) -> PartCost:
    model.requires_grad_(False)
    pixels = image.detach().requires_grad_()
    counted = count(lambda: model(pixels), model)
    return PartCost(name, _size(model), flop=counted.flop, passes=JUDGED, kept=counted.kept)


def _size(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())
