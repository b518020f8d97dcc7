"""The topology stream's objective: attend as the structure teacher does."""

import torch
from torch import Tensor

from muse_core.errors import MuseError

_FLOOR = 1e-8


def topology_loss(student: Tensor, target: Tensor) -> Tensor:
    """Return the mean over queries of KL(teacher || student), in nats (the reference's reduction).

    Args:
        student: (B, H, N, N) attention of one block; its heads are averaged first, so single heads stay free.
        target: (B, N, N) from the teacher; rows are queries and sum to 1.

    Returns:
        a float32 scalar with a gradient to `student`.

    Raises:
        MuseError: when student and target look at different numbers of tokens.
    """
    mean = student.float().mean(1)  # B N N
    if mean.shape != target.shape:
        raise MuseError(
            f"the student attends over {tuple(mean.shape)} and the teacher's target over {tuple(target.shape)}"
        )
    wanted = target.float()
    # xlogy: a pair that the teacher ignores adds 0, where t * log t would add nan.
    divergence = torch.xlogy(wanted, wanted) - wanted * (mean + _FLOOR).log()
    return divergence.sum(-1).mean()
