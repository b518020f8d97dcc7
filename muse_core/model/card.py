"""The model card of an exported tokenizer: what it is, how to load it, and its scores with the protocol of each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from muse_core.errors import MuseError
from muse_core.files import read_json
from muse_core.model.checkpoint import CheckpointState
from muse_core.model.weights.parts import PARTS

LICENCES = {"tiny": "apache-2.0"}


@dataclass(frozen=True)
class Facts:
    """What a card tells: name, state, parameters by part, the text tower in words, which weights, and notes."""

    name: str
    state: CheckpointState
    parameters: Mapping[str, int]
    text: str
    averaged: bool
    notes: Sequence[str] = ()


def read_scores(folder: Path | None) -> list[dict[str, Any]]:
    """Read the scores that a run's commands left behind, in the order of their names.

    Raises:
        MuseError: a file of scores cannot be read.
    """
    files = sorted(folder.glob("*.json")) if folder and folder.is_dir() else []
    documents = [(file, read_json(file)) for file in files]
    for file, document in documents:
        if not isinstance(document.get("metrics"), dict) or "fingerprint" not in document.get("protocol", {}):
            raise MuseError(f"{file} holds no scores", hint=f"move {file} out of the results folder")
    return [document for _, document in documents]


def write_card(facts: Facts, scores: Sequence[Mapping[str, Any]], *, hub: bool) -> str:
    """Return the card as Markdown, for the hub with the metadata that it reads in front."""
    sections = [_title(facts), _loading(), _contents(facts), _scores(scores), _licences(facts)]
    return (_metadata(facts, scores) if hub else "") + "\n\n".join(sections) + "\n"


def _title(facts: Facts) -> str:
    state = facts.state
    weights = "averaged weights" if facts.averaged else "raw weights"
    notes = "".join(f"\n\n> {note}" for note in facts.notes)
    return (
        f"# {facts.name}\n\nA unified visual tokenizer: size {state.size}, stage {state.stage}, step {state.step}, "
        f"layout `{state.spec.layout}`, {weights}.{notes}"
    )


def _loading() -> str:
    return (
        "## Load it\n\n```python\nfrom muse_core import load_tokenizer\n\n"
        'tokenizer = load_tokenizer("PATH/TO/THIS/FOLDER")\n```\n\n'
        "Images are RGB in [0, 1], of any size. The weights are safetensors; nothing here runs code."
    )


def _contents(facts: Facts) -> str:
    spec = facts.state.spec
    rows = [f"| {name} | {count:,} |" for name, count in facts.parameters.items()]
    return "\n".join(
        [
            "## What is in it\n",
            "| part | parameters |",
            "|---|---:|",
            *rows,
            f"\nTrained at {spec.resolution} px; {spec.latent_channels} latent channels; {spec.blocks} blocks.",
            f"\nText tower: {facts.text}.",
        ]
    )


def _scores(scores: Sequence[Mapping[str, Any]]) -> str:
    if not scores:
        return "## Scores\n\nNone were measured before this was exported."
    rows = [
        f"| {document['command']} | {metric} | {_number(value)} | {_data(document)} | {document['counts']['seen']} "
        f"| `{_column(document, metric)}` |"
        for document in scores
        for metric, value in document["metrics"].items()
    ]
    notes = dict.fromkeys(note for document in scores for note in document.get("notes", ()))
    return "\n".join(
        [
            "## Scores\n",
            "Numbers may be compared only where the protocol is the same: its fingerprint is in the last column.\n",
            "| command | metric | value | data | images | protocol |",
            "|---|---|---:|---|---:|---|",
            *rows,
            *(f"\n- {note}" for note in notes),
            "\nThe protocols in full:\n\n```json",
            json.dumps({document["command"]: document["protocol"] for document in scores}, indent=1),
            "```",
        ]
    )


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"


def _data(document: Mapping[str, Any]) -> str:
    return str(document["protocol"].get("data", "not said")).replace("|", "/")


def _column(document: Mapping[str, Any], metric: str) -> str:
    return str(document.get("columns", {}).get(metric, document["protocol"]["fingerprint"]))


def _licences(facts: Facts) -> str:
    if facts.state.size in LICENCES:
        return "## Licence\n\nApache-2.0."
    parts = [part for part in PARTS[facts.state.size] if part.role in ("encoder", "decoder", "text")]
    lines = [f"- {part.purpose} ({part.hub}): {part.licence}" for part in parts]
    return "\n".join(["## Licences\n", "The weights derive from these parts, whose terms apply:\n", *lines])


def _metadata(facts: Facts, scores: Sequence[Mapping[str, Any]]) -> str:
    document: dict[str, Any] = {
        "license": LICENCES.get(facts.state.size, "other"),
        "library_name": "muse-tokenizer",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["visual-tokenizer", "autoencoder", "muse"],
    }
    results = [_result(one) for one in scores]
    if results:
        document["model-index"] = [{"name": facts.name, "results": results}]
    return f"---\n{yaml.safe_dump(document, sort_keys=False, allow_unicode=True)}---\n\n"


def _result(document: Mapping[str, Any]) -> dict[str, Any]:
    data = _data(document)
    metrics = [
        {"type": metric, "value": value, "name": f"{metric}, protocol {_column(document, metric)}"}
        for metric, value in document["metrics"].items()
        if value is not None
    ]
    return {
        "task": {"type": str(document["command"]).replace(" ", "-"), "name": document["command"]},
        "dataset": {"type": data, "name": data},
        "metrics": metrics,
    }
