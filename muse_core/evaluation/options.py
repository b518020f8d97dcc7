"""The options of the built-in probes; importing this costs no torch."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from muse_core.errors import ExitCode, MuseError

Rates = tuple[Annotated[float, Field(gt=0)], ...]
Decays = tuple[Annotated[float, Field(ge=0)], ...]


def layer_names(text: str, blocks: int = 0) -> tuple[str, ...]:
    """Split a list of feature layers at its commas; for the last `blocks` blocks name those, the last first.

    Raises:
        MuseError: both are asked for.
    """
    named = tuple(name.strip() for name in text.split(",") if name.strip())
    if named and blocks:
        raise MuseError("layers and blocks name the same thing twice", "one of them", ExitCode.SETTINGS)
    return named or tuple(f"block-{place}" for place in range(1, blocks + 1))


class LinearOptions(BaseModel):
    """Options of `muse probe linear`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: Literal["pooled", "patch"] = Field("pooled", description="the tokenizer's pooled feature, or patch mean")
    layers: str = Field("", description="feature layers, joined by commas [the tokenizer's own for classifying]")
    blocks: int = Field(0, ge=0, description="join the features of the last N blocks instead (0: do not)")
    epochs: int = Field(50, ge=1, description="passes over the training features")
    least_steps: int = Field(1000, ge=1, description="more passes over small data, until so many steps are made")
    batch_size: int = Field(256, ge=1, description="features per step")
    rates: Rates = Field((0.03, 0.1, 0.3, 1.0), min_length=1, description="learning rates to try")
    decays: Decays = Field((0.0, 1e-4, 1e-3, 1e-2, 1e-1), min_length=1, description="weight decays to try")
    holdout: float = Field(0.1, gt=0, lt=1, description="part of the training data that decides between them")
    seed: int = Field(0, ge=0, description="order of the data, and which part is held out")


class KnnOptions(BaseModel):
    """Options of `muse probe knn`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: Literal["pooled", "patch"] = Field("pooled", description="the tokenizer's pooled feature, or patch mean")
    layers: str = Field("", description="feature layers, joined by commas [the tokenizer's own for classifying]")
    k: int = Field(20, ge=1, description="neighbours that vote")


class TopologyOptions(BaseModel):
    """Options of `muse probe topology`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: str = Field("last", pattern=r"^(last|all|\d+)$", description="attention layer: last, all, or its number")


class ConflictOptions(BaseModel):
    """Options of `muse probe conflict`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    between: str = Field("", description="losses, joined by commas: pixels, topology, contrastive [all of the stage]")
    batches: int = Field(4, ge=1, description="batches; the standard error is over them")
    batch_size: int = Field(32, ge=2, description="images per batch")
    stage: Literal[1, 2, 3] | None = Field(None, description="whose losses and weights [the checkpoint's]")
    routing: Literal["strict", "open", "joint", "released"] | None = Field(
        None, description="where gradients go [as in the stage]"
    )
    step: float = Field(0.01, gt=0, lt=1, description="fraction by which a step on a loss would lower it")
