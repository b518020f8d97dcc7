"""How the folder of a run begins, and how one that was stopped is taken up; whatever trains in it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from muse_core.files import naming, refuse_unwritable, undo_aside
from muse_core.progress import Logged, Progress
from muse_core.run_checkpoints import FOLDER, step_of
from muse_core.run_search import note_place
from muse_core.runs import TOKENIZER, FollowerFolder, RunFolder, new_path, refuse_in_the_way


@dataclass(frozen=True)
class Record:
    """What a new run folder says of its run.

    settings, origins: of config.yaml and origins.json. documents: further JSON by file name, such as identity.json.
    plan: lines that log.txt begins with. kind, stage, size, steps: of status.json.
    """

    settings: Mapping[str, Any]
    origins: Mapping[str, str]
    documents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    plan: Sequence[str] = ()
    kind: str = TOKENIZER
    stage: int | None = None
    size: str | None = None
    steps: int | None = None


@contextmanager
def begun(path: Path, record: Record, *, overwrite: bool = False) -> Iterator[RunFolder]:
    """Make the folder of a run, and keep it to this process while the block lasts.

    Raises:
        MuseError: the folder is not empty, or another process writes to it.
    """
    refuse_in_the_way(path, overwrite)  # before the folder is kept, which leaves a file in it
    with RunFolder(path).held():
        folder = RunFolder.create(
            path,
            record.settings,
            record.origins,
            record.documents,
            overwrite=overwrite,
            kind=record.kind,
            stage=record.stage,
            size=record.size,
            steps=record.steps,
        )
        note_place(path)
        for line in record.plan:
            folder.log(line)
        yield folder


def new_folder(stage: int | str, size: str) -> Path:
    """Make a new run's folder; of several that ask at the same moment each gets its own."""
    refuse_unwritable(new_path(stage, size))
    while True:
        path = new_path(stage, size)
        with naming(path), suppress(FileExistsError):
            path.mkdir(parents=True)
            return path


def tidied(folder: RunFolder, progress: Progress) -> Path | None:
    """Return the last checkpoint, and remove what a killed process left half-written: while it is held, nobody writes.

    Returns:
        None where nothing was saved.
    """
    left = [] if isinstance(folder, FollowerFolder) else undo_aside(folder.path / FOLDER, "step-")
    if left:
        progress.say(f"removed  {', '.join(left)}: never completed")
    return folder.last_checkpoint()


def taken_up(folder: RunFolder, last: Path | None) -> None:
    """Say that a run is at work, from its last checkpoint where it has one, so that each later step is told once."""
    folder.resume()
    if not isinstance(folder, FollowerFolder):
        note_place(folder.path)
    if folder.metrics():
        folder.cut_metrics(step_of(last) if last else 0)


def logged(folder: RunFolder, progress: Progress) -> Logged:
    """Keep what is said in log.txt; of several processes the first one keeps progress."""
    if isinstance(progress, Logged):
        return progress
    return Logged(progress, folder.log, notes=not isinstance(folder, FollowerFolder))
