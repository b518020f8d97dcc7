"""The cost of a run that is planned, in the words of the plan, and whether its devices have the memory for it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import lcm
from pathlib import Path

from muse_core.data.loader import MOST_LANES
from muse_core.devices import GIB, Devices
from muse_core.errors import ExitCode, MuseError
from muse_core.model.build import ConnectorSpec, plan_network
from muse_core.model.network import MuseNetwork
from muse_core.model.routing import ROUTINGS
from muse_core.model.weights.parts import find_part
from muse_core.settings.train import TrainSettings
from muse_core.stages.cost import Cost, PartCost, judge_parts, network_parts, opponent_part
from muse_core.stages.judging import active_losses
from muse_core.stages.setup import division_of, new_discriminator, spec_of

GIGA = 1e9
CHECKPOINTING = "--set training.checkpointing=true"


@dataclass(frozen=True)
class Step:
    """All that the networks of a step depend on: sizes, the names of trained weights, losses, side in pixels, number
    formats (low: bf16), whether layers are computed again, and where published parts were found."""

    size: str
    spec: ConnectorSpec
    trained: tuple[str, ...]
    routing: str
    losses: tuple[str, ...]
    perceptual_kind: str
    side: int
    low: bool
    frozen_low: bool
    again: bool
    places: tuple[Path | None, ...]


@lru_cache(maxsize=16)
def parts_of(step: Step) -> tuple[PartCost, ...]:
    """Count the networks of a step for one image, on the meta device."""
    network, routing, losses = (
        plan_network(step.size, step.spec),
        ROUTINGS[step.routing],
        dict.fromkeys(step.losses, 1.0),
    )
    parts = network_parts(network, step.trained, routing, step.side, low=step.low, again=step.again)
    parts += judge_parts(step.size, losses, step.perceptual_kind, step.side, low=step.frozen_low)
    if "adversarial" in losses:
        parts.append(opponent_part(lambda: new_discriminator(step.size), step.side, low=step.low))
    return tuple(parts)


def cost_of(settings: TrainSettings, devices: Devices, *, again: bool) -> Cost:
    """Count what one of the devices does and holds in a step; again: layers are computed again in the backward pass."""
    training, size, spec = settings.training, settings.run.size, spec_of(settings)
    precision = "bf16" if training.precision == "auto" and devices.kind == "cuda" else training.precision
    frozen = precision if training.frozen_precision == "auto" else training.frozen_precision
    step = Step(
        size=size,
        spec=spec,
        trained=division_of(plan_network(size, spec), settings).trained,
        routing=training.routing,
        losses=tuple(active_losses(settings.losses)),
        perceptual_kind=settings.losses.perceptual_kind,
        side=settings.model.resolution,
        low=precision == "bf16",
        frozen_low=frozen == "bf16",
        again=again,
        places=() if size == "tiny" else tuple(find_part(size, role).folder for role in PUBLISHED),
    )
    local = max(training.batch_size // training.accumulation // devices.count, 1)
    decoded = most_decoded(training.reconstruct, training.accumulation, devices.count)
    cost = Cost(parts_of(step), local, decoded, devices.count, training.accumulation)
    return cost.doubled() if precision == "fp64" else cost


def most_decoded(reconstruct: int | None, accumulation: int, world: int) -> int | None:
    """Return how many images one device decodes at once at most, as `setup.decoded_share` does; None for all."""
    return None if reconstruct is None else -(-max(1, round(reconstruct / accumulation)) // world)


PUBLISHED = ("encoder", "decoder", "teacher", "text")
"""Parts whose numbers are read from their files, where these are on this machine."""


@dataclass(frozen=True)
class Fit:
    """Whether a step of a run fits into the memory of its devices, and what would make it fit."""

    settings: TrainSettings
    devices: Devices

    @cached_property
    def cost(self) -> Cost:
        """What one device does and holds in a step."""
        return cost_of(self.settings, self.devices, again=self.settings.training.checkpointing)

    def lines(self) -> Iterator[str]:
        """Yield the lines of the plan: what a step holds, on which devices, whether it fits, and what to change."""
        cost, memory = self.cost, self.devices.memory
        held = ", ".join(f"{name} {size / GIB:.2f}" for name, size in cost.memory().items())
        yield (
            f"memory {cost.reserved() / GIB:.1f} GiB a device reserved ({cost.allocated() / GIB:.1f} allocated), "
            f"computed and not measured: {held}"
        )
        if not self.devices.here:
            yield f"planned  for {self.devices}: not what this machine has"
        if memory is not None:
            words = "fits" if cost.reserved() <= memory else "does not fit" if self._hopeless else "may not fit"
            largest = self._largest(cost)
            most = f"the largest batch that fits is {largest}" if largest else "not even the smallest batch fits"
            yield f"room     {words}: {cost.reserved() / GIB:.1f} of {memory / GIB:.1f} GiB a device; {most}"
            if cost.reserved() > memory:
                yield f"change   {', or '.join(self._remedies()) or 'a smaller --size, or another machine'}"

    def problems(self) -> Iterator[MuseError]:
        """Yield why such a run cannot do its first step: not even what tensors hold has room."""
        if self._hopeless:
            need, memory = self.cost.allocated() / GIB, (self.devices.memory or 0) / GIB
            what = f"a step needs {need:,.1f} GiB a device, and there are {memory:,.1f}"
            hint = ", or ".join(self._remedies()) or "a smaller --size, or another machine"
            yield MuseError(what, hint=hint, exit_code=ExitCode.MACHINE)

    @property
    def _hopeless(self) -> bool:
        return self.devices.memory is not None and self.cost.allocated() > self.devices.memory

    def _fits(self, cost: Cost) -> bool:
        return cost.reserved() <= (self.devices.memory or 0)

    @property
    def _shared(self) -> int:
        """What the images of all devices are a multiple of, for these and the lanes to share them out."""
        return lcm(self.settings.data.lanes or MOST_LANES, self.devices.count)

    def _largest(self, cost: Cost) -> int:
        """The largest batch of all devices that fits and can be shared out to them and to the lanes."""
        images = cost.largest(self.devices.memory or 0) * self.devices.count
        return (images // self._shared * self._shared or images) * cost.accumulation

    def _remedies(self) -> list[str]:
        """What makes a step fit, the least costly first: operations, then parts of a batch, then the batch."""
        remedies, again = [], None
        if not self.settings.training.checkpointing:
            again = cost_of(self.settings, self.devices, again=True)
            if self._fits(again):
                remedies.append(f"{CHECKPOINTING} ({again.reserved() / GIB:.1f} GiB)")
        parts = self._in_parts(self.cost)
        if parts:
            remedies.append(parts)
        elif again and not remedies and (both := self._in_parts(again)):
            remedies.append(f"{CHECKPOINTING} {both}")
        if largest := self._largest(self.cost):
            remedies.append(f"--batch-size {largest}")
        return remedies

    def _in_parts(self, cost: Cost) -> str | None:
        """The smallest accumulation whose parts fit and can be shared out."""
        whole, shared = self.settings.training.batch_size, self._shared
        for count in range(cost.accumulation + 1, whole // shared + 1):
            if whole % (count * shared):
                continue
            world = self.devices.count
            decoded = most_decoded(self.settings.training.reconstruct, count, world)
            smaller = replace(cost, images=whole // count // world, most_decoded=decoded, accumulation=count)
            if self._fits(smaller):
                return f"--set training.accumulation={count} ({smaller.reserved() / GIB:.1f} GiB)"
        return None


def parts_line(network: MuseNetwork) -> str:
    """Count the parameters of each part of the network that will be saved."""
    counts: Counter[str] = Counter()
    for name, weight in network.named_parameters():
        top, _, rest = name.partition(".")
        counts[rest.partition(".")[0] if top == "connector" else top] += weight.numel()
    said = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return f"network  {sum(counts.values()):,} parameters: {said}"


def compute_lines(cost: Cost) -> list[str]:
    """Say what the losses compare with, and what an image and a step cost."""
    judges = [part for part in cost.parts if part.name not in ("encoder", "connector", "decoder")]
    beside = ", ".join(f"{part.name} {part.parameters:,}" for part in judges)
    per_image = ", ".join(f"{part.name} {part.flop / GIGA:,.3g}" for part in cost.parts)
    return [
        *([f"beside   {beside}"] if beside else []),
        f"compute  GFLOP forward for one image: {per_image}; {cost.step_flop / 1e12:,.3g} TFLOP a step and device",
    ]
