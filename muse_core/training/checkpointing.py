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

from muse_core.distributed import is_first
from muse_core.files import read_json, write_json
from muse_core.run_checkpoints import BEST, point_to_best, pointed_at, step_name
from muse_core.tensor_files import digests_in, is_in_parts, read_unchanged, whole, write_tensors
from muse_core.training.ema import Average
from muse_core.training.state import random_state, restore_random
from muse_core.training.trainer import Trainer

OPTIMIZER, OPPONENT = "optimizer", "adversary"
"""Prefixes of names in training.safetensors; the second since the first opponent was one."""


def save(trainer: Trainer, done: int) -> None:
    """Write a checkpoint aside and rename it; all processes have to come here."""
    trainer.guard.look()
    cursor = trainer.reader.whole_cursor()
    recorder, averages = trainer.recorder, trainer.learner.averages
    if not is_first() and not is_in_parts(trainer.learner.optimization.weights.values()):
        return
    tensors, state = _training_state(trainer, cursor)
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
    tensors |= random_state()
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
    """Go on exactly from a checkpoint; the task holds its weights already.

    Raises:
        MuseError: a file is missing, or any bit of it is another than was written.
    """
    document = read_json(folder / "state.json")
    state, digests = document["training"], document.get("digests", {})
    tensors = read_unchanged(folder / "training.safetensors", digests)
    trainer.learner.optimization.restore(OPTIMIZER, tensors, state["optimizer"])
    restore_random(tensors)
    averages = trainer.learner.averages
    for average, saved in zip(averages, state.get("averages") or [state.get("average")], strict=True):
        average.restore(read_unchanged(folder / _file_of(average, averages), digests), saved["updates"], saved["cap"])
    if trainer.opposition:
        trainer.opposition.restore(OPPONENT, tensors, state[OPPONENT])
    trainer.first_step = int(document["step"])
    trainer.reader.restore(state["skipped"])
    if is_first():  # a process that was killed while it saved may not have come to this
        point_to_best(trainer.recorder.folder.path, trainer.recorder.held_out.best)


def cursor_of(checkpoint: Path | None) -> dict[int, int]:
    """Read how far each lane had come; nowhere without a checkpoint."""
    if checkpoint is None:
        return {}
    saved = read_json(checkpoint / "state.json")["training"]["cursor"]
    return {int(lane): int(position) for lane, position in saved.items()}


def _file_of(average: Average, all_of_them: tuple[Average, ...]) -> str:
    return "average.safetensors" if average is all_of_them[0] else f"average-{average.cap:g}.safetensors"
