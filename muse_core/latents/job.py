"""What latents are made of, in job.json of their folder: whether going on with them is going on with the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muse_core.data.identity import identity_of
from muse_core.data.source import absolute, open_source, remarks_of
from muse_core.errors import ExitCode, MuseError
from muse_core.files import read_json
from muse_core.identity import FIRST_READER, Identity, first_of
from muse_core.image_files import READER
from muse_core.model.identity import identity_of_tokenizer, settled
from muse_core.progress import Progress

INPUTS = ("data", "tokenizer")


@dataclass(frozen=True)
class RecordedJob:
    """A job as job.json has it.

    settings: of the job, data and tokenizer as they are named from any folder. typed: these two as they were typed.
    inputs: the identity of both; none in a job of 0.1.0. reader: of images.
    """

    settings: Mapping[str, Any]
    typed: Mapping[str, str]
    inputs: Mapping[str, Identity]
    reader: int = READER

    def to_json(self) -> dict[str, Any]:
        """Return what job.json holds."""
        inputs = {name: identity.to_json() for name, identity in self.inputs.items()}
        return {**self.settings, "typed": dict(self.typed), "reader": self.reader, "inputs": inputs}

    @classmethod
    def read(cls, path: Path) -> RecordedJob:
        """Read job.json.

        Raises:
            MuseError: it is damaged.
        """
        document = read_json(path)
        try:
            reader, typed = int(document.pop("reader", FIRST_READER)), dict(document.pop("typed", {}))
            inputs = {name: Identity.from_json(value) for name, value in document.pop("inputs", {}).items()}
            return cls(document, typed or {name: document[name] for name in INPUTS}, inputs, reader)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MuseError(f"{path} is not the job of a folder of latents: {error!r}") from None


def begin(settings: Mapping[str, Any], before: RecordedJob | None, out: Path, progress: Progress) -> RecordedJob:
    """Return what is to be recorded of a job that begins, or goes on with what it recorded `before`.

    Raises:
        MuseError: data or tokenizer cannot be found, or are not those it was begun with.
    """
    typed = {name: str(settings[name]) for name in INPUTS}
    here = {**settings, "data": absolute(typed["data"]), "tokenizer": settled(typed["tokenizer"])}
    known = before.inputs if before else {}
    source = open_source(here["data"], size=settings["size"])
    for remark in remarks_of(source):
        progress.warn(remark)
    data = identity_of(source, known.get("data"))
    now = RecordedJob(
        here, typed, {"data": data, "tokenizer": identity_of_tokenizer(here["tokenizer"], known.get("tokenizer"))}
    )
    if before is None:
        return now
    _refuse_other_settings(before, now, out)
    if not before.inputs:
        progress.warn(f"{out} does not say which data and weights it was begun with, and goes on without comparing")
    _refuse_other_inputs(before, now, out, progress)
    return RecordedJob(here, before.typed, {**now.inputs, **_kept(before, now)}, before.reader)


def _kept(before: RecordedJob, now: RecordedJob) -> dict[str, Identity]:
    """What had a checksum and can no longer be compared stays recorded."""
    compared = {name: before.inputs[name].compare(now.inputs[name]) for name in before.inputs}
    return {name: before.inputs[name] for name, found in compared.items() if found.unchecked}


def _refuse_other_settings(before: RecordedJob, now: RecordedJob, out: Path) -> None:
    ignored = INPUTS if before.inputs else ()
    shown = {**now.settings, **{name: now.typed[name] for name in INPUTS}}
    changed = [
        f"{key} {before.settings.get(key)} there, {shown[key]} here"
        for key, value in now.settings.items()
        if key not in ignored and before.settings.get(key) not in (value, shown[key])
    ]
    if changed:
        raise MuseError(
            f"{out} holds latents of another job: {'; '.join(changed)}",
            hint="--overwrite to write them anew, or another folder",
            exit_code=ExitCode.SETTINGS,
        )


def _refuse_other_inputs(before: RecordedJob, now: RecordedJob, out: Path, progress: Progress) -> None:
    for name, identity in before.inputs.items():
        found = identity.compare(now.inputs[name])
        if found.changed:
            was, is_now = before.settings[name], now.settings[name]
            place = f"{was}" if was == is_now else f"{was} there, {is_now} now"
            raise MuseError(
                f"{out} was begun with another {name} than there is now ({place}): {found.in_words()}",
                hint="put it back, or name where it lies now; or --overwrite to write the latents anew",
                exit_code=ExitCode.FILE,
            )
        if found.unchecked:
            count, names = len(found.unchecked), first_of(found.unchecked)
            progress.warn(f"{name}: {count} files have no checksum to compare: {names}")
