"""The cost of a run that is planned, in the words of the plan."""

from collections import Counter

from muse_core.machine import choose_devices
from muse_core.model.network import MuseNetwork
from muse_core.model.routing import ROUTINGS
from muse_core.settings.train import TrainSettings
from muse_core.training.cost import FLOAT, HALF, Cost, judge_parts, network_parts, opponent_part
from muse_core.training.judging import active_losses
from muse_core.training.setup import decoded_share, new_discriminator
from muse_core.training.stages import Division

GIGA = 1e9
GIBI = 2**30


def cost_of(settings: TrainSettings, network: MuseNetwork, division: Division, world: int) -> Cost:
    """Count what one device does and holds in a step; `network` is one on the meta device."""
    training, losses, side = settings.training, active_losses(settings.losses), settings.model.resolution
    local = training.batch_size // training.accumulation // world
    parts = network_parts(network, frozenset(division.trained), ROUTINGS[training.routing], side)
    parts += judge_parts(settings.run.size, losses, settings.losses.perceptual_kind, side)
    if "adversarial" in losses:
        parts.append(opponent_part(lambda: new_discriminator(settings.run.size), side))
    kept = FLOAT if computes_in_float32(training.precision, training.devices) else HALF
    return Cost(tuple(parts), local, decoded_share(settings, local), world, kept)


def computes_in_float32(precision: str, devices: str) -> bool:
    """Say whether activations are kept in float32: as asked, or because there is no GPU."""
    if precision == "auto":
        return not choose_devices(devices)[0].startswith("cuda")
    return precision in ("fp32", "fp64")


def parts_line(network: MuseNetwork) -> str:
    """Count the parameters of each part of the network that will be saved."""
    counts: Counter[str] = Counter()
    for name, weight in network.named_parameters():
        top, _, rest = name.partition(".")
        counts[rest.partition(".")[0] if top == "connector" else top] += weight.numel()
    said = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return f"network  {sum(counts.values()):,} parameters: {said}"


def cost_lines(cost: Cost) -> list[str]:
    """Say what the judges are, what an image and a step cost, and what one device must hold."""
    judges = [part for part in cost.parts if part.name not in ("encoder", "connector", "decoder")]
    beside = ", ".join(f"{part.name} {part.parameters:,}" for part in judges)
    per_image = ", ".join(f"{part.name} {part.flop / GIGA:,.3g}" for part in cost.parts)
    memory = cost.memory()
    held = ", ".join(f"{name} {size / GIBI:.2f}" for name, size in memory.items())
    return [
        *([f"beside   {beside}"] if beside else []),
        f"compute  GFLOP forward for one image: {per_image}; {cost.step_flop / 1e12:,.3g} TFLOP a step and device",
        f"memory   {sum(memory.values()) / GIBI:.1f} GiB a device, computed and not measured: {held}",
    ]
