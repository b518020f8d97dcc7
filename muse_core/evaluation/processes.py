"""Several processes that measure one thing: who has which part, and how the parts come together again."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from muse_core.distributed import gather_objects

T = TypeVar("T")

_PATIENCE = timedelta(days=7)  # one may train a head while others wait; whoever started them ends them when one fails


@dataclass(frozen=True)
class Team:
    """This process, and how many there are. They take whole batches in turns.

    A batch holds the same samples whoever reads it, so that its last digits do not depend on how many processes there
    are: a Fréchet distance of few images takes the root of eigenvalues that are nothing but last digits.
    """

    rank: int = 0
    world: int = 1

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes in the order of their ranks; every process has to call it."""
        return [value] if self.world == 1 else gather_objects(value)

    def position(self, number: int, batch_size: int) -> int:
        """Say where in the data sample `number` of this process stands."""
        turn, within = divmod(number, batch_size)
        return (turn * self.world + self.rank) * batch_size + within

    def share_of(self, total: int, batch_size: int) -> int:
        """Say how many of `total` samples this process reads."""
        rounds, left = divmod(total, self.world * batch_size)
        return rounds * batch_size + min(max(left - self.rank * batch_size, 0), batch_size)


ALONE = Team()


@contextmanager
def joined(rank: int, world: int, meeting: str) -> Iterator[Team]:
    """Be one of `world` processes that meet at `meeting`, an address such as "tcp://127.0.0.1:29500"."""
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world, timeout=_PATIENCE)
    try:
        yield Team(rank, world)
    finally:
        dist.destroy_process_group()


def in_reading_order(parts: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Join what processes hold about their samples in the order in which one process would have read them.

    Args:
        parts: by process: positions (n,) int64 in the data, then tensors with n rows.

    Returns:
        the positions in rising order, and the tensors' rows with them.
    """
    filled = [part for part in parts if len(part[0])] or list(parts[:1])
    joined_up = [torch.cat(column) for column in zip(*filled, strict=True)]
    order = joined_up[0].argsort()
    return tuple(column[order] for column in joined_up)
