"""Any file or folder that holds a MUSE network, ours or released, to the network."""

from pathlib import Path

from muse_core.model.checkpoint import CheckpointState, load_network
from muse_core.model.export import load_export
from muse_core.model.locating import is_export, locate as locate, released_file
from muse_core.model.network import MuseNetwork
from muse_core.model.released import load_released


def open_network(path: Path, *, average: bool = True) -> tuple[MuseNetwork, CheckpointState]:
    """Load the network that lies at a path `locate` returned, averaged weights first unless asked for the others.

    Raises:
        MuseError: it is damaged, or does not fit.
    """
    if is_export(path):
        return load_export(path)
    file = None if (path / "state.json").is_file() else released_file(path)
    return load_released(file) if file else load_network(path, average=average)
