"""One name, path or URL to an object with abilities."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from muse_core.errors import ExitCode, MuseError
from muse_core.model.checkpoint import CheckpointState, is_checkpoint, load_network
from muse_core.model.teacher import StructureTeacher
from muse_core.model.tokenizer import AlignedMuseTokenizer, MuseTokenizer, Origin
from muse_core.model.untouched import UntouchedEncoder
from muse_core.model.weights import tiny
from muse_core.registry import discover
from muse_core.runs import find

SHIPPED = Path(__file__).parent / "weights" / "tiny_checkpoint"
TINY_NOTE = "its structure teacher was trained with masks"


def load_tokenizer(where: str | Path, device: str = "cpu") -> Any:
    """Load a tokenizer.

    Args:
        where: "latest", a run folder, a checkpoint folder, the name of a tokenizer ("tiny" ships with muse), or
            NAME:PATH for one that a plugin loads from a path.
        device: where its weights go.

    Returns:
        an object with exactly the abilities that its files support (`muse_core.model.abilities`).

    Raises:
        MuseError: nothing of that name, a file is missing or damaged, or the plugin cannot be loaded.
    """
    name, _, path = str(where).partition(":")
    plugins = discover("muse.tokenizers")
    if name in plugins and not Path(where).exists():
        plugin = plugins[name]
        build: Callable[..., Any] = plugin.code()
        return build(path or None, device)
    return load_checkpoint(find(where), device)


def load_checkpoint(folder: Path, device: str = "cpu") -> MuseTokenizer:
    """Load a checkpoint folder, averaged weights first.

    Raises:
        MuseError: it is damaged or does not fit.
    """
    network, state = load_network(folder)
    network.to(device)
    origin = Origin(
        name=_name(folder, state),
        source=str(folder),
        licence="Apache-2.0" if state.size == "tiny" else "see the parts",
        resolution=state.spec.resolution,
        notes=(TINY_NOTE,) if state.size == "tiny" else (),
    )
    if state.stage == 1:
        return MuseTokenizer(network, origin)
    return AlignedMuseTokenizer(network, origin, tiny.load_text().to(device))


def _name(folder: Path, state: CheckpointState) -> str:
    return f"muse-{state.size}-stage{state.stage}" if folder != SHIPPED else "muse-tiny"


def load_shipped(path: str | None, device: str) -> MuseTokenizer:
    """Load the finished tiny tokenizer that ships with muse, or another one of its kind from `path`."""
    if path:
        return load_checkpoint(find(path), device)
    if not is_checkpoint(SHIPPED):
        raise MuseError("this build of muse ships no trained tiny tokenizer", hint="muse demo", exit_code=ExitCode.FILE)
    return load_checkpoint(SHIPPED, device)


def load_untouched(path: str | None, device: str) -> UntouchedEncoder:
    """Load the tiny pack's encoder as it was before any stage."""
    if path:
        raise MuseError(f"tiny-encoder takes no path, not {path}", hint="tiny-encoder", exit_code=ExitCode.USAGE)
    return UntouchedEncoder(tiny.load_image_tower(), tiny.load_text(), device)


def load_teacher(tokenizer: object) -> StructureTeacher:
    """Load the structure teacher of a tokenizer's size.

    Raises:
        MuseError: the tokenizer is no MUSE tokenizer, so none belongs to it.
    """
    if not isinstance(tokenizer, MuseTokenizer | UntouchedEncoder):
        raise MuseError("only MUSE tokenizers have a structure teacher", exit_code=ExitCode.USAGE)
    return StructureTeacher(tiny.load_teacher_model()).to(tokenizer.device)


def untouched_baseline(tokenizer: object) -> UntouchedEncoder | None:
    """Return the encoder that a tiny tokenizer started from, or None for anything else."""
    if not isinstance(tokenizer, MuseTokenizer):
        return None
    return load_untouched(None, str(tokenizer.device))
