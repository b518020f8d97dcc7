"""The finished tiny tokenizer that ships with muse, made from a run folder."""

from dataclasses import replace
from pathlib import Path

from muse_core.errors import MuseError
from muse_core.files import write_json
from muse_core.model.checkpoint import load_network, stored_weights
from muse_core.run_search import find
from muse_core.training.foundation.export import export_part


def ship(run: Path, folder: Path) -> None:
    """Write the averaged weights of a stage-3 run as one half-precision checkpoint, without its training state.

    Raises:
        MuseError: the run is no finished stage 3.
    """
    network, state = load_network(find(run))
    if state.stage != 3:
        raise MuseError(f"{run} is a stage {state.stage}; what ships has passed all three", hint="muse demo")
    export_part(stored_weights(network, state.encoder_trained), folder)
    document = replace(state, training={})
    write_json(folder / "state.json", document.to_json())
