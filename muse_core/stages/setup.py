"""From settings to the tokenizer's task: the one place that turns numbers into networks, readers and losses.

Settings stop here; what is built takes values.
"""

from collections.abc import Generator, Mapping
from pathlib import Path

import torch

from muse_core.data.loader import Batches, eval_batches
from muse_core.data.sample import Batch
from muse_core.data.source import open_source
from muse_core.data.transforms import train_transform
from muse_core.errors import MuseError
from muse_core.image_files import noted
from muse_core.model.build import ConnectorSpec, build_network
from muse_core.model.checkpoint import CheckpointState, describe, load_network
from muse_core.model.discriminator import PatchDiscriminator
from muse_core.model.network import MuseNetwork
from muse_core.model.numbers import WHOLE, Lowered
from muse_core.model.opening import open_network
from muse_core.model.routing import ROUTINGS
from muse_core.progress import Progress, warn_once
from muse_core.settings.train import TrainSettings
from muse_core.stages.acceleration import compile_parts, recompute
from muse_core.stages.adversary import Adversary
from muse_core.stages.judging import active_losses, build_judges, frozen_parts, refuse_other_judges
from muse_core.stages.objective import Decoding, Judges, Objective, Trainee
from muse_core.stages.stage import STAGES, STREAM_OF, Division, Objectives, divide, freeze, part_of
from muse_core.stages.task import Read, TokenizerTask
from muse_core.stages.validation import Validation, without_masks
from muse_core.training.lanes import images_at_once, lane_plan
from muse_core.training.optimization import parameter_groups
from muse_core.training.schedule import Intervals, Schedule
from muse_core.training.task import Compute, Partition
from muse_core.training.trainer import TrainerSettings

TINY_DISCRIMINATOR = {"width": 24, "multipliers": (1, 2), "groups": 8, "grid": 8}


def spec_of(settings: TrainSettings) -> ConnectorSpec:
    """Collect the numbers of the connector."""
    model = settings.model
    return ConnectorSpec(
        layout=model.layout,
        width=model.width,
        heads=model.heads,
        blocks=model.blocks,
        latent_channels=model.latent_channels,
        inject=model.inject,
        resolution=model.resolution,
        semantic_input=model.semantic_input,
    )


def objectives_of(settings: TrainSettings) -> Objectives:
    """Say what decides which weights can be reached."""
    losses = settings.losses
    return Objectives(
        topology=losses.topology > 0,
        contrastive=losses.contrastive > 0,
        topology_last_only=losses.topology_blocks == "last",
        contrastive_last_only=settings.model.layout == "released",
        injects=settings.model.layout == "muse" and settings.model.inject,
        routing=ROUTINGS[settings.training.routing],
        named_only=settings.training.trains == "paper",
    )


def division_of(network: MuseNetwork, settings: TrainSettings) -> Division:
    """Decide which weights train."""
    return divide(network, STAGES[settings.run.stage], objectives_of(settings))


def decoded_at_once(settings: TrainSettings) -> int:
    """Return how many of the images that all processes read at once are decoded.

    `training.reconstruct` counts a whole batch, however many processes and parts share it.
    """
    training = settings.training
    part = training.batch_size // training.accumulation
    return max(1, min(part, round((training.reconstruct or training.batch_size) / training.accumulation)))


def decoded_share(settings: TrainSettings, local: int) -> int:
    """Return how many of its `local` images a process decodes at most."""
    world = settings.training.batch_size // settings.training.accumulation // local
    return -(-decoded_at_once(settings) // world)


def warmup_of(settings: TrainSettings) -> int:
    """Return the steps of warm-up: never more than half of a short run."""
    return min(settings.optim.warmup_steps, settings.training.steps // 2)


def build_objective(
    settings: TrainSettings, judges: Judges, rank: int = 0, world: int = 1, lowered: Lowered = WHOLE
) -> Objective:
    """Put the losses of a stage together, for one of `world` processes."""
    blocks = tuple(range(settings.model.blocks))
    released = settings.model.layout == "released"
    return Objective(
        weights=active_losses(settings.losses),
        judges=judges,
        pixel_kind=settings.losses.pixel_kind,
        topology_blocks=blocks[-1:] if settings.losses.topology_blocks == "last" else blocks,
        contrastive_blocks=blocks[-1:] if released else blocks,
        decoding=Decoding(decoded_at_once(settings), rank, world),
        lowered=lowered,
    )


def new_discriminator(size: str) -> PatchDiscriminator:
    """Build the discriminator of a size: the released one, or a narrower one for tiny."""
    return PatchDiscriminator(**TINY_DISCRIMINATOR) if size == "tiny" else PatchDiscriminator()  # type: ignore[arg-type]


def lowered_of(settings: TrainSettings, mixed_precision: str) -> Lowered:
    """Say what frozen parts compute in; `mixed_precision` is what the trained ones do."""
    wanted = settings.training.frozen_precision
    low = mixed_precision if wanted == "auto" else wanted
    return Lowered(torch.bfloat16) if low == "bf16" else WHOLE


def _adversary(settings: TrainSettings, compute: Compute) -> Adversary | None:
    if settings.losses.adversarial == 0:
        return None
    optim = settings.optim
    return Adversary(
        new_discriminator(settings.run.size),
        lr=optim.discriminator_lr,
        weight_decay=optim.weight_decay,
        lecam=settings.losses.lecam,
        start=settings.losses.adversarial_start,
        compute=compute,
    )


def build_reader(settings: TrainSettings, compute: Compute) -> Read:
    """Open the training data; what is returned reads one process's part of them from where each lane had come."""
    data, size = settings.data, settings.model.resolution
    source = open_source(str(data.train), size=size)
    lanes = lane_plan(settings, source, compute.world).lanes

    def read(cursor: Mapping[int, int]) -> Generator[Batch]:
        batches = Batches(
            source,
            batch_size=images_at_once(settings),
            transform=train_transform(size, flip=data.flip),
            lanes=lanes,
            seed=settings.run.seed,
            rank=compute.rank,
            world=compute.world,
            workers=data.workers,
            cursor=dict(cursor),
            limit_errors=data.limit_errors,
        )
        return iter(batches)

    return read


def _validation(settings: TrainSettings, compute: Compute, progress: Progress) -> Validation | None:
    """Read the held-out images, once; only the first process measures."""
    if settings.data.val is None or compute.rank:
        return None
    source = open_source(settings.data.val, split="val", size=settings.model.resolution)
    read = eval_batches(source, batch_size=32, size=settings.model.resolution, limit=settings.data.val_images)
    batches = [without_masks(batch.to(compute.device, compute.dtype)) for batch in read]
    for note in noted(batches[-1].notes):
        warn_once(progress, f"{source.name}: {note}")
    return Validation(batches)


def _start(settings: TrainSettings, init: Path | None) -> tuple[MuseNetwork, CheckpointState | None]:
    """Build the network, from the averaged weights of `init` where there is one.

    Raises:
        MuseError: `init` has other numbers than the settings.
    """
    spec = spec_of(settings)
    if init is None:
        return build_network(settings.run.size, spec), None
    network, state = open_network(init)
    refuse_other_numbers(init, state, settings)
    return network, state


def refuse_other_numbers(init: Path, state: CheckpointState, settings: TrainSettings) -> None:
    """Refuse to start from a checkpoint of another shape.

    Raises:
        MuseError: `init` has other numbers than the settings.
    """
    theirs, ours = vars(state.spec) | {"size": state.size}, vars(spec_of(settings)) | {"size": settings.run.size}
    differing = [key for key in ours if theirs[key] != ours[key] and key != "resolution"]
    if differing:
        said = "; ".join(f"{key} {theirs[key]} there, {ours[key]} here" for key in differing)
        sets = [f"--set model.{key}={str(theirs[key]).lower()}" for key in differing if key != "size"]
        raise MuseError(f"{init} does not fit the settings: {said}", hint=f"--init none, or {' '.join(sets)}")


def _refuse_foreign(checkpoint: Path, state: CheckpointState, settings: TrainSettings) -> None:
    if (state.size, state.stage, state.spec) != (settings.run.size, settings.run.stage, spec_of(settings)):
        raise MuseError(
            f"{checkpoint} is not of this run: it is of {describe(state)}",
            hint="take it out of the run folder, or start a new run from it with --init",
        )


def build_task(
    settings: TrainSettings, init: Path | None, progress: Progress, compute: Compute, checkpoint: Path | None
) -> TokenizerTask:
    """Build a stage: its network, what the losses compare with, its discriminator and its data.

    checkpoint: of the same run, to go on from; else `init`, or a new connector on published parts.
    """
    stage = STAGES[settings.run.stage]
    network, before = _weights(settings, init, checkpoint)
    freeze(network, division_of(network, settings))
    _place(network, compute, settings)
    learns = "encoder" in stage.trained
    lowered = lowered_of(settings, compute.mixed_precision)
    trainee = Trainee(
        network,
        train_encoder=learns,
        routing=ROUTINGS[settings.training.routing],
        gradient_scale=settings.optim.gradient_scale,
        lowered=lowered,
    )
    size = settings.run.size
    judges = build_judges(size, settings.losses, network.connector.caption_width, compute.device, compute.dtype)
    encoder_trained = learns or bool(before and before.encoder_trained)
    frozen = frozen_parts(size, network, judges, encoder_trained=encoder_trained)
    if checkpoint and before:
        refuse_other_judges(checkpoint, before, frozen)
    task = TokenizerTask(
        title=f"stage {stage.number}",
        network=network,
        module=trainee,
        partition=_partition(trainee, division_of(network, settings), settings),
        objective=build_objective(settings, judges, compute.rank, compute.world, lowered),
        opponent=_adversary(settings, compute),
        read=build_reader(settings, compute),
        validation=_validation(settings, compute, progress),
        state=CheckpointState(size, stage.number, 0, spec_of(settings), encoder_trained, frozen),
        decides=stage.decides,
    )
    if settings.training.compile:
        compile_parts(network, judges)
    return task


def _weights(
    settings: TrainSettings, init: Path | None, checkpoint: Path | None
) -> tuple[MuseNetwork, CheckpointState | None]:
    """Return the network with the weights it goes on from, and what the checkpoint of these says."""
    if checkpoint is None:
        return _start(settings, init)
    network, state = load_network(checkpoint, average=False)
    _refuse_foreign(checkpoint, state, settings)
    return network, state


def _place(network: MuseNetwork, compute: Compute, settings: TrainSettings) -> None:
    """Put a network where and as it is to compute."""
    network.to(compute.device, compute.dtype)
    network.decoder.to(memory_format=torch.channels_last)  # convolutions want it, and so do norms over channels
    if settings.training.checkpointing:
        recompute(network)


def _partition(trainee: Trainee, division: Division, settings: TrainSettings) -> Partition:
    """Group the weights that train: an encoder among them learns more slowly; streams are clipped on their own."""
    optim = settings.optim
    weights = {name: weight for name, weight in trainee.named_parameters() if weight.requires_grad}
    encoder = {name: weight for name, weight in weights.items() if name.startswith("encoder.")}
    others = {name: weight for name, weight in weights.items() if name not in encoder}
    groups = parameter_groups(others, optim.lr, optim.weight_decay)
    groups += parameter_groups(encoder, optim.lr * optim.encoder_lr_scale, optim.weight_decay)
    return Partition(groups, {name: STREAM_OF[part_of(name)] for name in weights}, division.frozen)


def trainer_settings(settings: TrainSettings) -> TrainerSettings:
    """Return the numbers that the engine needs."""
    training, optim = settings.training, settings.optim
    return TrainerSettings(
        schedule=Schedule(training.steps, warmup_of(settings), min(1.0, optim.end_lr / optim.lr)),
        intervals=Intervals(training.log_every, training.eval_every, training.sample_every, training.save_every),
        accumulation=training.accumulation,
        clip=optim.clip,
        betas=(optim.beta1, optim.beta2),
        ema_decays=(optim.average_decay,),
        keep=training.keep,
        seed=settings.run.seed,
        precision=training.precision,
        cpu=training.devices == "cpu",
        threads=training.threads,
        track=training.track,
    )
