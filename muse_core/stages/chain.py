"""What remains of `--stage 1-3`: a run keeps the settings of the stages after it, until the next of them begins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from muse_core.errors import MuseError
from muse_core.files import read_json
from muse_core.run_search import run_of
from muse_core.runs import CHAIN
from muse_core.settings.train import TrainSettings
from muse_core.training.identity import with_absolute_paths


@dataclass(frozen=True)
class Stage:
    """A stage that is to be trained: its settings, and which layer set each key."""

    settings: TrainSettings
    origins: Mapping[str, str]

    def begun_from(self, run: str) -> "Stage":
        """Return the same stage, begun with the weights of a run."""
        own = self.settings.run.model_copy(update={"init": run})
        return Stage(self.settings.model_copy(update={"run": own}), {**self.origins, "run.init": "command line"})

    def with_values(self, settings: TrainSettings, keys: Sequence[str]) -> "Stage":
        """Return the same stage with the values that other settings have for some keys."""
        document = self.settings.model_dump(mode="json")
        values = settings.model_dump(mode="json")
        for key in keys:
            section, _, name = key.partition(".")
            document[section][name] = values[section][name]
        return Stage(TrainSettings.model_validate(document), {**self.origins, **dict.fromkeys(keys, "command line")})


def chain_document(later: Sequence[Stage]) -> dict[str, Any]:
    """Return what a run keeps of the stages after it; whoever goes on may stand in another folder."""
    return {"stages": [{"settings": _absolute(stage.settings), "origins": dict(stage.origins)} for stage in later]}


def _absolute(settings: TrainSettings) -> dict[str, Any]:
    document = with_absolute_paths(settings.model_dump(mode="json"))
    out = settings.run.out
    return {**document, "run": {**document["run"], "out": out and str(Path(out).absolute())}}


def stages_after(run: Path) -> list[Stage]:
    """Return the stages that are still to come after a run, in their order.

    Raises:
        MuseError: what the run says of them cannot be understood.
    """
    path = run / CHAIN
    if not path.is_file():
        return []
    try:
        found = read_json(path)["stages"]
        return [Stage(TrainSettings.model_validate(one["settings"]), dict(one["origins"])) for one in found]
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        what = f"{path} does not say what comes after this run: {type(error).__name__}"
        raise MuseError(what, hint=f"remove it, and {run} is the last") from None


def take_up(init: Path | None) -> None:
    """Let the run that a new one was begun from forget what comes after it: that is the new one's now."""
    run = run_of(init) if init else None
    if run is not None:
        (run.path / CHAIN).unlink(missing_ok=True)


def stages_text(stages: Sequence[Stage]) -> str:
    """Name stages in a sentence: "stage 3", "stages 2 and 3"."""
    numbers = [str(stage.settings.run.stage) for stage in stages]
    return f"stage{'s' if len(numbers) > 1 else ''} {' and '.join(numbers)}"
