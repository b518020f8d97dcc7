"""The settings of the commands that use a tokenizer: `eval`, `zeroshot`, `probe`, `infer`, `attn-viz`."""

from typing import Annotated, Literal

from pydantic import Field

from muse_core.settings.section import Section

Positive = Annotated[int, Field(gt=0)]
DEVICES = "auto, cpu, cuda, cuda:1, mps, a number of GPUs, or indices such as 0,2; the first of them is used"
SHARED = "auto: one device; cpu, cpu:2 (processes), cuda, cuda:1, mps, a number of GPUs, or indices such as 0,2"
DATA = "shards (folder, pattern, URL) or a folder of images; `demo:val` makes held-out scenes; empty: demo:val"


class MeasureSettings(Section):
    """What every measurement needs."""

    data: str | None = Field(None, description=DATA)
    limit: Positive | None = Field(None, description="use this many images; the score is marked partial")
    batch_size: Positive = Field(64, description="images at a time")
    devices: str = Field("auto", description=SHARED)


class EvalSettings(MeasureSettings):
    """Settings of `muse eval`."""

    size_px: Positive | None = Field(None, description="shorter side in pixels; empty: the tokenizer's own size")
    reference: str = Field("self", description="npz with mu and sigma for Frechet distances; self: the originals")
    metrics: tuple[str, ...] = Field((), description="names from `muse ls metrics`; empty: all that can be measured")


class ZeroshotSettings(MeasureSettings):
    """Settings of `muse zeroshot`."""

    classes: str | None = Field(
        None, description="imagenet, or a file with one class name per line; empty: those of the data"
    )
    templates: str = Field(
        "plain", description="plain, openai (80), simple (7), or a file with one sentence per line and {} for the class"
    )
    top: tuple[Positive, ...] = Field((1, 5), min_length=1, description="count as right among so many guesses")


class ProbeSettings(MeasureSettings):
    """Settings that all probes share."""

    train_data: str | None = Field(None, description="what a probe learns from; empty: demo:train")
    train_limit: Positive | None = Field(None, description="learn from this many images")


class SegmentSettings(MeasureSettings):
    """Settings of `muse segment`."""

    train_data: str | None = Field(None, description="what the head learns from; empty: demo:train")
    train_limit: Positive | None = Field(None, description="learn from this many images")
    classes: Annotated[int, Field(gt=1, le=255)] | None = Field(
        None, description="how many classes there are; empty: as many as the training masks hold"
    )
    label_rule: Literal["plain", "ade20k"] = Field(
        "plain", description="plain: stored values are classes; ade20k: 0 is ignored, 1 to 150 are 0 to 149"
    )
    view: Literal["whole", "sliding", "crop"] = Field(
        "whole", description="how images are looked at: in one piece, in windows, or their centre only"
    )
    size_px: Positive | None = Field(None, description="shorter side in pixels; empty: the tokenizer's own size")
    layer: str | None = Field(None, description="feature layer; empty: the tokenizer's own for segmenting")
    epochs: Positive = Field(10, description="passes over the training images")
    head_batch: Positive = Field(16, description="images per step of the head")
    rate: float = Field(0.01, gt=0, description="learning rate of the head, falling to 0 as half a cosine")
    decay: float = Field(1e-4, ge=0, description="weight decay of the head")
    seed: int = Field(0, ge=0, description="start of the head, and order of the data")
    baseline: bool = Field(False, description="measure the untouched encoder the same way")


class CompareSettings(ProbeSettings):
    """Settings of `muse compare`."""

    size_px: Positive | None = Field(None, description="shorter side in pixels; empty: the first tokenizer's own size")
    measures: tuple[Literal["eval", "generate", "zeroshot", "linear", "segment"], ...] = Field(
        ("eval", "generate", "zeroshot", "linear", "segment"), min_length=1, description="what is measured"
    )
    generators: tuple[str, ...] = Field((), description="for gFID: TOKENIZER=NAME:PATH, from `muse ls generators`")
    samples: Positive = Field(50_000, description="images to generate, as many of each class as of any other")
    sample_points: Annotated[int, Field(gt=1)] = Field(250, description="times from noise to data, both ends included")
    sample_shift: float = Field(0.3, gt=0, description="below 1 more of them lie near the noise; VTP's authors: 0.075")
    sample_seed: int = Field(0, ge=0, description="of the noise")
    guidance: float = Field(1.0, ge=0, description="away from no class; 1 for none")
    guidance_channels: Positive | None = Field(
        None, description="it acts on the first so many; empty: all; LightningDiT's authors: 3"
    )
    guidance_start: float = Field(0.0, ge=0, le=1, description="it acts from this time on, 0 being noise")
    reference: str = Field("self", description="npz with mu and sigma for gFID; self: the images of the data")
    metrics: tuple[str, ...] = Field((), description="of eval, from `muse ls metrics`; empty: all that can be measured")
    classes: str | None = Field(None, description="imagenet, or a file of class names; empty: those of the data")
    templates: str = Field("plain", description="plain, openai, simple, or a file of sentences with {} for the class")
    label_rule: Literal["plain", "ade20k"] = Field("plain", description="what values of masks mean")
    probe_epochs: Positive = Field(50, description="passes of the linear probe over the training features")
    probe_steps: Positive = Field(1000, description="more passes over small data, until so many steps are made")
    segment_epochs: Positive = Field(10, description="passes of the segmentation head over the training images")


class InferSettings(Section):
    """Settings of `muse infer`."""

    size_px: Positive | Literal["native"] | None = Field(
        None, description="short side in pixels; empty: at most twice the training size"
    )
    devices: str = Field("auto", description=DEVICES)


class AttentionSettings(InferSettings):
    """Settings of `muse attn-viz`."""

    layer: int | Literal["last", "all"] = Field("last", description="which synergistic block, from 0")
    head: int | Literal["mean", "all"] = Field("mean", description="which head, from 0")
    style: Literal["overlay", "grid"] = "overlay"
    scale: float | None = Field(
        None, gt=0, description="multiple of uniform at which the colours end; empty: a round one that fits"
    )
    teacher: bool = Field(False, description="add the teacher's map and the agreement")
