"""Which of several processes this one is, and what they tell each other: the one place that asks.

A launcher says it in variables (torchrun, accelerate, srun, mpirun), torch once they have met. Alone, the same
functions return what they were given. Nothing here imports torch before it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from muse_core.errors import MuseError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

_LAUNCHERS = (
    ("RANK", "WORLD_SIZE"),  # torchrun, accelerate
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),  # mpirun
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),  # srun; a batch script itself has no step, and is alone
)


@dataclass(frozen=True)
class Rank:
    """Which of `count` commands this one is; the first one lists, plans and finishes, all of them check and write."""

    index: int = 0
    count: int = 1

    def share(self, jobs: Sequence[T]) -> Sequence[T]:
        """Return the part of the work that is this one's."""
        return jobs[self.index :: self.count]


def rank_of(environ: Mapping[str, str]) -> Rank:
    """Return what the variables of a launcher say, alone when there is none.

    Raises:
        MuseError: they are not numbers that fit together.
    """
    for index, count in _LAUNCHERS:
        if index in environ and count in environ:
            try:
                rank = Rank(int(environ[index]), int(environ[count]))
            except ValueError:
                rank = Rank(-1)
            if not 0 <= rank.index < rank.count:
                raise MuseError(f"{index}={environ[index]} and {count}={environ[count]} do not fit", f"unset {index}")
            return rank
    return Rank()


def world() -> int:
    """Return how many processes have met to train together."""
    import torch.distributed as dist

    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process among them, from 0."""
    import torch.distributed as dist

    return dist.get_rank() if world() > 1 else 0


def is_first() -> bool:
    """Return whether this process is the one that writes."""
    return rank() == 0


def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate (B, ...) of every process along the first axis, in rank order, with gradient; B must be equal."""
    if world() == 1:
        return rows
    gathered: Tensor = _row_gathering().apply(rows)
    return gathered


@cache
def _row_gathering() -> Any:
    """Return the autograd function: the gradient of a row returns to the process that owns it."""
    import torch
    import torch.distributed as dist

    class GatherRows(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, rows: Tensor) -> Tensor:
            parts = [torch.empty_like(rows) for _ in range(world())]
            dist.all_gather(parts, rows.contiguous())
            return torch.cat(parts)

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            # Summed over processes, by an all-reduce because gloo has no reduce-scatter.
            total = gradients[0].contiguous()
            dist.all_reduce(total)
            return total.chunk(world())[rank()]

    return GatherRows


def mean_over_ranks(values: Tensor) -> Tensor:
    """Average a tensor over all processes, with gradient: each process's copy gives its own gradient to all."""
    return values if world() == 1 else gather_rows(values[None]).mean(0)


def gather_objects(value: T) -> list[T]:
    """Return the values of all processes in rank order; all of them have to ask."""
    if world() == 1:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


def any_rank(flag: bool) -> bool:
    """Return whether a flag is up in any process; all of them have to ask.

    They ask over their CPUs: over their GPUs, each would wait for its own at every step.
    """
    if world() == 1:
        return flag
    import torch
    import torch.distributed as dist

    flags = torch.tensor(float(flag))
    dist.all_reduce(flags, group=_over_cpus(dist.group.WORLD))
    return bool(flags > 0)


@lru_cache(maxsize=1)
def _over_cpus(whole: Any) -> Any:
    """Return the group over which CPUs meet, made once for the processes that are joined now."""
    import torch.distributed as dist

    return None if dist.get_backend(whole) == "gloo" else dist.new_group(backend="gloo")
