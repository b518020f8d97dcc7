"""What a run is going to do, in words, and what it still lacks; whoever plans a kind of run adds its own lines."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from muse_core.errors import ExitCode, MuseError


@dataclass(frozen=True)
class Plan:
    """lines: the plan in words; missing: what has to be there first or stands in the way, with remedies; init: where
    weights start; refusals: those of `missing` that are errors of their own."""

    lines: Sequence[str]
    missing: Sequence[str]
    init: Path | None
    refusals: Sequence[MuseError] = field(default_factory=tuple)

    def refuse_if_incomplete(self) -> None:
        """Refuse to start while anything is missing, naming all of it at once.

        Raises:
            MuseError: exit code 4, or that of the only error.
        """
        if len(self.missing) == len(self.refusals) == 1:
            raise self.refusals[0]
        if self.missing:
            what = "this run cannot start; missing:\n" + "\n".join(f"  - {line}" for line in self.missing)
            raise MuseError(
                what, hint="--dry-run shows the plan; muse doctor shows what this machine has", exit_code=ExitCode.FILE
            )
