"""The checkpoints of a run: a folder for each step that was saved, and `last` and `best`, files that name one each.

Nothing here knows what is inside a checkpoint, or what makes one the best.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from muse_core.command_lines import command_line
from muse_core.errors import MuseError
from muse_core.files import write_atomically, written_aside
from muse_core.run_files import is_left_over, remove_step, strangers_in_step
from muse_core.run_status import resume_command

LAST, BEST = "last", "best"
POINTERS = (LAST, BEST)
FOLDER = "checkpoints"

Choice = Callable[[Sequence[int]], int | None]
"""Of the steps that are kept, the best one; None where nothing was measured."""


def step_name(step: int) -> str:
    """Return the name of what belongs to a step."""
    return f"step-{step:07d}"


def step_of(checkpoint: Path) -> int:
    """Return the step that a checkpoint of a run was saved at; -1 for a folder that somebody named otherwise."""
    digits = checkpoint.name.removeprefix("step-")
    return int(digits) if digits.isdecimal() and digits.isascii() else -1


@contextmanager
def saved(run: Path, step: int, keep: int | None = None, best: Choice | None = None) -> Iterator[Path]:
    """Fill the checkpoint of a step; once complete, `last` and `best` are decided, and only then others go."""
    with written_aside(run / FOLDER / step_name(step), strangers_in_step) as folder:
        yield folder
    point(run, LAST, step)
    if best is not None:
        point_to_best(run, best)
    if keep is not None:
        remove_old(run, keep)


def complete(run: Path) -> list[Path]:
    """List complete checkpoints, oldest step first."""
    return sorted(path for path in (run / FOLDER).glob("step-*") if path.is_dir() and not is_left_over(path))


def pointed_at(run: Path, pointer: str) -> Path | None:
    """Return the checkpoint that `last` or `best` names, if it is one of this run."""
    path = run / FOLDER / pointer
    named = path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else None
    return next((checkpoint for checkpoint in complete(run) if checkpoint.name == named), None)


def needed_best(run: Path) -> Path:
    """Return the checkpoint that `best` names.

    Raises:
        MuseError: there is none.
    """
    best = pointed_at(run, BEST)
    if best is None:
        what = f"{run} has no best checkpoint: nothing was measured on held-out data when one was saved"
        raise MuseError(what, hint=f"{run} means the last one; muse train ... --val-data SHARDS measures")
    return best


def point(run: Path, pointer: str, step: int) -> None:
    """Let `last` or `best` name the checkpoint of a step."""
    write_atomically(run / FOLDER / pointer, step_name(step) + "\n")


def point_to_best(run: Path, choice: Choice) -> None:
    """Let `best` name the best of the checkpoints that are kept; where nothing tells which that is, it stays."""
    best = choice([step_of(path) for path in complete(run) if path.name == step_name(step_of(path))])
    if best is not None and pointed_at(run, BEST) != run / FOLDER / step_name(best):
        point(run, BEST, best)


def remove_old(run: Path, keep: int) -> None:
    """Remove all checkpoints but the newest `keep`; the best one stays, and is not counted."""
    best = pointed_at(run, BEST)
    others = [checkpoint for checkpoint in complete(run) if checkpoint != best]
    for old in others[: -max(keep, 1)]:
        remove_step(old)


def way_around_damage(run: Path) -> str:
    """Return what to type where the last checkpoint is damaged, so that the one before goes on; "" where none is."""
    checkpoints = complete(run)
    if len(checkpoints) < 2:
        return ""
    before, last = checkpoints[-2:]
    aside = run.with_name(f"{run.name}-{last.name}-damaged")
    return f"{command_line('mv', str(last), str(aside))} && {resume_command(run)} goes on behind step {step_of(before)}"


def split_pointer(where: str | Path) -> tuple[str, str] | None:
    """Split RUN:best, RUN:last and RUN/checkpoints/best into the run and the pointer; None for other words."""
    text = str(where)
    run, colon, pointer = text.rpartition(":")
    path = Path(text)
    if run and colon and pointer in POINTERS and not path.exists():
        return run, pointer
    path = path.absolute()
    if path.name in POINTERS and path.parent.name == FOLDER and not path.is_dir():
        return str(Path(text).parent.parent if len(Path(text).parts) > 2 else path.parents[1]), path.name
    return None
