"""Checkpoints of the network: safetensors and JSON; frozen parts are named by their hash, not stored.

model.safetensors     current weights of everything that ever trained
average.safetensors   the average of what trains now
state.json            size, numbers of the connector, stage, frozen parts
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from muse_core.errors import MuseError
from muse_core.files import read_json, write_json
from muse_core.model.architecture import Architecture, refuse_empty
from muse_core.model.build import ConnectorSpec, build_network, empty_network, plan_network
from muse_core.model.network import MuseNetwork
from muse_core.model.weights import published
from muse_core.model.weights.filling import digest_of, fill as fill, refuse_misfit
from muse_core.model.weights.parts import tiny_hashes
from muse_core.rules import problems
from muse_core.tensor_files import (
    digests_in,
    read_tensors as read_tensors,
    read_unchanged,
    whole,
    write_tensors as write_tensors,
)

SCHEMA = 1


@dataclass(frozen=True)
class CheckpointState:
    """What state.json says.

    frozen: a part's role -> the sha256 of its file in the tiny pack, or of its weights for a part that was published
    elsewhere. architecture: the sizes of encoder and decoder, for networks that are not built from the tiny pack.
    digests: the sha256 of each file of tensors beside it; none in checkpoints of before there were any.
    """

    size: str
    stage: int
    step: int
    spec: ConnectorSpec
    encoder_trained: bool
    frozen: Mapping[str, str]
    training: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA
    architecture: Mapping[str, Any] | None = None
    digests: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return what state.json holds."""
        return asdict(self)


_STATE = TypeAdapter(CheckpointState)
_MOST = {"width": 65_536, "heads": 1024, "blocks": 1024, "latent_channels": 65_536, "resolution": 65_536}


def stored_weights(network: MuseNetwork, encoder_trained: bool) -> dict[str, Tensor]:
    """Return the weights that a checkpoint holds: all but an encoder that never trained."""
    return {
        name: whole(weight)
        for name, weight in network.state_dict().items()
        if encoder_trained or not name.startswith("encoder.")
    }


def save_network(
    folder: Path, network: MuseNetwork, average: Mapping[str, Tensor] | None, state: CheckpointState
) -> None:
    """Write a network into a folder, which the caller makes appear in one piece; other tensors are there before."""
    write_tensors(stored_weights(network, state.encoder_trained), folder / "model.safetensors")
    if average is not None:
        tensors = {name: weight.detach().cpu().contiguous() for name, weight in average.items()}
        write_tensors(tensors, folder / "average.safetensors")
    write_json(folder / "state.json", {**document_of(network, state), "digests": digests_in(folder)})


def document_of(network: MuseNetwork, state: CheckpointState) -> dict[str, Any]:
    """Return what state.json says of a network, with the sizes of parts that are not those of the tiny pack."""
    document = state.to_json()
    return document if network.architecture is None else {**document, "architecture": network.architecture.to_json()}


def read_state(folder: Path) -> CheckpointState:
    """Read state.json.

    Raises:
        MuseError: it is missing, malformed, or of a newer muse.
    """
    document = read_json(folder / "state.json")
    schema = document.get("schema", 0)
    if isinstance(schema, int) and schema > SCHEMA:
        raise MuseError(f"{folder} was written by a newer muse (schema {schema})", hint="update muse")
    try:
        spec = ConnectorSpec(**document["spec"])
        CheckpointState(**{**document, "spec": spec})  # which refuses what is unknown
        state = _STATE.validate_json(json.dumps(document), strict=True)
    except (KeyError, TypeError, ValidationError) as error:
        why = problems(error)[0] if isinstance(error, ValidationError) else str(error)
        raise _no_state(folder, why) from None
    numbers = {name: getattr(state.spec, name) for name in _MOST}
    strange = [f"{name} {number}" for name, number in numbers.items() if not 1 <= number <= _MOST[name]]
    if state.spec.width % max(state.spec.heads, 1):
        strange.append(f"width {state.spec.width} in {state.spec.heads} heads")
    if strange:
        raise _no_state(folder, f"{', '.join(strange)} cannot be")
    return state


def _no_state(folder: Path, why: str) -> MuseError:
    return MuseError(f"{folder / 'state.json'} is not the state of a muse checkpoint: {why}", hint="muse ls runs")


def load_network(folder: Path, *, average: bool = True) -> tuple[MuseNetwork, CheckpointState]:
    """Build the network of a checkpoint and fill it, with the averaged weights where there are some.

    Raises:
        MuseError: a file is missing or damaged, a name or shape does not fit, or a frozen part has changed.
    """
    state = read_state(folder)
    _refuse_changed_parts(folder, state)
    weights = read_unchanged(folder / "model.safetensors", state.digests)
    if average and (folder / "average.safetensors").is_file():
        weights |= read_unchanged(folder / "average.safetensors", state.digests)
    absent = () if state.encoder_trained else ("encoder.",)
    if state.size == "tiny":
        # Numbers that do not belong to these weights are refused before anything of their size is made.
        refuse_misfit(plan_network(state.size, state.spec), weights, absent=absent, source=str(folder))
        network = build_network(state.size, state.spec)
        fill(network, weights, absent=absent, source=str(folder))
        return network, state
    architecture = Architecture.from_json(state.architecture or {}, str(folder / "state.json"))
    network = empty_network(architecture, state.spec)
    fill(network, weights, absent=absent, source=str(folder), assign=True)
    if not state.encoder_trained:
        _read_frozen_encoder(network, folder, state, architecture)
    refuse_empty(network, str(folder))
    return network, state


def _read_frozen_encoder(
    network: MuseNetwork, folder: Path, state: CheckpointState, architecture: Architecture
) -> None:
    part = published.load_encoder(state.size, architecture)
    if digest_of(part) != state.frozen.get("encoder"):
        raise MuseError(
            f"{folder} was trained with another vision encoder than {published.need(state.size, 'encoder')[1]}",
            hint="put back the weights it was trained with; `muse export` makes a checkpoint that carries them",
        )
    network.encoder.vision.load_state_dict(part.state_dict(), assign=True)


def _refuse_changed_parts(folder: Path, state: CheckpointState) -> None:
    if state.size != "tiny":
        return
    here = tiny_hashes()
    changed = [role for role, digest in state.frozen.items() if here.get(role) != digest]
    if changed:
        raise MuseError(
            f"{folder} was trained with another {', '.join(changed)} of the tiny pack than this version ships",
            hint="train again with this version, or use the version that wrote it",
        )


def is_checkpoint(folder: Path) -> bool:
    """Say whether a folder holds a network."""
    return (folder / "model.safetensors").is_file() and (folder / "state.json").is_file()


def describe(state: CheckpointState) -> str:
    """Say in a few words what a checkpoint is."""
    return f"{state.size} stage {state.stage}, step {state.step}, " + json.dumps(state.spec.layout)
