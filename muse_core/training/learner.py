"""A module as it learns: shared by the processes, optimized, averaged; and the opponent, which learns likewise."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn

from muse_core.tensor_files import whole
from muse_core.training.ema import Average
from muse_core.training.optimization import Optimization
from muse_core.training.task import Opponent


def wrapped(module: nn.Module, accelerator: Accelerator) -> nn.Module:
    """Return a module as the processes share it: the one place that decides how.

    Called through the wrapper, its gradients meet those of the other processes. Names of weights are those inside.
    """
    shared: nn.Module = accelerator.prepare(module)
    return shared


class Learner:
    """A module with its optimizer and the running averages of its weights (none for an opponent).

    module: as the processes share it, as `wrapped` returns it.
    """

    def __init__(
        self, module: nn.Module, optimization: Optimization, accelerator: Accelerator, decays: Sequence[float] = ()
    ) -> None:
        self.module = module
        self.optimization = optimization
        self.averages = tuple(Average(optimization.weights, decay) for decay in decays)
        self._accelerator = accelerator

    @property
    def mixed_precision(self) -> str:
        """What products are computed in under autocast: "bf16", or "no"."""
        return str(self._accelerator.mixed_precision)

    def part(self, *, last: bool) -> AbstractContextManager[object]:
        """Compute one part of a step's batch; processes share their gradients at the last part only."""
        return nullcontext() if last else self._accelerator.no_sync(self.module)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss."""
        self._accelerator.backward(loss)

    def step(self) -> None:
        """Take the optimizer's step, then move the averages."""
        self.optimization.step()
        for average in self.averages:
            average.update()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Run a block with the first of the averages in place of the weights."""
        with self.averages[0].swapped_in() if self.averages else nullcontext():
            yield


class Opposition:
    """The opponent's side of a run."""

    def __init__(self, opponent: Opponent, learner: Learner) -> None:
        self.opponent, self.learner = opponent, learner

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Let gradients of the task's losses pass through the opponent without staying in it."""
        weights = self.learner.optimization.weights.values()
        for weight in weights:
            weight.requires_grad_(False)
        try:
            yield
        finally:
            for weight in weights:
                weight.requires_grad_(True)

    def judge(self, parts: Sequence[Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Add the gradients of its loss on what the task's losses left of every part of a batch, and clip them.

        Returns:
            the scalars to log; and those to guard besides, its loss and the norms of its gradients.
        """
        loss, terms = self.opponent.losses(self.learner.module, parts)
        self.learner.backward(loss)
        norms = self.learner.optimization.clip_gradients()
        guarded = {"loss": loss.detach(), **{f"gradient of {group}": norm for group, norm in norms.items()}}
        return terms, guarded

    def state(self, prefix: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and a JSON-able rest to save."""
        tensors, rest = self.learner.optimization.state(f"{prefix}.optimizer")
        for name, module in self.opponent.modules.items():
            tensors |= {f"{prefix}.{name}.{key}": whole(value) for key, value in module.state_dict().items()}
        return tensors, rest

    def restore(self, prefix: str, tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> None:
        """Put back what `state` took."""
        self.learner.optimization.restore(f"{prefix}.optimizer", tensors, rest)
        for name, module in self.opponent.modules.items():
            own = f"{prefix}.{name}."
            module.load_state_dict({key[len(own) :]: value for key, value in tensors.items() if key.startswith(own)})
