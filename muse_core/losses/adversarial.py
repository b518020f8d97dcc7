"""Hinge losses of the adversarial game, and LeCam's anchor that keeps the discriminator calm on little data."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from muse_core.distributed import mean_over_ranks
from muse_core.model.numbers import full


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Return the discriminator's hinge loss on its logits for real and reconstructed images (any shape)."""
    return 0.5 * (F.relu(1 - full(real)).mean() + F.relu(1 + full(fake)).mean())


def hinge_generator(fake: Tensor) -> Tensor:
    """Return the generator's loss: the higher the logits of its images, the better."""
    return -full(fake).mean()


class LeCam(nn.Module):
    """LeCam regularisation (Tseng et al. 2021, arXiv 2104.03310) on batch-mean logits.

    Keeps running means of the logits and asks that real logits stay near the running fake mean and the reverse.
    All means are over all processes: the penalty squares them, so that the mean of the processes' own penalties would
    be another one. The running means are part of the state, and move in training mode only.

    Args:
        weight: how much the penalty counts.
        decay: of the running means, which start at 0.
    """

    ema_real: Tensor
    ema_fake: Tensor

    def __init__(self, weight: float = 0.001, decay: float = 0.999) -> None:
        super().__init__()
        self.weight = weight
        self.decay = decay
        self.register_buffer("ema_real", torch.zeros(()))
        self.register_buffer("ema_fake", torch.zeros(()))

    def forward(self, real: Tensor, fake: Tensor, share: float = 1.0) -> Tensor:
        """Return the weighted penalty for these logits, then let the running means follow them.

        share: how much this process's mean counts in the mean of the processes, where they judge unequal numbers.
        """
        here = share * torch.stack((full(real).mean(), full(fake).mean()))
        real_mean, fake_mean = mean_over_ranks(here)
        penalty = F.relu(real_mean - self.ema_fake).square() + F.relu(self.ema_real - fake_mean).square()
        if self.training:
            self.ema_real.lerp_(real_mean.detach(), 1 - self.decay)
            self.ema_fake.lerp_(fake_mean.detach(), 1 - self.decay)
        return self.weight * penalty
