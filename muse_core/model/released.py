"""Checkpoints of the public MUSE code: a flat dict of tensors, however wrapped, to a network of layout `released`.

The file says most of its sizes by its shapes. Widths of heads are not among them: those of encoder and decoder are the
published ones, unless a config.json beside the file has an "architecture".
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from muse_core.files import read_json
from muse_core.model.architecture import PUBLISHED, Architecture, refuse_empty, vision_of_shapes
from muse_core.model.build import ConnectorSpec, empty_network
from muse_core.model.checkpoint import CheckpointState
from muse_core.model.network import MuseNetwork
from muse_core.model.weights.filling import by_prefix, fill
from muse_core.model.weights.keymaps import released_names
from muse_core.model.weights.reading import LazyTensors, open_tensors, take

PART = "a released MUSE checkpoint"
REMEDY = "name a pytorch_model.bin or model.safetensors of the public MUSE code, or the folder that holds one"
SEMANTIC = ("connector.projector.", "connector.logit_scale")
RESOLUTION = 224
_WRAPPED_MODULE = re.compile(r"^(?:module\.|_orig_mod\.)+")
_TEACHER = "dino_teacher."


def load_released(file: Path) -> tuple[MuseNetwork, CheckpointState]:
    """Build the network of a released checkpoint and fill it.

    Raises:
        MuseError: the file is missing, damaged, of something else, or would run code; nothing of it is used then.
    """
    source = open_released(file)
    shapes = source.shapes
    architecture = read_architecture(source, file)
    spec = read_spec(source)
    aligned = any(name.startswith("semantic_projector.") for name in shapes)
    network = empty_network(architecture, spec, new_connector=not aligned)
    weights = take(source, released_names)
    absent = () if aligned else SEMANTIC
    fill(network, weights, absent=absent, source=source.source, assign=True, remedy=REMEDY)
    refuse_empty(network, source.source)
    stage = 3 if aligned else 1
    state = CheckpointState(
        size="1b",
        stage=stage,
        step=0,
        spec=spec,
        encoder_trained=True,
        frozen={},
        architecture=architecture.to_json(),
    )
    return network, state


def open_released(file: Path) -> LazyTensors:
    """Open a released checkpoint: wrappers and the prefixes of parallel training and compilation are taken off.

    Raises:
        MuseError: it is no such file; says what its names begin with.
    """
    source = open_tensors(file, PART, REMEDY).renamed(lambda name: _WRAPPED_MODULE.sub("", name))
    if "muse_blocks.0.q_topo.weight" not in source or "to_latent.weight" not in source:
        found = by_prefix(list(source)[:1000])
        raise source.refuse(f"holds no MUSE network: its names are {_short(found)}")
    return source


def _short(text: str, most: int = 160) -> str:
    return text if len(text) <= most else f"{text[:most]} ..."


def read_spec(source: LazyTensors) -> ConnectorSpec:
    """Read the numbers of the connector off the shapes; the depth is that of the keys.

    Raises:
        MuseError: blocks are missing in between, or a shape is not that of a block.
    """
    shapes = source.shapes
    indices = sorted({int(name.split(".")[1]) for name in shapes if re.match(r"muse_blocks\.\d+\.", name)})
    if indices != list(range(len(indices))):
        raise source.refuse(f"has blocks {', '.join(map(str, indices))}: some are missing")
    try:
        width = shapes["muse_blocks.0.q_topo.weight"][0]
        heads = width // shapes["muse_blocks.0.q_norm.weight"][0]
        channels = shapes["to_latent.weight"][0]
    except (KeyError, IndexError, ZeroDivisionError):
        raise source.refuse("has no complete block 0") from None
    return ConnectorSpec(
        layout="released",
        width=width,
        heads=heads,
        blocks=len(indices),
        latent_channels=channels,
        inject=False,
        resolution=RESOLUTION,
    )


def read_architecture(source: LazyTensors, file: Path) -> Architecture:
    """Say how encoder and decoder are built: from the config beside the file, else from its shapes.

    Raises:
        MuseError: the encoder's tensors are not those of an InternViT.
    """
    beside = file.parent / "config.json"
    if beside.is_file():
        document = read_json(beside)
        if "architecture" in document:
            return Architecture.from_json(document["architecture"], str(beside))
    try:
        encoder = vision_of_shapes(source.under("encoder.").shapes)
    except (KeyError, ValueError, IndexError) as error:
        raise source.refuse(f"has no whole vision encoder: {error}") from None
    return Architecture(encoder, PUBLISHED.decoder, _caption_width(source.shapes))


def _caption_width(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return shapes.get("semantic_projector.2.weight", (PUBLISHED.caption_width,))[0]


def describe_released(file: Path) -> str:
    """Say in a few words what a released file holds beside the network."""
    source = open_released(file)
    teacher = sum(name.startswith(_TEACHER) for name in source)
    said = [f"wrapped in {json.dumps(' / '.join(source.containers))}"] if source.containers else []
    said += [f"{teacher} tensors of a teacher, not read"] if teacher else []
    return "; ".join(said)
