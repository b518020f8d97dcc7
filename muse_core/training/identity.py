"""What a run was begun with, in identity.json of its folder: whether going on with it is going on with the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from muse_core.command_lines import quote
from muse_core.data.identity import identity_of
from muse_core.data.reach import open_readable
from muse_core.data.source import absolute, open_source
from muse_core.distributed import rank_of
from muse_core.errors import ExitCode, MuseError
from muse_core.files import read_json, write_json
from muse_core.identity import FIRST_READER, Identity, Part, first_of
from muse_core.image_files import READER
from muse_core.runs import FollowerFolder, RunFolder, resume_command
from muse_core.settings.train import TrainSettings

FILE = "identity.json"
SPLITS = {"train": "--data", "val": "--val-data"}
MAY_CHANGE = frozenset(
    {
        "training.devices",
        "training.save_every",
        "training.eval_every",
        "training.sample_every",
        "training.log_every",
        "training.keep",
        "training.track",
        "training.threads",
        "data.workers",
    }
)
"""Settings that a resumed run may have otherwise; all others make it another run."""

MAY_MOVE = {"data.train": "train", "data.val": "val"}
"""Settings that may name another place when the same data lie there."""


@dataclass(frozen=True)
class RunIdentity:
    """What a run was begun with.

    inputs: of "train", "val" and "init", as far as there are such. settings: by dotted key, without those that may
    change and without paths. computed: by how many processes, with which torch, on what. reader: of images.
    """

    inputs: Mapping[str, Identity]
    settings: Mapping[str, Any]
    computed: Mapping[str, Any]
    reader: int = READER

    def to_json(self) -> dict[str, Any]:
        """Return what identity.json holds."""
        inputs = {name: identity.to_json() for name, identity in self.inputs.items()}
        return {"reader": self.reader, "computed": self.computed, "settings": self.settings, "inputs": inputs}


@dataclass(frozen=True)
class Continuation:
    """How a run goes on.

    inexact: why it may not end with the bits of a run that was never stopped. warning: what the user has to know first.
    """

    inexact: tuple[str, ...] = ()
    warning: str | None = None

    def sentence(self, folder: Path, start: str) -> str:
        """Say what is continued; "exactly" only where nothing speaks against it."""
        if not self.inexact:
            return f"continues {folder} exactly, from {start}"
        return f"continues {folder} from {start}; not bit for bit: {first_of(self.inexact, '; ')}"


Weights = Callable[[Identity | None], Identity]
"""Returns the identity of the weights that a run starts from; takes what was recorded of them before, if anything."""


def identify(settings: TrainSettings, init: Weights | None, before: RunIdentity | None = None) -> RunIdentity:
    """Return what settings name as it is now; `init` are the weights that it starts from.

    Raises:
        MuseError: data cannot be opened.
    """
    known = before.inputs if before else {}
    inputs = {
        split: identity_of(open_source(where, split=split, size=settings.model.resolution), known.get(split))
        for split, where in (("train", settings.data.train), ("val", settings.data.val))
        if where
    }
    if init is not None:
        inputs["init"] = init(known.get("init"))
    return RunIdentity(inputs, _settings(settings), _computed(settings))


def record(folder: RunFolder, identity: RunIdentity) -> None:
    """Write identity.json; only the first process of a run does."""
    if not isinstance(folder, FollowerFolder):
        write_json(folder.path / FILE, identity.to_json())


def recorded(folder: RunFolder) -> RunIdentity | None:
    """Read identity.json; None for a run of 0.1.0, which has none.

    Raises:
        MuseError: it is damaged.
    """
    path = folder.path / FILE
    if not path.is_file():
        return None
    document = read_json(path)
    try:
        inputs = {str(name): Identity.from_json(value) for name, value in document["inputs"].items()}
        return RunIdentity(inputs, dict(document["settings"]), dict(document["computed"]), int(document["reader"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        hint = f"remove it: {folder.path} then goes on without being compared"
        raise MuseError(f"{path} is not the identity of a run: {error!r}", hint=hint) from None


def go_on(folder: RunFolder, settings: TrainSettings, init: Weights | None) -> Continuation:
    """Compare a run with what its settings name now, and record that; `init` is None where a checkpoint replaces it.

    Raises:
        MuseError: data or weights are others than it was begun with.
    """
    if isinstance(folder, FollowerFolder):  # the first process compares for all
        return Continuation()
    before = recorded(folder)
    now = identify(settings, init, before)
    if before is None:
        record(folder, now)
        warning = f"{folder.path} does not say which data it was begun with, so that nobody knows whether they changed"
        return Continuation(("its data could not be compared",), warning)
    unchecked = refuse_other(folder, before, now, settings)
    started = folder.last_checkpoint() is not None
    inexact = [f"{len(unchecked)} files without a checksum: {first_of(unchecked)}"] if unchecked else []
    inexact += _others(before, now) if started else []
    record(folder, _joined(before, now, started=started))
    return Continuation(tuple(inexact))


def refuse_other(folder: RunFolder, before: RunIdentity, now: RunIdentity, settings: TrainSettings) -> tuple[str, ...]:
    """Refuse data and weights that are not those of a run; return the names of files that could not be compared.

    Raises:
        MuseError: names what differs, with the way on.
    """
    places = {"train": settings.data.train, "val": settings.data.val, "init": settings.run.init}
    unchecked: list[str] = []
    for name in before.inputs.keys() & now.inputs.keys():
        found = before.inputs[name].compare(now.inputs[name])
        unchecked += found.unchecked
        kinds = [_kind_of(one.inputs[name]) for one in (before, now)]
        if found.changed and name in SPLITS and kinds[0] != kinds[1]:
            raise _of_another_kind(folder, name, str(places[name]), *kinds)
        if found.changed:
            what = "the weights it starts from" if name == "init" else f"its {name} data"
            raise MuseError(
                f"{folder.path} cannot go on: {what} changed since it was begun: {places[name]}: {found.in_words()}",
                hint=_ways(folder, name),
                exit_code=ExitCode.FILE,
            )
    return tuple(unchecked)


def _kind_of(data: Identity) -> str:
    kinds = {_kind_of_part(part) for part in data.parts}
    return kinds.pop() if len(kinds) == 1 else "a mix"


def _kind_of_part(part: Part) -> str:
    if "scenes" in part.facts:
        return "built-in scenes"
    if "count" in part.facts:
        return "other data"
    return "shards" if all(".tar" in file.name or ".tgz" in file.name for file in part.files) else "image files"


def _of_another_kind(folder: RunFolder, split: str, place: str, before: str, now: str) -> MuseError:
    option = SPLITS[split]
    saved = folder.last_checkpoint() is not None
    anew = f"muse train --init {quote(folder.path)} {option} {quote(place)}" if saved else "a run without --resume"
    return MuseError(
        f"{folder.path} cannot go on: its {split} data were {before} when it was begun, and {place} holds {now}",
        hint=f"{option} PLACE where the {before} lie now; or {anew}, a new run on these {now}",
        exit_code=ExitCode.FILE,
    )


def _ways(folder: RunFolder, name: str) -> str:
    anew = f"muse train --init {quote(folder.path)} --data ... for a new run from its weights"
    if folder.last_checkpoint() is None:
        anew = "a new run, as this one has saved nothing yet"
    moved = f", or {SPLITS[name]} PLACE where they lie now" if name in SPLITS else ""
    return f"put them back{moved}; or {anew}"


def with_absolute_paths(document: dict[str, Any]) -> dict[str, Any]:
    """Return settings as a run folder keeps them: whoever resumes may stand in another folder."""
    data = document["data"]
    return {**document, "data": {**data, **{split: data[split] and absolute(data[split]) for split in SPLITS}}}


def refuse_moved(folder: RunFolder, settings: TrainSettings) -> None:
    """Refuse another place of data unless the data of the run lie there; nothing is recorded yet.

    Raises:
        MuseError: they are others, or the run never recorded which they were.
    """
    before = recorded(folder)
    if before is None:
        raise MuseError(
            f"{folder.path} does not say which data it was begun with, so that they cannot be read elsewhere",
            hint=f"put them back where they were, or muse train --init {quote(folder.path)} --data ... for a new run",
            exit_code=ExitCode.SETTINGS,
        )
    refuse_other(folder, before, identify(settings, None, before), settings)


def refuse_absent(folder: RunFolder, settings: TrainSettings) -> None:
    """Refuse to go on where the data of a run are not to be found any more, with the way to name their new place.

    Raises:
        MuseError: they cannot be opened.
    """
    for split, where in (("train", settings.data.train), ("val", settings.data.val)):
        try:
            if where:
                open_readable(where, split=split, size=settings.model.resolution)
        except MuseError as error:
            hint = f"{resume_command(folder.path)} {SPLITS[split]} PLACE, where they lie now"
            if absolute(where or "") != where:
                hint = f"go to the folder in which it was begun, or put them back: {where} is a relative path"
            what = f"the {split} data of {folder.path} cannot be read: {error.what}"
            raise MuseError(what, hint=hint, exit_code=error.exit_code) from None


def _others(before: RunIdentity, now: RunIdentity) -> list[str]:
    """Say what else makes the last digits others."""
    found = [
        f"{key} {before.computed[key]} before, {value} now"
        for key, value in now.computed.items()
        if key in before.computed and before.computed[key] != value
    ]
    changed = [key for key, value in now.settings.items() if before.settings.get(key, value) != value]
    found += [f"other settings: {first_of(changed)}"] if changed else []
    if before.reader != now.reader:
        found.append(f"images are read by reader {now.reader}, before by reader {before.reader}")
    return found


def _joined(before: RunIdentity, now: RunIdentity, *, started: bool) -> RunIdentity:
    """Keep what was begun with, seen where and when it lies now; before the first checkpoint nothing was computed."""
    inputs = {**before.inputs, **now.inputs}
    return RunIdentity(inputs, now.settings, now.computed, before.reader if started else now.reader or FIRST_READER)


def _settings(settings: TrainSettings) -> dict[str, Any]:
    ignored = MAY_CHANGE | set(MAY_MOVE) | {"run.init", "run.out", "run.overwrite"}
    document = settings.model_dump(mode="json")
    flat = {f"{section}.{key}": value for section, keys in document.items() for key, value in keys.items()}
    return {key: value for key, value in flat.items() if key not in ignored}


def _computed(settings: TrainSettings) -> dict[str, Any]:
    training = settings.training
    gpu = torch.cuda.is_available() and not training.devices.startswith("cpu")
    return {
        "processes": rank_of(os.environ).count,
        "threads": training.threads or torch.get_num_threads(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if gpu else "cpu",
    }
