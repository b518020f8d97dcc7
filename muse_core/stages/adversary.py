"""The discriminator's side of a step: what it tells the tokenizer, and its own losses.

Letters: R decoded images of a part of a batch, S side in pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from muse_core.losses.adversarial import LeCam, hinge_discriminator, hinge_generator
from muse_core.model.discriminator import PatchDiscriminator
from muse_core.training.optimization import parameter_groups
from muse_core.training.task import Compute, Partition

NAME = "discriminator"


@dataclass(frozen=True)
class Judged:
    """What the discriminator sees of a part of a batch: real and reconstructed images (R, 3, S, S), without gradient,
    and how much a mean over them counts in the mean of the processes."""

    real: Tensor
    fake: Tensor
    share: float


class Adversary:
    """A discriminator as the opponent of a tokenizer; it plays from optimizer step `start` on."""

    name = NAME
    remedy = "a lower --set optim.discriminator_lr"

    def __init__(
        self,
        discriminator: PatchDiscriminator,
        *,
        lr: float,
        weight_decay: float,
        lecam: float,
        start: int,
        compute: Compute,
    ) -> None:
        self.start = start
        self.module: nn.Module = discriminator.to(compute.device, compute.dtype)
        self.lecam = LeCam(lecam).to(compute.device, compute.dtype)
        self.modules: Mapping[str, nn.Module] = {"model": self.module, "lecam": self.lecam}
        weights = dict(self.module.named_parameters())
        self.partition = Partition(parameter_groups(weights, lr, weight_decay), dict.fromkeys(weights, NAME))

    def term(self, reconstruction: Tensor, share: float = 1.0) -> Tensor:
        """Return the generator's term.

        share: how much the images of this process count in the mean of the processes.
        """
        return share * hinge_generator(self.module(reconstruction))

    def losses(self, module: nn.Module, parts: Sequence[Judged]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the hinge loss with LeCam's penalty on all images of a batch, and what is logged.

        Means over the whole batch: the penalty squares them, so that parts cannot be judged one by one.
        """
        real, fake, share = joined(parts)
        logits_real, logits_fake = module(torch.cat((real, fake))).chunk(2)
        loss = share * hinge_discriminator(logits_real, logits_fake) + self.lecam(logits_real, logits_fake, share)
        means = {"real": share * logits_real.detach().mean(), "fake": share * logits_fake.detach().mean()}
        return loss, {NAME: loss.detach(), **means}


def joined(parts: Sequence[Judged]) -> tuple[Tensor, Tensor, float]:
    """Join what was decoded of the parts of a batch: real and reconstructed images, and how much their mean counts.

    A part of which this process decoded nothing has an image that does not count, for the sake of its gradient.
    """
    counted = [part for part in parts if part.share] or parts[:1]
    share = sum(part.share for part in parts) / len(parts)
    return torch.cat([part.real for part in counted]), torch.cat([part.fake for part in counted]), share
