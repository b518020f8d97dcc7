"""Which of the training processes this one is, and what they tell each other: the one place that asks.

Alone, the same functions return what they were given. A process that is one of several was joined to them before, by
accelerate or by whoever launched it.
"""

from functools import lru_cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def world() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process among them, from 0."""
    return dist.get_rank() if world() > 1 else 0


def is_first() -> bool:
    """Return whether this process is the one that writes."""
    return rank() == 0


class _GatherRows(torch.autograd.Function):
    """Concatenate the rows of all processes; the gradient of a row returns to the process that owns it."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(world())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        # Summed over processes, by an all-reduce because gloo has no reduce-scatter.
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total.chunk(world())[rank()]


def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate (B, ...) of every process along the first axis, in rank order, with gradient; B must be equal."""
    if world() == 1:
        return rows
    gathered: Tensor = _GatherRows.apply(rows)
    return gathered


def mean_over_ranks(values: Tensor) -> Tensor:
    """Average a tensor over all processes, with gradient: each process's copy gives its own gradient to all."""
    return values if world() == 1 else gather_rows(values[None]).mean(0)


def gather_objects(value: T) -> list[T]:
    """Return the values of all processes in rank order; all of them have to ask."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


def any_rank(flag: bool) -> bool:
    """Return whether a flag is up in any process; all of them have to ask.

    They ask over their CPUs: over their GPUs, each would wait for its own at every step.
    """
    if world() == 1:
        return flag
    flags = torch.tensor(float(flag))
    dist.all_reduce(flags, group=_over_cpus(dist.group.WORLD))
    return bool(flags > 0)


@lru_cache(maxsize=1)
def _over_cpus(whole: Any) -> Any:
    """Return the group over which CPUs meet, made once for the processes that are joined now."""
    return None if dist.get_backend(whole) == "gloo" else dist.new_group(backend="gloo")
