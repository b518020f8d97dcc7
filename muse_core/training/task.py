"""What the engine trains: a task, and an opponent that may train against it.

A task says what is computed; the engine decides when, on which device, in how many parts and by how many processes.
A task opens no file and asks no device: it is built for a `Compute`, and what it returns the engine writes.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from muse_core.training.held_out import Score


@dataclass(frozen=True)
class Compute:
    """Where and as what a task is to compute: the device, the number format of weights, what products are computed in
    ("bf16" under autocast, or "no"), and which of how many processes this is."""

    device: torch.device
    dtype: torch.dtype = torch.float32
    mixed_precision: str = "no"
    rank: int = 0
    world: int = 1


@dataclass(frozen=True)
class ParameterGroup:
    """Weights, by name in their module, that share a peak learning rate and a weight decay."""

    names: Sequence[str]
    lr: float
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Partition:
    """How the weights of a module train.

    groups: all that train, in the order in which the optimizer keeps them. clip_groups: for each of them, by name, the
    group whose gradient norm is clipped together. frozen: the others, with the reason.
    """

    groups: Sequence[ParameterGroup]
    clip_groups: Mapping[str, str]
    frozen: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StepLosses:
    """What a task computed of one part of a batch.

    terms: the losses, unweighted scalars with gradient, each such that the mean over processes is that of the batch.
    numbers: scalars that are logged beside them. seen: what the opponent needs of this part; no gradient passes.
    """

    terms: dict[str, Tensor]
    numbers: Mapping[str, Tensor] = field(default_factory=dict)
    seen: Any = None

    def detached(self) -> Self:
        """Return the same numbers without their graph."""
        terms = {name: term.detach() for name, term in self.terms.items()}
        return type(self)(terms, {name: number.detach() for name, number in self.numbers.items()}, self.seen)


class Batch(Protocol):
    """A batch as the engine sees it; `muse_core.data.sample.Batch` says what the fields mean."""

    read_s: float
    cursor: dict[int, int]
    skipped: dict[str, int]
    examples: dict[str, str]
    notes: dict[str, int]

    def __len__(self) -> int: ...

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Return the batch on a device, with its floating-point numbers in a format."""


@dataclass(frozen=True)
class TensorBatch:
    """A batch of tensors by name, each (B, ...), for tasks whose data need no more than that."""

    tensors: Mapping[str, Tensor]
    cursor: dict[int, int]
    read_s: float = 0.0
    skipped: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Return the batch on a device, with its floating-point numbers in a format."""
        moved = {
            name: tensor.to(device, dtype if tensor.is_floating_point() else None, non_blocking=True)
            for name, tensor in self.tensors.items()
        }
        return replace(self, tensors=moved)


class Opponent(Protocol):
    """A module that trains against a task, such as a discriminator: one step of its own after each of the task's."""

    @property
    def name(self) -> str:
        """What it is, in messages."""

    @property
    def remedy(self) -> str:
        """What to type when it diverges."""

    @property
    def start(self) -> int:
        """The first step at which it plays."""

    @property
    def module(self) -> nn.Module:
        """What is wrapped and optimized."""

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Those whose state is saved, by name; `module` is one of them."""

    @property
    def partition(self) -> Partition:
        """How its weights train."""

    def losses(self, module: nn.Module, parts: Sequence[Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to minimise and the scalars to log.

        Args:
            module: `self.module`, as the processes share it; to be called once.
            parts: what the task's losses left in `seen`, of every part of the batch.
        """


class Task(Protocol):
    """What is trained, of one kind."""

    @property
    def title(self) -> str:
        """As in "stage 1"."""

    @property
    def module(self) -> nn.Module:
        """What is wrapped, optimized and averaged."""

    @property
    def partition(self) -> Partition:
        """How its weights train, and why others do not."""

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Of the losses in their sum, by name; a loss without one is only logged."""

    @property
    def opponent(self) -> Opponent | None:
        """Who trains against it, if anybody."""

    @property
    def decides(self) -> Score:
        """The held-out score that makes a checkpoint the best."""

    def batches(self, cursor: Mapping[int, int]) -> Generator[Any]:
        """Yield this process's batches without end, from where each lane had come; the same for the same cursor."""

    def losses(self, module: nn.Module, batch: Any, step: int) -> StepLosses:
        """Compute the losses of a part of a batch; `module` is `self.module`, as the processes share it."""

    def validate(self) -> Mapping[str, float]:
        """Measure the weights as they are now on held-out data; {} where there are none."""

    def draw(self) -> bytes | None:
        """Draw a figure of held-out data as a PNG; None where there are none."""

    def stored(self) -> Mapping[str, Tensor]:
        """Return the tensors that a checkpoint holds, by name, as they are now."""

    def identity(self) -> dict[str, Any]:
        """Return what state.json says of a checkpoint besides step and state of training; JSON."""
