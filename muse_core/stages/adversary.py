"""The discriminator's side of a step: its term for the generator, its own turn, its state.

Letters: R decoded images of a batch, S side in pixels.
"""

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW

from muse_core.losses.adversarial import LeCam, hinge_discriminator, hinge_generator
from muse_core.model.discriminator import PatchDiscriminator
from muse_core.training.optimizers import decays, fused, set_rate
from muse_core.training.state import optimizer_state, restore_optimizer


class Adversary:
    """A discriminator with its optimizer; it plays from optimizer step `start` on."""

    def __init__(
        self,
        discriminator: PatchDiscriminator,
        *,
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        lecam: float,
        start: int,
        clip: float,
        accelerator: Accelerator,
    ) -> None:
        named = list(discriminator.named_parameters())
        groups = [
            {
                "params": [weight for name, weight in named if decays(name, weight) == decay],
                "peak": lr,
                "weight_decay": weight_decay if decay else 0.0,
            }
            for decay in (True, False)
        ]
        self.start = start
        self.clip = clip
        self.accelerator = accelerator
        self.bare = discriminator.to(accelerator.device)
        self.discriminator: nn.Module = accelerator.prepare(self.bare)
        self.lecam = LeCam(lecam).to(accelerator.device, next(discriminator.parameters()).dtype)
        self.optimizer = AdamW(groups, lr=lr, betas=betas, fused=fused(discriminator.parameters()))

    def plays_at(self, step: int) -> bool:
        """Say whether the adversarial term counts at a step."""
        return step >= self.start

    def term(self, reconstruction: Tensor, share: float = 1.0) -> Tensor:
        """Return the generator's term; gradients pass through the discriminator but do not stay in it.

        share: how much the images of this process count in the mean of the processes.
        """
        self.bare.requires_grad_(False)
        loss = share * hinge_generator(self.bare(reconstruction))
        self.bare.requires_grad_(True)
        return loss

    def turn(self, real: Tensor, fake: Tensor, share: float = 1.0) -> dict[str, Tensor]:
        """Take one optimizer step on real (R, 3, S, S) against reconstructed images; `share` as in `term`."""
        both = self.discriminator(torch.cat((real, fake.detach())))
        logits_real, logits_fake = both.chunk(2)
        loss = share * hinge_discriminator(logits_real, logits_fake) + self.lecam(logits_real, logits_fake, share)
        self.accelerator.backward(loss)
        nn.utils.clip_grad_norm_(self.bare.parameters(), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        means = {"real": share * logits_real.detach().mean(), "fake": share * logits_fake.detach().mean()}
        return {"discriminator": loss.detach(), **means}

    def set_rate(self, step: int, *, steps: int, warmup_steps: int, end: float) -> None:
        """Follow the generator's schedule."""
        set_rate(self.optimizer, step, steps=steps, warmup_steps=warmup_steps, end=end)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and a JSON-able rest to save."""
        tensors, rest = optimizer_state(self.optimizer, "adversary.optimizer")
        tensors |= {f"adversary.model.{name}": value.cpu() for name, value in self.bare.state_dict().items()}
        tensors |= {f"adversary.lecam.{name}": value.cpu() for name, value in self.lecam.state_dict().items()}
        return {name: value.contiguous() for name, value in tensors.items()}, rest

    def restore(self, tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> None:
        """Put back what `state` took."""
        restore_optimizer(self.optimizer, "adversary.optimizer", dict(tensors), dict(rest))
        for prefix, module in (("adversary.model.", self.bare), ("adversary.lecam.", self.lecam)):
            module.load_state_dict(
                {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
            )
