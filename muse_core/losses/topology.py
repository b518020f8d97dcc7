"""The topology stream's objective: attend as the structure teacher does."""

import torch
from torch import Tensor

from muse_core.errors import MuseError
from muse_core.model.numbers import full

_FLOOR = 1e-8


def topology_loss(student: Tensor, target: Tensor) -> Tensor:
    """Return the mean over queries of KL(teacher || student), in nats (the reference's reduction).

    Args:
        student: (B, H, N, N) attention of one block; its heads are averaged first, so single heads stay free.
        target: (B, N, N) from the teacher; rows are queries and sum to 1.

    Returns:
        a scalar, float32 unless the maps are wider, with a gradient to `student`.

    Raises:
        MuseError: when student and target look at different numbers of tokens.
    """
    mean = full(student).mean(1)  # B N N
    if mean.shape != target.shape:
        raise MuseError(
            f"the student attends over {tuple(mean.shape)} and the teacher's target over {tuple(target.shape)}"
        )
    wanted = full(target)
    # xlogy: a pair that the teacher ignores adds 0, where t * log t would add nan.
    divergence = torch.xlogy(wanted, wanted) - wanted * (mean + _FLOOR).log()
    return divergence.sum(-1).mean()
