"""Measure every part of a finished pack, and write what was found as its model card.

What is measured is what is shipped: half-precision weights, loaded as users load them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from muse_core.data.source import open_source
from muse_core.errors import MuseError
from muse_core.evaluation.features import ProbeData
from muse_core.evaluation.linear import measure as linear_probe
from muse_core.evaluation.options import LinearOptions
from muse_core.evaluation.reading import EvalData
from muse_core.evaluation.spec import ProbeContext
from muse_core.evaluation.zeroshot import zeroshot
from muse_core.files import read_json, write_atomically, write_json
from muse_core.model.untouched import UntouchedEncoder
from muse_core.model.weights import tiny
from muse_core.training.foundation.card_text import render
from muse_core.training.foundation.export import TRAINING
from muse_core.training.foundation.measure import measure_attention, measure_baselines

CARD, FIGURES = "MODEL_CARD.md", "measured.json"
PARTS = ("backbone", "text", "pixels", "teacher")
SPLITS = ("val", "ood")
PROBE_SCENES = 6000

Document = dict[str, Any]


def measure_pack(
    pack: Path, images: int = 2000, probe_scenes: int = PROBE_SCENES, probe: LinearOptions | None = None
) -> Document:
    """Measure a pack: its size, how it was trained, and how good each part is beside what needs no learning.

    Args:
        pack: folder with `backbone`, `text`, `pixels` and `teacher`.
        images: scenes of each split, the first ones.
        probe_scenes: training scenes of the linear probe.
        probe: its options; by default those of `muse probe linear`.

    Raises:
        MuseError: a part, or the note of its training, is not there.
    """
    missing = [part for part in PARTS if not (pack / part / "model.safetensors").exists()]
    if missing:
        raise MuseError(
            f"{pack} lacks {', '.join(missing)}", hint="python -m muse_core.training.foundation all --out DIR"
        )
    return {
        "images": images,
        "parts": {part: _size(pack / part) | {"training": _training(pack / part)} for part in PARTS},
        "bytes": sum(file.stat().st_size for file in pack.rglob("*.safetensors")),
        "zero-shot": {split: _zero_shot(pack, split, images) for split in SPLITS},
        "linear probe": {
            split: _linear(pack, split, images, probe_scenes, probe or LinearOptions()) for split in SPLITS
        },
        "probe scenes": probe_scenes,
        "attention": {split: _attention(pack, split, images) for split in SPLITS},
    }


def write_card(pack: Path, found: Mapping[str, Any]) -> Path:
    """Write the figures, and the card made from them, into the pack; return the card's path."""
    write_json(pack / FIGURES, found)
    write_atomically(pack / CARD, render(found))
    return pack / CARD


def _size(folder: Path) -> Document:
    files = sorted(folder.glob("*.safetensors"))
    count = 0
    for path in files:
        with safe_open(path, "pt") as file:
            count += sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118, not a mapping
    return {"parameters": count, "bytes": sum(path.stat().st_size for path in files)}


def _training(folder: Path) -> Document:
    path = folder / TRAINING
    if not path.exists():
        raise MuseError(
            f"{path} is missing: nobody noted how this part was trained",
            hint=f"run its training again with the finished progress; it only writes: {folder.name} --out DIR",
        )
    return read_json(path)


def _encoder(pack: Path) -> UntouchedEncoder:
    return UntouchedEncoder(tiny.load_image_tower(pack), tiny.load_text(pack))


def _untrained(pack: Path) -> UntouchedEncoder:
    """The same encoder as it was before training: what the shape alone can do."""
    torch.manual_seed(0)
    tower = tiny.load_image_tower(pack)
    fresh = tiny.ImageTower(tiny.new_backbone().eval(), tower.projection, tower.scale)
    return UntouchedEncoder(fresh, tiny.load_text(pack))


def _read(split: str, images: int) -> EvalData:
    return EvalData(open_source(f"demo:{split}:{images}"), size=tiny.RESOLUTION)


def _zero_shot(pack: Path, split: str, images: int) -> Document:
    scores = zeroshot(_encoder(pack), _read(split, images))
    return {"metrics": dict(scores.metrics), "baselines": {"chance": dict(scores.baselines["chance"])}}


def _linear(pack: Path, split: str, images: int, probe_scenes: int, probe: LinearOptions) -> Document:
    encoder, untrained = _encoder(pack), _untrained(pack)
    context = ProbeContext(
        tokenizer=encoder,
        train=ProbeData(encoder, _read("train", probe_scenes)),
        validation=ProbeData(encoder, _read(split, images)),
        baseline=untrained,
    )
    scores = linear_probe(context, probe)
    baselines = {name.replace("untouched", "untrained"): dict(values) for name, values in scores.baselines.items()}
    return {"metrics": dict(scores.metrics), "baselines": baselines}


def _attention(pack: Path, split: str, images: int) -> Document:
    return {
        "metrics": measure_attention(tiny.load_teacher_model(pack), split, images),
        "baselines": measure_baselines(split, images),
    }
