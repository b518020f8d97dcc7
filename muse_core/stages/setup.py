"""From settings to a `Run`: the one place that turns numbers into networks, readers and optimizers.

Settings stop here; what is built takes values.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from muse_core.data.loader import Batches, eval_batches
from muse_core.data.source import open_source
from muse_core.data.transforms import train_transform
from muse_core.errors import MuseError
from muse_core.image_files import noted
from muse_core.model.build import ConnectorSpec, build_network
from muse_core.model.checkpoint import CheckpointState, describe, load_network, read_state
from muse_core.model.discriminator import PatchDiscriminator
from muse_core.model.network import MuseNetwork
from muse_core.model.numbers import WHOLE, Lowered
from muse_core.model.opening import open_network
from muse_core.model.routing import ROUTINGS
from muse_core.progress import Progress, warn_once
from muse_core.run_checkpoints import point_to_best
from muse_core.runs import RunFolder
from muse_core.settings.train import TrainSettings
from muse_core.stages.acceleration import compile_parts, recompute
from muse_core.stages.adversary import Adversary
from muse_core.stages.judging import active_losses, build_judges, frozen_parts, refuse_other_judges
from muse_core.stages.objective import Decoding, Judges, Objective, Trainee
from muse_core.stages.stage import STAGES, Division, Objectives, divide, freeze
from muse_core.stages.validation import Validation, without_masks
from muse_core.training.average import Average
from muse_core.training.held_out import HeldOut
from muse_core.training.lanes import images_at_once, lane_plan
from muse_core.training.optimizers import build_optimizer, named
from muse_core.training.run import Identity, Pace, Run, cursor_of, seed_everything
from muse_core.training.watch import Watch

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


def _adversary(settings: TrainSettings, accelerator: Accelerator, dtype: torch.dtype) -> Adversary | None:
    if settings.losses.adversarial == 0:
        return None
    optim = settings.optim
    return Adversary(
        new_discriminator(settings.run.size).to(dtype),
        lr=optim.discriminator_lr,
        betas=(optim.beta1, optim.beta2),
        weight_decay=optim.weight_decay,
        lecam=settings.losses.lecam,
        start=settings.losses.adversarial_start,
        clip=optim.clip,
        accelerator=accelerator,
    )


def _batches(settings: TrainSettings, accelerator: Accelerator, cursor: Mapping[int, int]) -> Batches:
    data, size = settings.data, settings.model.resolution
    source = open_source(str(data.train), size=size)
    return Batches(
        source,
        batch_size=images_at_once(settings),
        transform=train_transform(size, flip=data.flip),
        lanes=lane_plan(settings, source, accelerator.num_processes).lanes,
        seed=settings.run.seed,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        workers=data.workers,
        cursor=dict(cursor),
        limit_errors=data.limit_errors,
    )


def _validation(
    settings: TrainSettings, device: torch.device, dtype: torch.dtype, progress: Progress
) -> Validation | None:
    if settings.data.val is None:
        return None
    source = open_source(settings.data.val, split="val", size=settings.model.resolution)
    read = eval_batches(source, batch_size=32, size=settings.model.resolution, limit=settings.data.val_images)
    batches = [without_masks(batch.to(device, dtype)) for batch in read]
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


def build_run(
    settings: TrainSettings, folder: RunFolder, progress: Progress, accelerator: Accelerator, init: Path | None
) -> Run:
    """Build everything of a stage; continues when the folder has a checkpoint."""
    seed_everything(settings.run.seed, accelerator.process_index)
    resumed = folder.last_checkpoint()
    if resumed:
        (network, state), cursor = load_network(resumed, average=False), cursor_of(read_state(resumed))
        _refuse_foreign(resumed, state, settings)
        encoder_trained = state.encoder_trained
    else:
        network, started = _start(settings, init)
        cursor, encoder_trained = {}, bool(started and started.encoder_trained)
    division = division_of(network, settings)
    freeze(network, division)
    dtype = torch.float64 if settings.training.precision == "fp64" else torch.float32
    _place(network, accelerator.device, dtype, settings)
    train_encoder = "encoder" in STAGES[settings.run.stage].trained
    lowered = lowered_of(settings, accelerator.mixed_precision)
    trainee = Trainee(
        network,
        train_encoder=train_encoder,
        routing=ROUTINGS[settings.training.routing],
        gradient_scale=settings.optim.gradient_scale,
        lowered=lowered,
    )
    judges = build_judges(
        settings.run.size, settings.losses, network.connector.caption_width, accelerator.device, dtype
    )
    encoder_trained = encoder_trained or train_encoder
    frozen = frozen_parts(settings.run.size, network, judges, encoder_trained=encoder_trained)
    if resumed:
        refuse_other_judges(resumed, state, frozen)
    weights = named(trainee.named_parameters())
    watch = Watch(str(folder.path), accelerator.device, at_once=accelerator.device.type == "cpu")
    run = Run(
        identity=_identity(settings, encoder_trained, frozen),
        pace=_pace(settings),
        network=network,
        trainee=accelerator.prepare(trainee),
        objective=build_objective(settings, judges, accelerator.process_index, accelerator.num_processes, lowered),
        weights=weights,
        optimizer=_optimizer(settings, weights, watch),
        average=Average(weights, settings.optim.average_decay),
        adversary=_adversary(settings, accelerator, dtype),
        batches=iter(_batches(settings, accelerator, cursor)),
        validation=_validation(settings, accelerator.device, dtype, progress) if accelerator.is_main_process else None,
        folder=folder,
        accelerator=accelerator,
        progress=progress,
        watch=watch,
        held_out=HeldOut.recorded(STAGES[settings.run.stage].decides, folder.metrics()),
        dtype=dtype,
        cursor=dict(cursor),
    )
    if resumed:
        run.restore(resumed)
        if accelerator.is_main_process:  # a process that was killed while it saved may not have come to this
            point_to_best(folder.path, run.held_out.best)
    if settings.training.compile:
        compile_parts(network, judges)
    return run


def _place(network: MuseNetwork, device: torch.device, dtype: torch.dtype, settings: TrainSettings) -> None:
    """Put a network where and as it is to compute."""
    network.to(device, dtype)
    network.decoder.to(memory_format=torch.channels_last)  # convolutions want it, and so do norms over channels
    if settings.training.checkpointing:
        recompute(network)


def _optimizer(settings: TrainSettings, weights: Mapping[str, nn.Parameter], watch: Watch) -> Optimizer:
    optim = settings.optim
    return build_optimizer(
        weights,
        lr=optim.lr,
        encoder_lr_scale=optim.encoder_lr_scale,
        weight_decay=optim.weight_decay,
        betas=(optim.beta1, optim.beta2),
        spoilt=None if watch.at_once else watch.spoilt,
    )


def _identity(settings: TrainSettings, encoder_trained: bool, frozen: Mapping[str, str]) -> Identity:
    return Identity(settings.run.size, settings.run.stage, spec_of(settings), encoder_trained, frozen)


def _pace(settings: TrainSettings) -> Pace:
    training, optim = settings.training, settings.optim
    return Pace(
        steps=training.steps,
        warmup_steps=warmup_of(settings),
        end_factor=min(1.0, optim.end_lr / optim.lr),
        accumulation=training.accumulation,
        clip=optim.clip,
        log_every=training.log_every,
        eval_every=training.eval_every,
        sample_every=training.sample_every,
        save_every=training.save_every,
        keep=training.keep,
    )
