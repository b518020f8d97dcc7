"""AdamW over the weights of a module that train: its groups, its rate, the clip per group, its state."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from muse_core.errors import ExitCode, MuseError
from muse_core.training.state import optimizer_state, restore_optimizer
from muse_core.training.task import ParameterGroup, Partition

_NO_DECAY = ("bias", "norm", "gate", "embeddings", "lambda_")


def decays(name: str, weight: Tensor) -> bool:
    """Return whether a weight decays: matrices do; vectors, norms, gates and embeddings do not."""
    return weight.ndim >= 2 and not any(word in name for word in _NO_DECAY)


def parameter_groups(weights: Mapping[str, Tensor], lr: float, weight_decay: float) -> list[ParameterGroup]:
    """Split weights of one peak rate into those that decay and those that do not."""
    decaying = [name for name, weight in weights.items() if decays(name, weight)]
    others = [name for name in weights if name not in set(decaying)]
    return [ParameterGroup(names, lr, decay) for names, decay in ((decaying, weight_decay), (others, 0.0)) if names]


class Optimization:
    """The optimizer of a module, whose gradients are clipped group by group.

    weights: those that train, by name, in the module's order.
    """

    def __init__(
        self,
        module: nn.Module,
        partition: Partition,
        *,
        betas: tuple[float, float],
        clip: float,
        found_inf: Tensor | None = None,
    ) -> None:
        """Build it.

        Args:
            module: with the weights that `partition` names.
            partition: which of them train, and how.
            betas: of the running means.
            clip: largest gradient norm of each group.
            found_inf: a scalar on their device; while it is 1, a step changes nothing, and nobody asks it.
        """
        self.weights = {name: weight for name, weight in module.named_parameters() if name in partition.clip_groups}
        self.clip_groups, self.clip = partition.clip_groups, clip
        groups = [
            {"params": [self.weights[name] for name in group.names], "lr": group.lr, "peak": group.lr}
            | {"weight_decay": group.weight_decay}
            for group in partition.groups
        ]
        self.optimizer = AdamW(groups, betas=betas, fused=fused(self.weights.values()))
        if found_inf is not None and self.optimizer.defaults["fused"]:
            self.optimizer.found_inf = found_inf  # type: ignore[attr-defined]

    @property
    def lr(self) -> float:
        """The learning rate of the first group now."""
        return float(self.optimizer.param_groups[0]["lr"])

    def set_lr(self, factor: float) -> None:
        """Set every group's rate to a factor of its peak."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor

    def clip_gradients(self) -> dict[str, Tensor]:
        """Clip the gradient norm of each group on its own and return the norms before."""
        members: dict[str, list[nn.Parameter]] = {}
        for name, weight in self.weights.items():
            if weight.grad is not None:
                members.setdefault(self.clip_groups[name], []).append(weight)
        return {group: nn.utils.clip_grad_norm_(weights, self.clip) for group, weights in members.items()}

    def step(self) -> None:
        """Move the weights down their gradients, and forget these."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state(self, prefix: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and a JSON-able rest to save."""
        return optimizer_state(self.optimizer, prefix)

    def restore(self, prefix: str, tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> None:
        """Put back what `state` took."""
        restore_optimizer(self.optimizer, prefix, dict(tensors), dict(rest))


def apply_partition(module: nn.Module, partition: Partition) -> None:
    """Let exactly the weights of the groups take gradients.

    Raises:
        MuseError: a weight of the module is in no group and not frozen, or in two places, or a name is of none.
    """
    weights = dict(module.named_parameters())
    grouped = Counter(name for group in partition.groups for name in group.names)
    problems = {
        "in several groups": [name for name, count in grouped.items() if count > 1],
        "trained and frozen": [name for name in grouped if name in partition.frozen],
        "in a group, and of no module": [name for name in grouped if name not in weights],
        "in a group and no clip group, or the reverse": sorted(grouped.keys() ^ partition.clip_groups.keys()),
        "neither trained nor frozen": [
            name for name in weights if name not in grouped and name not in partition.frozen
        ],
    }
    for problem, names in problems.items():
        if names:
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise MuseError(f"the partition of a task has weights that are {problem}: {shown}", exit_code=ExitCode.BUG)
    for name, weight in weights.items():
        weight.requires_grad_(name in grouped)


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return the loss that is minimised; terms without a weight are only logged.

    Raises:
        MuseError: none has one.
    """
    weighted = [weights[name] * term for name, term in terms.items() if name in weights]
    if not weighted:
        raise MuseError(
            f"no loss has a weight: losses {', '.join(terms)}; weights {', '.join(weights) or 'none'}",
            hint="a task's loss_weights names its losses",
            exit_code=ExitCode.SETTINGS,
        )
    return torch.stack(weighted).sum()


def fused(weights: Iterable[Tensor]) -> bool | None:
    """Return whether one kernel can update many weights at once here; None leaves it to torch."""
    return True if all(weight.device.type in ("cpu", "cuda") for weight in weights) else None


def refuse_dead_weights(weights: Mapping[str, nn.Parameter]) -> None:
    """Refuse weights that were to train but got no gradient from any loss.

    Raises:
        MuseError: names them. In the public code a fifth of the block weights silently never train.
    """
    dead = [name for name, weight in weights.items() if weight.grad is None]
    if dead:
        shown = ", ".join(dead[:5]) + (f" and {len(dead) - 5} more" if len(dead) > 5 else "")
        raise MuseError(
            f"{len(dead)} weights are to be trained but no active loss reaches them: {shown}",
            hint="switch their loss on, or report this with config.yaml",
            exit_code=ExitCode.SETTINGS,
        )


def refuse_idle_step(terms: Mapping[str, Tensor], step: int) -> None:
    """Refuse a step whose losses reach no weight that trains.

    Raises:
        MuseError: names the losses.
    """
    if not any(term.requires_grad for term in terms.values()):
        active = ", ".join(terms) or "none is active"
        raise MuseError(
            f"step {step}: no loss reaches a weight that trains (losses: {active})",
            hint="muse config keys train, and see losses.*",
            exit_code=ExitCode.SETTINGS,
        )
