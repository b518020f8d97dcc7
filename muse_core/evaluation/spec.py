"""How a probe or a metric announces itself, and what it is given: cheap to import, for plugins and for our own alike.

A probe is a function `measure(context: ProbeContext, settings) -> Scores`. A metric is a function
`make(context: MetricContext) -> Metric` whose result sees every pair of original and reconstruction once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

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
    """What a metric is made from: the device that its networks should run on."""

    device: str = "cpu"


@dataclass(frozen=True)
class Measured:
    """What a metric found.

    values: named numbers. recipe: everything of the metric's own that could change them; it enters the protocol.
    notes: sentences that belong beside the number.
    """

    values: Mapping[str, float]
    recipe: Mapping[str, Value] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Metric(Protocol):
    """Accumulates over pairs; never holds images."""

    def update(self, pairs: Pairs) -> None:
        """Take in the next pairs."""

    def result(self) -> Measured:
        """Return the numbers over everything taken in.

        Raises:
            NotMeasuredError: there was too little to say anything.
        """


class NotMeasuredError(MuseError):
    """A number cannot be had here: a part is not on disk, or there is too little data.

    An evaluation of every metric lists the reason and goes on; a metric asked for by name ends it.
    """

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what, hint, ExitCode.FILE)
