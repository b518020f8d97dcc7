"""What losses need from other processes; without any, the same functions return what they were given."""

import torch
import torch.distributed as dist
from torch import Tensor


def process_count() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _GatherRows(torch.autograd.Function):
    """Concatenate the rows of all processes; the gradient of a row returns to the process that owns it."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(process_count())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        # Summed over processes, by an all-reduce because gloo has no reduce-scatter.
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total.chunk(process_count())[dist.get_rank()]


def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate (B, ...) of every process along the first axis, in rank order, with gradient; B must be equal."""
    if process_count() == 1:
        return rows
    gathered: Tensor = _GatherRows.apply(rows)
    return gathered


def mean_over_processes(values: Tensor) -> Tensor:
    """Average a tensor over all processes, with gradient: each process's copy gives its own gradient to all."""
    return values if process_count() == 1 else gather_rows(values[None]).mean(0)
