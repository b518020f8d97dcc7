"""The libraries that a run is tracked with, each behind accelerate's tracker of the same name.

Whatever they raise is for `trackers` to catch. Each is left at the place its own variables name.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from muse_core.errors import ExitCode, MuseError
from muse_core.image_files import ImageFile
from muse_core.machine import without_secrets
from muse_core.offline import OFFLINE, is_away, is_offline

PROJECT = "muse"
"""The project, or experiment, of runs for which no variable names another one."""

Identity = Mapping[str, str]
"""What a library needs to go on in the same tracker run."""


@dataclass(frozen=True)
class Beginning:
    """What a tracker is started with: the run's folder, its settings by dotted key, and what was kept of an earlier
    start, which is empty for a new one."""

    folder: Path
    settings: Mapping[str, str | int | float | bool]
    known: Identity


class Library(Protocol):
    """One tracker that was started.

    identity: to go on with later. place: where to look, in words; empty where that is the run folder.
    """

    identity: Identity
    place: str

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take numbers of a step."""

    def figure(self, step: int, name: str, path: Path) -> None:
        """Take a PNG."""

    def text(self, name: str, text: str) -> None:
        """Take lines that belong to no step."""

    def end(self, ok: bool) -> None:
        """Write everything out; `ok` says whether the run did what it was asked."""


class TensorBoard:
    """Event files in the run folder; a resumed run adds one to them."""

    def __init__(self, beginning: Beginning) -> None:
        self.identity: Identity = {}
        self.place = ""
        self._tracker = _started("TensorBoardTracker", "tensorboard", str(beginning.folder))

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take numbers of a step."""
        self._tracker.log(dict(numbers), step=step)

    def figure(self, step: int, name: str, path: Path) -> None:
        """Take a PNG."""
        pixels = ImageFile(path.read_bytes()).pixels()[None]
        self._tracker.log_images({name: pixels}, step=step, dataformats="NHWC")

    def text(self, name: str, text: str) -> None:
        """Take lines, of which the page makes Markdown."""
        self._tracker.log({name: "\n".join(f"    {line}" for line in text.splitlines())})

    def end(self, ok: bool) -> None:
        """Write everything out."""
        self._tracker.finish()


class WandB:
    """Weights & Biases; offline each start writes a folder of its own, all with the run's id, for `wandb sync`."""

    def __init__(self, beginning: Beginning) -> None:
        # Its own lines and its question for a login would be drawn over the bar; its place is told by muse. A network
        # that is gone must not keep a finished run from ending.
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_FINISH_TIMEOUT", "300")
        mode = {"mode": "offline"} if is_offline() and not _wandb_stays_here() else {}
        project = beginning.known.get("project") or os.environ.get("WANDB_PROJECT") or PROJECT
        options = {"id": beginning.known.get("id"), "resume": "allow", "name": beginning.folder.name, **mode}
        with _undone_by(lambda: import_module("wandb").finish(exit_code=1)):
            self._tracker = _started("WandBTracker", project, **options)
            self._tracker.store_init_configuration(dict(beginning.settings))
        self.identity: Identity = {"id": self._tracker.tracker.id, "project": project}
        self.place = self._tracker.tracker.url or f"{Path(self._tracker.tracker.dir).parent}, for wandb sync"

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take numbers of a step."""
        self._tracker.log(dict(numbers), step=step)

    def figure(self, step: int, name: str, path: Path) -> None:
        """Take a PNG."""
        self._tracker.log_images({name: [str(path)]}, step=step)

    def text(self, name: str, text: str) -> None:
        """Take lines, beside the settings."""
        self._tracker.store_init_configuration({name: text})

    def end(self, ok: bool) -> None:
        """Send everything, or write it out."""
        self._tracker.tracker.finish(exit_code=0 if ok else 1)


class MLflow:
    """mlflow; the store is MLFLOW_TRACKING_URI, or mlflow's own choice in this folder, by which a run goes on."""

    def __init__(self, beginning: Beginning) -> None:
        # A server that does not answer is given up soon: numbers are sent between two steps.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        self._mlflow = import_module("mlflow")
        known, before = beginning.known, beginning.known.get("store", "")
        self._moved = bool(before) and not is_away(before) and not os.environ.get("MLFLOW_TRACKING_URI")
        if self._moved:
            self._mlflow.set_tracking_uri(before)
        store = without_secrets(str(self._mlflow.get_tracking_uri()))
        run_id = known["id"] if before == store else None
        with _undone_by(lambda: self.end(ok=False)):
            self._tracker = _started("MLflowTracker", PROJECT, run_id=run_id, run_name=beginning.folder.name)
            if run_id is None:  # parameters are given once
                self._tracker.store_init_configuration(dict(beginning.settings))
        self.identity: Identity = {"id": self._tracker.tracker.info.run_id, "store": store}
        self.place = f"run {self.identity['id']} in {store}"

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take numbers of a step."""
        self._tracker.log(dict(numbers), step=step)

    def figure(self, step: int, name: str, path: Path) -> None:
        """Take a PNG, as a file of the run."""
        self._tracker.log_artifact(str(path), name)

    def text(self, name: str, text: str) -> None:
        """Take lines, as a file of the run."""
        self._mlflow.log_text(text + "\n", f"{name}.txt")

    def end(self, ok: bool) -> None:
        """Write how the run ended."""
        self._mlflow.end_run("FINISHED" if ok else "FAILED")
        self._leave_store()

    def _leave_store(self) -> None:
        if self._moved:  # else it would be the store of every later run of this process
            self._mlflow.set_tracking_uri(None)


class Trackio:
    """trackio; on this machine in TRACKIO_DIR, or where TRACKIO_SPACE_ID or TRACKIO_SERVER_URL say."""

    def __init__(self, beginning: Beginning) -> None:
        self._trackio = import_module("trackio")
        known = beginning.known
        project = known.get("project", PROJECT)
        # It knows runs by their names, and run folders of several places may share one.
        name = known.get("id") or f"{beginning.folder.name}-{uuid4().hex[:6]}"
        resume = "allow" if known else "never"
        here = _hub_offline() if _address_of("trackio") is None else nullcontext()
        with here, _undone_by(self._trackio.finish):
            settings = dict(beginning.settings)
            self._tracker = _started("TrackioTracker", project, name=name, resume=resume, config=settings)
        self.identity: Identity = {"id": name, "project": project}
        where = _address_of("trackio") or f"trackio show --project {project}"
        self.place = f"run {name} of project {project}, {where}"

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take numbers of a step."""
        self._tracker.log(dict(numbers), step=step)

    def figure(self, step: int, name: str, path: Path) -> None:
        """Take a PNG."""
        self._tracker.log({name: self._trackio.Image(str(path))}, step=step)

    def text(self, name: str, text: str) -> None:
        """Take lines, as Markdown that shows them as they are."""
        self._tracker.log({name: self._trackio.Markdown(f"```\n{text}\n```")}, step=0)

    def end(self, ok: bool) -> None:
        """Write everything out."""
        self._trackio.finish()  # its own, not only the run's, or it would end the run again as the process ends


KINDS: Mapping[str, type[Any]] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow, "trackio": Trackio}
"""By the names that --track takes; each is also the name of its package and of the extra that brings it."""


def missing(name: str) -> bool:
    """Return whether the package of a tracker is not installed."""
    return find_spec(name) is None


def remedy(name: str) -> str:
    """Return what to type to get the package of a tracker."""
    return f'pip install "muse-tokenizer[{name}]"'


def refuse(name: str) -> None:
    """Refuse a tracker that cannot be started here, before it is.

    Raises:
        MuseError: its package is missing, or it is at an address and MUSE_OFFLINE is set.
    """
    if missing(name):
        raise MuseError(f"the package {name} is not installed", hint=remedy(name), exit_code=ExitCode.MACHINE)
    address = _address_of(name)
    if is_offline() and address is not None:
        what = f"{name} would send to {address}, and {OFFLINE}=1 forbids to"
        raise MuseError(what, hint=f"unset {address.partition('=')[0]} or {OFFLINE}, or leave {name} out of --track")


def _address_of(name: str) -> str | None:
    """Return the variable, with its value, by which a tracker sends to another machine; None where it does not.

    wandb without an address of the user's has one of its own, which MUSE_OFFLINE keeps it from.
    """
    variables = {"trackio": ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"), "mlflow": ("MLFLOW_TRACKING_URI",)}
    if name == "wandb" and not _wandb_stays_here():
        variables["wandb"] = ("WANDB_BASE_URL",)
    for variable in variables.get(name, ()):
        value = os.environ.get(variable, "")
        if value and (name != "mlflow" or is_away(value) or value.startswith("databricks")):
            return without_secrets(f"{variable}={value}")
    return None


def _wandb_stays_here() -> bool:
    return os.environ.get("WANDB_MODE") in ("offline", "dryrun", "disabled")


def _started(kind: str, *arguments: object, **options: object) -> Any:
    tracker = getattr(import_module("accelerate.tracking"), kind)(*arguments, **options)
    tracker.start()
    return tracker


@contextmanager
def _undone_by(undo: Callable[[], object]) -> Iterator[None]:
    """Undo what was begun when the rest of it fails: a run that stays open is in the way of the next one."""
    try:
        yield
    except Exception:
        with suppress(Exception):
            undo()
        raise


@contextmanager
def _hub_offline() -> Iterator[None]:
    """Keep trackio from asking the hub whose token lies here, which it does also for a store of this machine."""
    constants: Any = import_module("huggingface_hub.constants")
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
