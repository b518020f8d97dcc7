"""Finding runs: in the runs folder, and where else they were remembered."""

import warnings
from collections.abc import Collection
from pathlib import Path

from muse_core.command_lines import quote
from muse_core.errors import MuseError, MuseWarning
from muse_core.remembered import remember, remembered
from muse_core.run_checkpoints import FOLDER, LAST, needed_best, split_pointer
from muse_core.run_files import CHAIN, may_be_run
from muse_core.run_status import KINDS, TOKENIZER, Status, resume_command
from muse_core.runs import RunFolder, is_checkpoint, is_run, runs_dir


def note_place(run: Path) -> None:
    """Remember a run that `list_runs` would not find in the runs folder; a warning where that cannot be."""
    here, root = run.resolve(), runs_dir().resolve()
    if root in (here.parent, here.parent.parent):
        return
    try:
        remember(run)
    except OSError as error:
        what = f"`latest` and `muse ls runs` will not find {run}: {error.strerror or error}"
        warnings.warn(what, MuseWarning, stacklevel=2)


def list_runs(where: Path | None = None) -> list[RunFolder]:
    """List runs, the one updated last first, unreadable ones at the end.

    Args:
        where: a folder, searched two levels deep; by default that of new runs, and the runs remembered elsewhere.
    """
    root = where or runs_dir()
    found = {status.parent for pattern in ("*/status.json", "*/*/status.json") for status in root.glob(pattern)}
    runs = {folder.resolve(): folder for folder in sorted(found) if may_be_run(folder)}
    elsewhere = {folder: folder for folder in remembered()} if where is None else {}
    every = map(RunFolder, (elsewhere | runs).values())
    return sorted(every, key=lambda run: (_updated(run), str(run.path)), reverse=True)


def _updated(run: RunFolder) -> str:
    try:
        return run.status.updated or ""
    except MuseError:
        return ""  # whoever needs this run's status is told; the others can still be found


def readable_runs(where: Path | None = None, kinds: Collection[str] = KINDS) -> list[tuple[RunFolder, Status]]:
    """List runs of some kinds as `list_runs` does, with their status; a warning names each that cannot be read."""
    readable = []
    for run in list_runs(where):
        try:
            readable.append((run, run.status))
        except MuseError as error:
            warnings.warn(f"{error.what}; this run is passed over", MuseWarning, stacklevel=2)
    return [(run, status) for run, status in readable if status.kind in kinds]


def newest_finished(
    where: Path | None = None, stage: int | None = None, size: str | None = None, kind: str = TOKENIZER
) -> RunFolder | None:
    """Return the finished run of a kind updated last that has a checkpoint, of one stage and size if asked."""
    for run, status in readable_runs(where, (kind,)):
        fits = stage in (None, status.stage) and size in (None, status.size)
        if fits and status.state == "finished" and run.last_checkpoint():
            return run
    return None


def find(where: str | Path) -> Path:
    """Return the checkpoint folder meant by "latest", a tokenizer's run folder or checkpoint folder, or RUN:best.

    Raises:
        MuseError: there is none; the hint says how to get one.
    """
    if str(where) == "latest":
        return _last_of(latest_finished())
    pointer = split_pointer(where)
    if pointer and (pointer[0] == "latest" or Path(pointer[0]).exists()):
        run = latest_finished() if pointer[0] == "latest" else _named(Path(pointer[0]))
        return _last_of(run) if pointer[1] == LAST else needed_best(run.path)
    path = Path(where)
    if is_checkpoint(path) and not is_run(path):
        return path
    if is_run(path) or list_runs(path):
        return _last_of(_named(path))
    what = "holds neither a run nor a checkpoint" if path.exists() else "does not exist"
    raise MuseError(f"{path} {what}", hint="muse ls runs")


def latest_finished(kind: str = TOKENIZER) -> RunFolder:
    """Return the run that "latest" means where a checkpoint is needed.

    Raises:
        MuseError: there is none; the hint says how to get one.
    """
    newest = newest_finished(kind=kind)
    if newest is not None:
        return newest
    others = [(run, run.seen) for run, status in readable_runs(kinds=(kind,)) if status.state != "finished"]
    if not others:
        hint = "make one with `muse demo`, or name a --checkpoint"
        raise MuseError(f"there is no run in {runs_dir()}", hint=hint)
    run, status = others[0]
    what = f"there is no finished run in {runs_dir()}: {run.path} is {status.progress()}"
    raise MuseError(what, hint=f"{resume_command(run.path)}, or name a --checkpoint")


def find_run(where: str | Path) -> RunFolder:
    """Find the run meant by "latest" (the one updated last, finished or not) or by its folder.

    Raises:
        MuseError: there is none.
    """
    if str(where) != "latest":
        return _named(Path(where))
    for run, _ in readable_runs():
        return run
    raise _no_run()


def unfinished(where: str | Path) -> RunFolder:
    """Find the run to go on with: "latest" is the one updated last that is not finished, or has stages after it.

    Raises:
        MuseError: there is none; whether there are runs at all is said.
    """
    if str(where) != "latest":
        return _named(Path(where))
    runs = readable_runs()
    for run, status in runs:
        if status.state != "finished" or (run.path / CHAIN).is_file():
            return run
    if not runs:
        raise _no_run()
    run, status = runs[0]
    again = f"muse train --stage {status.stage} --size {status.size} --init {quote(run.path)}"
    raise MuseError(f"every run in {runs_dir()} is finished", hint=f"{again} for a new run from the newest one")


def _no_run() -> MuseError:
    unreadable = len(list_runs())
    what = f"no run in {runs_dir()} can be used" if unreadable else f"there is no run in {runs_dir()}"
    begin = "muse train --stage 1-3 --size tiny"
    return MuseError(what, hint=f"muse ls runs, or {begin} for a new one" if unreadable else begin)


def run_of(path: Path) -> RunFolder | None:
    """Return the run that a run folder, one of its checkpoints, RUN:best, or a file inside a checkpoint belongs to."""
    pointer = split_pointer(path)
    path = Path(pointer[0]) if pointer else path
    absolute = path.absolute()
    inside = [absolute, *absolute.parents][:2]  # a checkpoint, or a file in it
    homes = [one.parent.parent for one in inside if one.parent.name == FOLDER]
    return next((RunFolder(folder) for folder in (path, *homes) if is_run(folder)), None)


def _named(path: Path) -> RunFolder:
    inside = [] if is_run(path) else list_runs(path)
    if inside:
        raise MuseError(f"{path} is not a run, but holds some", hint=f"name one, such as {inside[0].path}")
    return RunFolder.open(path)


def _last_of(run: RunFolder) -> Path:
    checkpoint = run.last_checkpoint()
    if checkpoint is None:
        raise MuseError(f"{run.path} has no checkpoint yet (it is {run.seen.progress()})")
    return checkpoint
