"""What a run is refused for before anything is built or written, said by the plan and by the command alike."""

from collections.abc import Callable, Iterator
from pathlib import Path

from muse_core.errors import MuseError
from muse_core.files import refuse_unwritable
from muse_core.model.checkpoint import CheckpointState, read_state
from muse_core.runs import new_path, refuse_in_the_way
from muse_core.settings.train import TrainSettings
from muse_core.stages.setup import refuse_other_numbers
from muse_core.training.tracker_kinds import refuse as refuse_tracker


def problems(settings: TrainSettings, init: Path | None, *, new: bool) -> Iterator[MuseError]:
    """Yield what is wrong with where a run writes, and with the checkpoint it starts from.

    new: it is about to begin, so that its folder must be free.
    """
    yield from _raised(_refuse_unfit_init, settings, init)
    if new:
        yield from _raised(refuse_place, settings)
    for name in settings.training.track:
        if name != "none":
            yield from _raised(refuse_tracker, name)


def _raised(check: Callable[..., None], *values: object) -> Iterator[MuseError]:
    try:
        check(*values)
    except MuseError as error:
        yield error


def refuse_place(settings: TrainSettings) -> None:
    """Refuse a run folder that is taken, or that cannot be made.

    Raises:
        MuseError: it holds something, or the folder it would be in takes no new files.
    """
    run = settings.run
    if run.out:
        refuse_in_the_way(Path(run.out), run.overwrite)
    else:
        refuse_unwritable(new_path(run.stage, run.size))


def _refuse_unfit_init(settings: TrainSettings, init: Path | None) -> None:
    if init is not None and (init / "state.json").is_file():
        state: CheckpointState = read_state(init)
        refuse_other_numbers(init, state, settings)
