"""The settings of `muse train`, in sections; every leaf is reachable as `--set SECTION.KEY=VALUE`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from muse_core.settings.section import Section

Positive = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]


class RunSettings(Section):
    """Which stage of which size, from what, to where."""

    stage: Annotated[int, Field(ge=1, le=3)] = Field(1, description="1 topology, 2 semantics, 3 synergy")
    size: Literal["tiny", "1b", "3b"] = Field("1b", description="which networks and which recipe")
    recipe: Literal["muse", "paper", "released"] = Field(
        "muse", description="where paper and public code disagree: our reading, the paper's, or the code's"
    )
    init: str | None = Field(
        None, description="checkpoint to start from, or `none`; empty: the newest finished previous stage of the size"
    )
    out: str | None = Field(None, description="run folder; empty: a new one under MUSE_RUNS")
    overwrite: bool = Field(False, description="empty the run folder first")
    seed: int = Field(0, ge=0, description="every random number is derived from it")


class ModelSettings(Section):
    """The connector; encoder, decoder and teachers follow from the size."""

    layout: Literal["muse", "released"] = Field("muse", description="the paper's block, or the public code's")
    width: Positive = Field(512, description="width of the blocks")
    heads: Positive = 8
    blocks: Positive = 6
    latent_channels: Positive = 32
    inject: bool = Field(True, description="add the semantic anchor to the texture values, behind a stop-gradient")
    semantic_input: Literal["normalized", "raw"] = Field(
        "normalized", description="what the anchor of layout muse reads: the block's input over its rms, or as it is"
    )
    resolution: Positive = Field(224, description="training size in pixels")

    @model_validator(mode="after")
    def _heads_divide(self) -> "ModelSettings":
        if self.width % self.heads or (self.width // self.heads) % 4:
            raise ValueError(
                f"model.width {self.width} must divide into model.heads {self.heads} heads of a multiple of 4 channels"
            )
        return self


class LossSettings(Section):
    """Weights of the objectives; a weight of 0 switches an objective off and none of it is computed."""

    pixel: Weight = 1.0
    pixel_kind: Literal["l1", "l2"] = "l2"
    perceptual: Weight = 1.1
    perceptual_kind: str = Field(
        "lpips-convnext_s-1.0-0.1", description="lpips-convnext_s-W1-W2, lpips, convnext_s, or tiny-features"
    )
    topology: Weight = 2.0
    topology_blocks: Literal["every", "last"] = Field("every", description="which blocks meet the teacher")
    contrastive: Weight = 0.0
    adversarial: Weight = 0.0
    adversarial_start: int = Field(0, ge=0, description="first step with the adversarial term")
    lecam: Weight = 0.001


class OptimSettings(Section):
    """AdamW, cosine with warm-up, and the clip per stream."""

    lr: float = Field(4e-4, gt=0, description="peak learning rate")
    end_lr: float = Field(1e-5, ge=0)
    warmup_steps: int = Field(2_000, ge=0)
    encoder_lr_scale: float = Field(0.5, gt=0, description="factor on the rate of the encoder, where it trains")
    discriminator_lr: float = Field(1e-4, gt=0)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    weight_decay: Weight = 1e-4
    clip: float = Field(1.0, gt=0, description="largest gradient norm, applied to each stream on its own")
    average_decay: float = Field(0.999, ge=0, lt=1, description="of the average (EMA) of trained weights")
    gradient_scale: float = Field(1.0, gt=0, description="factor on the pixel gradient that enters the blocks")


class TrainingSettings(Section):
    """How long, how much at once, and what is written on the way."""

    steps: Positive = Field(50_000, description="optimizer steps")
    batch_size: Positive = Field(384, description="images per step, over all devices")
    accumulation: Positive = Field(1, description="parts that a step's batch is computed in")
    reconstruct: Positive | None = Field(
        None, description="images of each batch that are decoded; empty: all. The decoder is the costly part"
    )
    routing: Literal["strict", "open", "joint", "released", "figure", "figure-open"] = Field(
        "strict", description="where gradients go"
    )
    trains: Literal["released", "paper"] = Field(
        "released", description="what stages 1 and 2 train: as the public code, or only what the paper names"
    )
    precision: Literal["auto", "fp32", "bf16", "fp64"] = Field(
        "auto", description="of what trains; auto: bf16 on a GPU, else fp32. fp64: slow, to compare runs"
    )
    frozen_precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of what never trains, teacher and all that losses compare with; auto: that of the rest"
    )
    compile: bool = Field(False, description="let torch compile the networks: minutes at the start, faster steps")
    checkpointing: bool = Field(
        False, description="compute encoder and decoder a second time in the backward pass instead of keeping all of it"
    )
    devices: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps, a number of GPUs, or indices such as 0,2")
    save_every: Positive = 5_000
    eval_every: Positive = 5_000
    sample_every: Positive = 2_000
    log_every: Positive = 50
    keep: Positive = Field(2, description="checkpoints kept, besides the best one; the newest always is")
    track: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio", "none"], ...] = Field(
        ("tensorboard",), description="where numbers, figures and the plan go, beside the run folder"
    )
    threads: int | None = Field(None, gt=0, description="CPU threads of one process; empty: what torch chooses")

    @model_validator(mode="after")
    def _parts_divide(self) -> "TrainingSettings":
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"training.batch_size {self.batch_size} does not divide into {self.accumulation} parts "
                "(training.accumulation)"
            )
        return self


class DataSettings(Section):
    """What is read, and through how many fixed readers."""

    train: str | None = Field(
        None, description="shards (folder, pattern, URL) or a folder of images; `demo` makes scenes"
    )
    val: str | None = Field(
        None, description="held-out data, named alike; without them nothing is measured while training"
    )
    lanes: Positive | None = Field(
        None,
        description="fixed logical readers of disjoint shards, which make the order of samples the same on any number "
        "of processes; empty: up to 8, as many as shards, batch, accumulation and processes allow",
    )
    workers: int = Field(1, ge=0, description="reader processes per device")
    flip: bool = Field(False, description="mirror half of the images; captions may name left and right")
    val_images: Positive = Field(64, description="held-out images measured at each evaluation")
    limit_errors: float = Field(0.01, ge=0, le=1, description="fraction of damaged samples that stops the run")


class TrainSettings(Section):
    """All settings of one training stage."""

    run: RunSettings = RunSettings()
    model: ModelSettings = ModelSettings()
    losses: LossSettings = LossSettings()
    optim: OptimSettings = OptimSettings()
    training: TrainingSettings = TrainingSettings()
    data: DataSettings = DataSettings()

    @model_validator(mode="after")
    def _lanes_divide(self) -> "TrainSettings":
        part = self.training.batch_size // self.training.accumulation
        if self.data.lanes and part % self.data.lanes:
            raise ValueError(
                f"data.lanes {self.data.lanes} must divide the {part} images that are read at once "
                "(training.batch_size / training.accumulation)"
            )
        return self
