"""Notices numbers that are not finite, without waiting for the device at every step."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from muse_core.errors import ExitCode, MuseError
from muse_core.runs import resume_command

_NEVER = 2**62


@dataclass
class Watch:
    """Remembers, on the device, the first step at which each number was not finite.

    On a CPU a look costs nothing, so it is taken at once. Elsewhere a look would wait for all that the device has still
    to do; until the next one, `spoilt` keeps the optimizer from changing any weight. `remedies`: by the name of an
    opponent, what to type when it diverges.
    """

    run: str
    device: torch.device
    at_once: bool
    remedies: Mapping[str, str] = field(default_factory=dict)
    spoilt: Tensor = field(init=False)
    _first: dict[str, Tensor] = field(default_factory=dict)
    _names: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.spoilt = torch.zeros((), device=self.device)

    @torch.no_grad()
    def see(self, numbers: Mapping[str, Tensor], step: int, what: str) -> None:
        """Take note of scalars of a step; `what` they are: losses, gradients (their norms), or an opponent by name."""
        if not numbers:
            return
        names = tuple(numbers)
        bad = ~torch.stack([number.isfinite() for number in numbers.values()])
        now = torch.where(bad, step, _NEVER)
        key = f"{what}: {', '.join(names)}"
        self._names[key] = names
        self._first[key] = torch.minimum(self._first[key], now) if key in self._first else now
        self.spoilt.copy_(torch.maximum(self.spoilt, bad.any().to(self.spoilt)))  # the optimizer holds this tensor
        if self.at_once:
            self.look()

    def look(self) -> None:
        """End the run when anything was not finite (this waits for the device).

        Raises:
            MuseError: names the step, and the losses or streams; exit code 7.
        """
        if not self._first or not float(self.spoilt):
            return
        found = {key: first.tolist() for key, first in self._first.items()}
        step = min(min(steps) for steps in found.values())
        key = next(key for key, steps in found.items() if min(steps) == step)
        bad = [name for name, first in zip(self._names[key], found[key], strict=True) if first == step]
        raise self._error(step, key.partition(":")[0], bad)

    def _error(self, step: int, what: str, bad: list[str]) -> MuseError:
        way_on = resume_command(Path(self.run))
        if what in self.remedies:
            return MuseError(
                f"step {step}: the {what} is not finite; nothing of this step was saved",
                hint=f"{way_on}, or {self.remedies[what]}",
                exit_code=ExitCode.STOPPED,
            )
        return MuseError(
            f"step {step}: the {what} is not finite ({', '.join(bad)}); no weight was changed by this step",
            hint=f"{way_on}, or a lower --lr",
            exit_code=ExitCode.STOPPED,
        )
