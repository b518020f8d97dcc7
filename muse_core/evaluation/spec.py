"""How a probe or a metric announces itself, and what it is given: cheap to import, for plugins and for our own alike.

A probe is a function `measure(context: ProbeContext, settings)` that returns numbers by name, or Scores. A metric is a
function `make(context: MetricContext) -> Metric` whose result sees every pair of original and reconstruction once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from muse_core.errors import ExitCode, MuseError
from muse_core.progress import Progress, Silent

if TYPE_CHECKING:
    from torch import Tensor

    from muse_core.evaluation.features import ProbeData
    from muse_core.evaluation.pairs import Pairs
    from muse_core.evaluation.protocol import Value

    Teacher = Callable[[Tensor, tuple[int, int]], Tensor]

API = 1


@dataclass(frozen=True)
class ProbeSpec:
    """Announces a probe.

    help: one sentence. target: "package.module:function". settings: "package.module:Model", a pydantic model from which
    the options are made. needs: names from `muse_core.model.abilities.ABILITIES` that the tokenizer must have.
    train: whether it learns from labelled training data.
    """

    help: str
    target: str
    settings: str
    needs: tuple[str, ...] = ("featurizes",)
    train: bool = True
    api: int = API


@dataclass(frozen=True)
class MetricSpec:
    """Announces a reconstruction metric.

    help: one sentence. target: "package.module:function", called once per evaluation. better: which way is good.
    needs: in words, what must be on disk for it, or nothing.
    """

    help: str
    target: str
    better: Literal["higher", "lower"]
    needs: str = ""
    api: int = API


@dataclass(frozen=True)
class ProbeContext:
    """What a probe may use.

    tokenizer: the object measured; it has the abilities that the probe needs. validation, train: data with cached
    features and labels; train is None when the probe asked for none. baseline: the untouched encoder, when there is
    one. teacher: where structure is taught from, a function (images, grid) -> attention (B, h*w, h*w), or None.
    """

    tokenizer: object
    validation: ProbeData
    train: ProbeData | None = None
    baseline: object | None = None
    teacher: Teacher | None = None
    device: str = "cpu"
    progress: Progress = field(default_factory=Silent)


@dataclass(frozen=True)
class MetricContext:
    """What a metric is made from.

    device: where its networks should run. reference: a file with "mu" and "sigma" that a Frechet distance compares with
    instead of the originals, or None.
    """

    device: str = "cpu"
    reference: Path | None = None


@dataclass(frozen=True)
class Measured:
    """What a metric found.

    values: named numbers. recipe: everything of the metric's own that could change them; it enters the protocol.
    notes: sentences that belong beside the number. errors: standard errors of those values that have one.
    """

    values: Mapping[str, float]
    recipe: Mapping[str, Value] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    errors: Mapping[str, float] = field(default_factory=dict)


class Metric(Protocol):
    """Accumulates over pairs; never holds images."""

    def update(self, pairs: Pairs) -> None:
        """Take in the next pairs."""

    def result(self) -> Measured:
        """Return the numbers over everything taken in.

        Raises:
            NotMeasuredError: there was too little to say anything.
        """


@runtime_checkable
class Shares(Protocol):
    """A metric that several processes can measure together. Without this it is not measured by more than one."""

    def state(self) -> Any:
        """Return what was seen, without networks: it is sent to the other processes."""

    def merge(self, states: Sequence[Any]) -> None:
        """Replace what was seen by what all processes saw, given in the order of their ranks."""


class NotMeasuredError(MuseError):
    """A number cannot be had here: a part is not on disk, or there is too little data.

    An evaluation of every metric lists the reason and goes on; a metric asked for by name ends it.
    """

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what, hint, ExitCode.FILE)

    @property
    def told(self) -> str:
        """The reason, and what would help."""
        return f"{self.what}; {self.hint}" if self.hint else self.what
