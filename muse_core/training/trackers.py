"""What a run tells TensorBoard, wandb, mlflow and trackio: the numbers of metrics.jsonl, figures, plan, final scores.

Only the first process has trackers. What they need to go on in the same tracker run is in trackers.json of the run
folder. One that fails is left out from then on, and training goes on.
"""

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, Self

from muse_core.distributed import is_first
from muse_core.errors import MuseError
from muse_core.files import read_json, write_json
from muse_core.machine import without_secrets
from muse_core.offline import tell_libraries
from muse_core.progress import Progress, Silent
from muse_core.training.tracker_kinds import KINDS, Beginning, Identity, Library, refuse

FILE = "trackers.json"
"""In a run folder: by the name of each tracker, what it takes to go on in the same tracker run."""

FINAL = "final/"
"""Of the names of final scores."""


class Trackers:
    """The trackers of one run that still work.

    Attributes:
        running: them by name. progress: who hears of one that fails. step: the last one of which numbers came.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self.running: dict[str, Library] = {}
        self.progress = progress or Silent()
        self.step = 0

    @classmethod
    def begin(
        cls,
        names: Iterable[str],
        folder: Path,
        settings: Mapping[str, Any],
        progress: Progress,
    ) -> Self:
        """Start trackers, or go on in the tracker runs that the folder knows; none in any process but the first.

        Args:
            names: keys of `KINDS`; "none" and what is named twice count for nothing.
            folder: of the run.
            settings: of the run, sections of keys, which trackers show beside it.
            progress: hears where a tracker is, and of one that cannot start.
        """
        trackers = cls(progress)
        if not is_first():
            return trackers
        tell_libraries()
        known = _known(folder)
        for name in dict.fromkeys(name for name in names if name != "none"):
            try:
                refuse(name)
                with _quiet():
                    library = KINDS[name](Beginning(folder, _flat(settings), known.get(name, {})))
            except Exception as error:
                trackers._drop(name, error)
                continue
            trackers.running[name] = library
            if library.place:
                progress.say(f"tracks   {name}: {library.place}")
        _keep(folder, known, trackers.running)
        return trackers

    def log(self, step: int, numbers: Mapping[str, float | None]) -> None:
        """Tell numbers of a step; those that are not known are left out."""
        self.step = step
        told = {name: float(number) for name, number in numbers.items() if number is not None}
        self._each(lambda library: library.log(step, told))

    def figure(self, step: int, name: str, path: Path) -> None:
        """Show the PNG in `path`."""
        self._each(lambda library: library.figure(step, name, path))

    def text(self, name: str, text: str) -> None:
        """Show lines that belong to no step, such as the plan."""
        self._each(lambda library: library.text(name, without_secrets(text)))

    def finish(self, scores: Mapping[str, float | None]) -> None:
        """Tell the final scores, and end every tracker run as one that did what it was asked."""
        if scores:
            self.log(self.step, {f"{FINAL}{name}": score for name, score in scores.items()})
        self._each(lambda library: library.end(ok=True))
        self.running.clear()

    def close(self) -> None:
        """End every tracker run that is not ended yet, as one that failed or was stopped."""
        self._each(lambda library: library.end(ok=False))
        self.running.clear()

    def _each(self, call: Callable[[Library], None]) -> None:
        for name, library in list(self.running.items()):
            try:
                with _quiet():
                    call(library)
            except Exception as error:
                self._drop(name, error)

    def _drop(self, name: str, error: Exception) -> None:
        """Warn of a tracker that failed, and leave it out from here on."""
        library = self.running.pop(name, None)
        if library:
            with suppress(Exception), _quiet():
                library.end(ok=False)
        if isinstance(error, MuseError):
            reason = f"{error.what}: {error.hint}" if error.hint else error.what
        else:
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        self.progress.warn(f"no tracking with {name} from here on, training goes on: {without_secrets(reason)}")


@contextmanager
def ended_on_error(trackers: Trackers) -> Iterator[None]:
    """Close trackers when an error passes, Ctrl-C included, which no tracker may keep waiting as one that runs."""
    try:
        yield
    except BaseException:
        trackers.close()
        raise


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep libraries from printing where results go, and from asking the user anything."""
    asked = sys.stdin
    with open(os.devnull, encoding="utf-8") as nobody, redirect_stdout(io.StringIO()):
        sys.stdin = nobody
        try:
            yield
        finally:
            sys.stdin = asked


def _flat(settings: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """Name settings by dotted keys; what is no number is text, without what looks like a credential."""
    flat = {f"{section}.{key}": value for section, keys in settings.items() for key, value in keys.items()}
    plain = (bool, int, float)
    return {key: value if isinstance(value, plain) else without_secrets(str(value)) for key, value in flat.items()}


def _known(folder: Path) -> dict[str, Identity]:
    """Read what earlier starts kept; a file that is damaged only costs going on in the same tracker run."""
    try:
        document = read_json(folder / FILE)
    except MuseError:
        return {}
    return {name: identity for name, identity in document.items() if isinstance(identity, dict)}


def _keep(folder: Path, known: Mapping[str, Identity], running: Mapping[str, Library]) -> None:
    """Keep what it takes to go on; a tracker that is left out this time keeps its place."""
    now = {**known, **{name: library.identity for name, library in running.items() if library.identity}}
    if now != known:
        write_json(folder / FILE, now)
