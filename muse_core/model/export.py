"""A checkpoint for others: one folder that holds everything `load_tokenizer` needs.

model.safetensors     every weight of encoder, connector and decoder
config.json           how the network is built, and which text tower belongs to it
text/                 the text tower, where it is carried
README.md             the model card
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from muse_core import __version__
from muse_core.errors import MuseError
from muse_core.files import read_json, write_json
from muse_core.model.architecture import Architecture, refuse_empty, without_weights
from muse_core.model.build import ConnectorSpec, build_network, empty_network
from muse_core.model.checkpoint import CheckpointState
from muse_core.model.locating import EXPORTED, is_export
from muse_core.model.network import MuseNetwork
from muse_core.model.text import TextTower, WordTokenizer
from muse_core.model.weights.filling import fill
from muse_core.model.weights.published import clip_tokenizer
from muse_core.model.weights.reading import open_tensors, take
from muse_core.ownership import manifest

SCHEMA = 1
REMEDY = "export it again, or fetch it again"


def write_network(folder: Path, network: MuseNetwork, state: CheckpointState, text: Mapping[str, Any]) -> None:
    """Write weights and config into a folder, which the caller makes appear in one piece.

    Args:
        folder: exists, with all the files that lie beside weights and config. network: filled. state: what the
            checkpoint said of itself. text: what the config says of the text tower: carried or not, its name, its
            sha256.
    """
    weights = {name: weight.detach().cpu().contiguous() for name, weight in network.state_dict().items()}
    listed = manifest(folder)
    _save(weights, folder / "model.safetensors")
    built = network.architecture.to_json() if network.architecture else None
    document = {
        "format": EXPORTED,
        "schema": SCHEMA,
        "muse": __version__,
        "size": state.size,
        "stage": state.stage,
        "step": state.step,
        "spec": asdict(state.spec),
        "architecture": built,
        "text": dict(text),
        "files": listed,
    }
    write_json(folder / "config.json", document)


def write_text(folder: Path, tower: TextTower) -> None:
    """Write a text tower beside the network."""
    place = folder / "text"
    place.mkdir()
    weights = {name: weight.detach().cpu().contiguous() for name, weight in tower.model.state_dict().items()}
    _save(weights, place / "model.safetensors")
    write_json(place / "config.json", {**tower.model.config.to_dict(), "muse_name": tower.name})
    if isinstance(tower.tokenize, WordTokenizer):
        (place / "words.json").write_text(json.dumps(tower.tokenize.words), encoding="utf-8")


def _save(weights: Mapping[str, Tensor], file: Path) -> None:
    save_file(dict(weights), file, metadata={"format": "pt"})
    file.chmod(0o644)  # the library makes it readable by its owner alone, and this is for others


def load_export(folder: Path) -> tuple[MuseNetwork, CheckpointState]:
    """Load what `write_network` wrote.

    Raises:
        MuseError: it is damaged, does not fit, or was written by a newer muse.
    """
    state = _read_config(folder)
    source = open_tensors(folder / "model.safetensors", "an exported tokenizer", REMEDY)
    weights = take(source, lambda name: [name])
    if state.architecture is None:
        network = build_network(state.size, state.spec)
    else:
        architecture = Architecture.from_json(state.architecture, str(folder / "config.json"))
        network = empty_network(architecture, state.spec)
    fill(network, weights, source=source.source, assign=True, remedy=REMEDY)
    refuse_empty(network, source.source)
    return network, state


def _read_config(folder: Path) -> CheckpointState:
    document = read_json(folder / "config.json")
    if document.get("schema", 0) > SCHEMA:
        raise MuseError(f"{folder} was written by a newer muse (schema {document['schema']})", hint="update muse")
    try:
        return CheckpointState(
            size=document["size"],
            stage=document["stage"],
            step=document["step"],
            spec=ConnectorSpec(**document["spec"]),
            encoder_trained=True,
            frozen=_named_text(document["text"]),
            architecture=document["architecture"],
        )
    except (KeyError, TypeError) as error:
        raise MuseError(f"{folder / 'config.json'} is no config of an exported tokenizer: {error}", REMEDY) from None


def _named_text(text: Mapping[str, Any]) -> dict[str, str]:
    return {"text": str(text["sha256"])} if text.get("sha256") and not text.get("carried") else {}


def carries_text(folder: Path) -> bool:
    """Say whether an exported folder has its text tower with it."""
    return is_export(folder) and (folder / "text" / "model.safetensors").is_file()


def load_carried_text(folder: Path) -> TextTower:
    """Load the text tower that lies in an exported folder.

    Raises:
        MuseError: it is damaged.
    """
    place = folder / "text"
    config = read_json(place / "config.json")
    name = str(config.pop("muse_name", "text"))
    with without_weights():
        model = CLIPTextModelWithProjection(CLIPTextConfig(**config))
    source = open_tensors(place / "model.safetensors", "the text tower of an exported tokenizer", REMEDY)
    fill(model, take(source, lambda key: [key]), source=source.source, assign=True, remedy=REMEDY)
    context = int(model.config.max_position_embeddings)
    if (place / "words.json").is_file():
        words = json.loads((place / "words.json").read_text(encoding="utf-8"))
        return TextTower(model, WordTokenizer(words, context), name)
    return TextTower(model, clip_tokenizer(context), name)
