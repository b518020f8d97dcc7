"""Metrics by their names, without importing what computes them."""

from collections.abc import Sequence

from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.spec import MetricSpec
from muse_core.registry import discover
from muse_core.suggestions import choices


def metrics_named(names: Sequence[str] | None) -> dict[str, MetricSpec]:
    """Return the metrics of these names, all that are installed without any.

    Raises:
        MuseError: a name is unknown.
    """
    known = discover("muse.metrics")
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise MuseError(
            f"no metric is called {', '.join(unknown)}",
            hint=choices(unknown[0], known),
            exit_code=ExitCode.USAGE,
        )
    return {name: known[name].load() for name in names or known}
