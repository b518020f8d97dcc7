"""Saving a run whole and going on from it to the same bits. Nothing on disk has to be unpickled.

model.safetensors     what the task stores
average.safetensors   the running average of what trains; average-DECAY.safetensors where there are several
training.safetensors  optimizers, opponent, random numbers
state.json            the task's identity, the step, how far each lane had come
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from muse_core.distributed import is_first, rank
from muse_core.errors import ExitCode, MuseError
from muse_core.files import read_json, write_json
from muse_core.run_checkpoints import BEST, point_to_best, pointed_at, step_name
from muse_core.tensor_files import (
    DamagedCheckpointError,
    digests_in,
    is_in_parts,
    read_tensors,
    refuse_changed,
    whole,
    write_tensors,
)
from muse_core.training.ema import Average
from muse_core.training.state import random_states, restore_random
from muse_core.training.trainer import Trainer

OPTIMIZER, OPPONENT = "optimizer", "adversary"
"""Prefixes of names in training.safetensors; the second since the first opponent was one."""

SEED_APART = 1_000_003
"""Between seeds of a process that goes on and was not there before: from step to step others."""


def save(trainer: Trainer, done: int) -> None:
    """Write a checkpoint aside and rename it; all processes have to come here."""
    trainer.guard.look()
    cursor, chance = trainer.reader.whole_cursor(), random_states()
    recorder, averages = trainer.recorder, trainer.learner.averages
    if not is_first() and not is_in_parts(trainer.learner.optimization.weights.values()):
        return
    tensors, state = _training_state(trainer, cursor)
    tensors |= chance
    stored = {name: whole(tensor) for name, tensor in trainer.task.stored().items()}
    averaged = {_file_of(average, averages): average.stored() for average in averages}
    if not is_first():
        return
    with recorder.folder.checkpoint(done, keep=trainer.settings.keep, best=recorder.held_out.best) as folder:
        write_tensors(tensors, folder / "training.safetensors")
        for name, one in {"model.safetensors": stored, **averaged}.items():
            write_tensors(one, folder / name)
        document = {**trainer.task.identity(), "step": done, "training": state, "digests": digests_in(folder)}
        write_json(folder / "state.json", document)
    recorder.folder.update(step=done)
    recorder.folder.log(f"saved    step {done}")
    if pointed_at(recorder.folder.path, BEST) == folder.with_name(step_name(done)):
        recorder.progress.say(recorder.held_out.best_text(done))


def _training_state(trainer: Trainer, cursor: Mapping[int, int]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and the JSON-able rest of all that a step changes besides what the task stores."""
    tensors, optimizer = trainer.learner.optimization.state(OPTIMIZER)
    averages = [{"updates": average.updates, "cap": average.cap} for average in trainer.learner.averages]
    state: dict[str, Any] = {
        "optimizer": optimizer,
        "cursor": {str(lane): position for lane, position in cursor.items()},
        **({"average": averages[0]} if averages else {}),
        **({"averages": averages} if len(averages) > 1 else {}),
        "skipped": trainer.reader.skipped,
    }
    if trainer.opposition:
        opponent_tensors, state[OPPONENT] = trainer.opposition.state(OPPONENT)
        tensors |= opponent_tensors
    return tensors, state


def restore(trainer: Trainer, folder: Path) -> None:
    """Go on exactly from a checkpoint that `state_of` accepted; the task holds its weights already.

    Raises:
        MuseError: a file cannot be read, or the averages are others.
    """
    document = state_of(folder)
    state = document["training"]
    tensors = read_tensors(folder / "training.safetensors")
    trainer.learner.optimization.restore(OPTIMIZER, tensors, state["optimizer"])
    _restore_averages(trainer.learner.averages, state, folder)
    if trainer.opposition:
        trainer.opposition.restore(OPPONENT, tensors, state[OPPONENT])
    trainer.first_step = int(document["step"])
    restore_random(tensors, seed=trainer.settings.seed + rank() + SEED_APART * trainer.first_step)
    trainer.reader.restore(state["skipped"])
    if is_first():  # a process that was killed while it saved may not have come to this
        point_to_best(trainer.recorder.folder.path, trainer.recorder.held_out.best)


def _restore_averages(averages: tuple[Average, ...], state: Mapping[str, Any], folder: Path) -> None:
    saved = state.get("averages") or ([state["average"]] if "average" in state else [])
    before, now = [one["cap"] for one in saved], [average.cap for average in averages]
    if before != now:
        what = f"{folder} holds averages of decays {before or 'none'}, and this run has {now or 'none'}"
        raise MuseError(what, hint="the decays that it was begun with", exit_code=ExitCode.SETTINGS)
    for average, one in zip(averages, saved, strict=True):
        average.restore(read_tensors(folder / _file_of(average, averages)), one["updates"], one["cap"])


def state_of(folder: Path) -> dict[str, Any]:
    """Read state.json of a checkpoint of a run.

    Raises:
        DamagedCheckpointError: it is missing, or lacks what a run goes on from.
    """
    path = folder / "state.json"
    try:
        document = read_json(path)
        int(document["step"])
        document["training"]["cursor"].items()
        document["training"]["optimizer"]
    except (MuseError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = error.what if isinstance(error, MuseError) else f"{path} lacks {error}"
        raise DamagedCheckpointError(reason, hint=f"muse inspect {folder}") from None
    return document


def refuse_damaged(folder: Path) -> None:
    """Refuse a checkpoint of which any bit is another than was written, before anything is built from it.

    Raises:
        DamagedCheckpointError: naming the file.
    """
    refuse_changed(folder, state_of(folder).get("digests", {}))


def cursor_of(checkpoint: Path | None) -> dict[int, int]:
    """Read how far each lane had come; nowhere without a checkpoint."""
    if checkpoint is None:
        return {}
    saved = state_of(checkpoint)["training"]["cursor"]
    return {int(lane): int(position) for lane, position in saved.items()}


def _file_of(average: Average, all_of_them: tuple[Average, ...]) -> str:
    return "average.safetensors" if average is all_of_them[0] else f"average-{average.cap}.safetensors"
