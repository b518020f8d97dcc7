"""What a run is going to do, in words, and everything it still lacks."""

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from muse_core.data.census import Census, caption_census
from muse_core.data.reach import open_readable
from muse_core.data.source import open_source
from muse_core.devices import Devices, planned_devices
from muse_core.errors import MuseError
from muse_core.losses.perceptual import parse_perceptual
from muse_core.model.build import plan_network
from muse_core.model.network import MuseNetwork
from muse_core.model.opening import locate
from muse_core.model.weights.parts import missing_parts
from muse_core.run_search import newest_finished
from muse_core.settings.presets import STAGES as TITLES
from muse_core.settings.train import TrainSettings
from muse_core.stages.checks import problems
from muse_core.stages.cost import Cost
from muse_core.stages.judging import TINY_PERCEPTUAL, active_losses
from muse_core.stages.planned_cost import Fit, compute_lines, parts_line
from muse_core.stages.setup import (
    decoded_share,
    division_of,
    spec_of,
    warmup_of,
)
from muse_core.stages.stage import STAGES, Division, part_of
from muse_core.training.expected import expected_line
from muse_core.training.lanes import lane_lines, lane_plan, with_lanes
from muse_core.training.plan import Plan


@dataclass(frozen=True)
class TokenizerPlan(Plan):
    """The plan of a stage. settings: with the number of lanes that was chosen, for the run to keep; cost: what a step
    takes, where that was counted."""

    settings: TrainSettings = field(kw_only=True)
    cost: Cost | None = None


def make_plan(
    settings: TrainSettings, world: int = 1, *, cost: bool = False, devices: Devices | None = None, new: bool = True
) -> TokenizerPlan:
    """Plan a run: the network is built on the meta device, the data are opened, nothing is trained.

    Args:
        settings: of the run.
        world: its processes, where `devices` does not say.
        cost: also tell parameters and operations.
        devices: what it will compute on; its memory is compared with the need, which takes a second or more.
        new: it is about to begin; False for one that goes on.
    """
    world = devices.count if devices else world
    asked, settings = settings, with_lanes(settings, world)
    network = plan_network(settings.run.size, spec_of(settings))
    division = division_of(network, settings)
    missing = _missing_weights(settings)
    init = None
    try:
        init = find_init(settings)
    except MuseError as error:
        missing.append(f"{error.what}: {error.hint}" if error.hint else error.what)
    missing += _missing_data(settings, world)
    captions = _captions(settings)
    missing += missing_captions(settings, captions)
    lines = _lines(settings, network, division, init, world)
    lines += [expected_line(settings, world)] if devices is None or devices.here else []
    lines += _contrast_lines(settings, captions)
    lines += lane_lines(asked, settings, world)
    refusals = list(problems(settings, init, new=new))
    lines += [parts_line(network)] if cost else []
    counted = None
    if cost or devices:
        fit = Fit(asked, devices or replace(_anywhere(settings), count=world))
        counted = fit.cost
        lines += [*(compute_lines(fit.cost) if cost else []), *fit.lines()]
        refusals += fit.problems()
    missing += [f"{error.what} ({error.hint})" if error.hint else error.what for error in refusals]
    return TokenizerPlan(lines, missing, init, refusals, settings=settings, cost=counted)


def _anywhere(settings: TrainSettings) -> Devices:
    return planned_devices(settings.training.devices, settings.run.size)


def find_init(settings: TrainSettings) -> Path | None:
    """Return the checkpoint that a run starts from: --init, or the newest finished previous stage of the size.

    Raises:
        MuseError: there is none.
    """
    run = settings.run
    if run.init == "none" or (run.init is None and run.stage == 1):
        return None
    if run.init is not None:
        return locate(run.init)
    previous = newest_finished(stage=run.stage - 1, size=run.size)
    checkpoint = previous.last_checkpoint() if previous else None
    if checkpoint is None:
        raise MuseError(
            f"no finished stage {run.stage - 1} of size {run.size} to start from",
            hint=f"muse train --stage {run.stage - 1} --size {run.size}, or --init CHECKPOINT, or --init none",
        )
    return checkpoint


def _missing_weights(settings: TrainSettings) -> list[str]:
    active = active_losses(settings.losses)
    roles = {"encoder", "decoder", "backbone", "pixels"}
    roles |= {"teacher"} if "topology" in active else set()
    roles |= {"text"} if "contrastive" in active else set()
    if "perceptual" in active and settings.run.size != "tiny":
        parts = parse_perceptual(settings.losses.perceptual_kind)
        roles |= {"lpips", "vgg16"} if "lpips" in parts else set()
        roles |= {"convnext_s"} if "convnext_s" in parts else set()
    found = missing_parts(settings.run.size, roles)
    missing = [f"weights of the {entry.part.purpose} ({entry.part.hub}): {entry.remedy}" for entry in found]
    kind = settings.losses.perceptual_kind
    if "perceptual" in active and settings.run.size == "tiny" and kind != TINY_PERCEPTUAL:
        missing.append(f"a perceptual loss {kind} for size tiny: --set losses.perceptual_kind={TINY_PERCEPTUAL}")
    return missing


def _missing_data(settings: TrainSettings, world: int) -> list[str]:
    if settings.data.train is None:
        return ["training data: --data SHARDS, or MUSE_DATA=SHARDS"]
    missing = []
    for where, split in ((settings.data.train, "train"), (settings.data.val, "val")):
        try:
            source = open_readable(where, split=split, size=settings.model.resolution) if where else None
            if source and split == "train":
                lane_plan(settings, source, world)
        except MuseError as error:
            missing.append(f"{split} data: {error.what}" + (f" ({error.hint})" if error.hint else ""))
    return missing


def _lines(
    settings: TrainSettings, network: MuseNetwork, division: Division, init: Path | None, world: int
) -> list[str]:
    run, training, data = settings.run, settings.training, settings.data
    counts = {name: weight.numel() for name, weight in network.named_parameters()}
    losses = ", ".join(f"{name} {weight:g}" for name, weight in active_losses(settings.losses).items())
    part = training.batch_size // training.accumulation
    return [
        f"stage {run.stage} of 3, size {run.size}: {TITLES[run.stage]}",
        f"trains   {_by_part(division.trained, counts)}",
        *_frozen_lines(division, counts),
        f"losses   {losses}",
        f"routing  {training.routing}, layout {settings.model.layout}, "
        f"topology on {settings.losses.topology_blocks} block",
        f"batch    {training.batch_size} images = {world} process(es) x {training.accumulation} part(s) x "
        f"{part // world}; {_decoded(settings, part // world)}",
        f"data     {data.train or 'not named yet'}: {_readers(settings, world)}",
        f"held out {_held_out(settings)}",
        f"starts   {_start(settings, init)}",
        f"steps    {training.steps}, peak rate {settings.optim.lr:g} after {warmup_of(settings)} warm-up steps",
    ]


def _captions(settings: TrainSettings) -> list[Census]:
    """Count the captions of the training data, where a loss needs them."""
    if settings.data.train is None or "contrastive" not in active_losses(settings.losses):
        return []
    try:
        return caption_census(open_source(settings.data.train, size=settings.model.resolution))
    except MuseError:  # told with everything else that is missing
        return []


def missing_captions(settings: TrainSettings, captions: list[Census] | None = None) -> list[str]:
    """Return what is missing where a loss learns from captions and the training data hold none.

    captions: what was counted already.
    """
    captions = _captions(settings) if captions is None else captions
    if not captions or any(census.captioned for census in captions):
        return []
    losses = active_losses(settings.losses)
    without = ", or --set losses.contrastive=0 to train without" if set(losses) - {"contrastive"} else ""
    return [
        f"captions: the contrastive loss of stage {settings.run.stage} learns from them, and "
        f"{', '.join(map(str, captions))} have one (NAME.txt beside each image, or caption in NAME.json{without})"
    ]


def _contrast_lines(settings: TrainSettings, captions: list[Census]) -> list[str]:
    if "contrastive" not in active_losses(settings.losses):
        return []
    part = settings.training.batch_size // settings.training.accumulation
    lines = [f"contrast {part} captions at once, so at most {part * (part - 1)} pairs are pushed apart"]
    if captions and not any(census.captioned for census in captions):
        return ["contrast nothing: the data hold no captions"]
    partial = [str(census) for census in captions if census.captioned < census.seen]
    if partial:
        lines.append(f"captions {'; '.join(partial)}: images without one are contrasted with nothing")
    return lines


def _readers(settings: TrainSettings, world: int) -> str:
    data = settings.data
    try:
        source = open_source(data.train or "demo", size=settings.model.resolution)
    except MuseError:  # told with everything else that is missing
        return f"{data.lanes or 'some'} lanes"
    try:
        return lane_plan(settings, source, world).describe(source, data.workers)
    except MuseError:
        return "cannot be read like this"


def _start(settings: TrainSettings, init: Path | None) -> str:
    if init is not None:
        return str(init)
    needs = settings.run.stage > 1 and settings.run.init != "none"
    return "from a previous stage that is missing" if needs else "new connector on published parts"


def _held_out(settings: TrainSettings) -> str:
    if settings.data.val is None:
        return "nothing, so nothing is measured and no checkpoint is the best; --val-data SHARDS gives both"
    return f"{settings.data.val}: {STAGES[settings.run.stage].decides} makes checkpoints/best"


def _decoded(settings: TrainSettings, local: int) -> str:
    decoded = decoded_share(settings, local)
    return "all decoded" if decoded == local else f"{decoded} of each {local} decoded"


def _by_part(names: tuple[str, ...], counts: dict[str, int]) -> str:
    sums: Counter[str] = Counter()
    for name in names:
        sums[part_of(name)] += counts[name]
    parts = ", ".join(f"{part} {count:,}" for part, count in sums.items())
    return f"{sum(sums.values()):,} weights: {parts}"


def _frozen_lines(division: Division, counts: dict[str, int]) -> list[str]:
    sums: Counter[str] = Counter()
    for name, reason in division.frozen.items():
        sums[reason] += counts[name]
    return [f"frozen   {count:,} weights: {reason}" for reason, count in sums.items()]
