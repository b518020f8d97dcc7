"""Any file or folder that holds a MUSE network, ours or released, to the network."""

from pathlib import Path

from muse_core.errors import MuseError
from muse_core.model.checkpoint import CheckpointState, load_network
from muse_core.model.export import is_export, load_export
from muse_core.model.network import MuseNetwork
from muse_core.model.released import load_released, released_file
from muse_core.registry import discover
from muse_core.run_checkpoints import split_pointer
from muse_core.run_search import find, list_runs
from muse_core.runs import is_run
from muse_core.suggestions import did_you_mean


def locate(where: str | Path) -> Path:
    """Return what a path means: a checkpoint folder of ours, or a file or folder of the public code as it is.

    Raises:
        MuseError: there is nothing to load; the hint says how to get something.
    """
    if split_pointer(where):
        return find(where)
    path = Path(where)
    if path.is_file() and ((path.parent / "state.json").is_file() or is_export(path.parent)):
        return path.parent  # a file inside a checkpoint of ours
    if not is_run(path) and not (path / "state.json").is_file() and released_file(path):
        return path
    if not path.exists() and str(where) != "latest":
        hint = " ".join(filter(None, [did_you_mean(str(where), _names()), "muse ls tokenizers, muse ls runs"]))
        raise MuseError(f"{where} does not exist", hint=hint)
    return find(where)


def _names() -> list[str]:
    return [*discover("muse.tokenizers"), "latest", *(str(run.path) for run in list_runs())]


def open_network(path: Path, *, average: bool = True) -> tuple[MuseNetwork, CheckpointState]:
    """Load the network that lies at a path `locate` returned, averaged weights first unless asked for the others.

    Raises:
        MuseError: it is damaged, or does not fit.
    """
    if is_export(path):
        return load_export(path)
    file = None if (path / "state.json").is_file() else released_file(path)
    return load_released(file) if file else load_network(path, average=average)
