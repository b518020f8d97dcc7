"""One name, path or URL to an object with abilities."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from muse_core.errors import ExitCode, MuseError
from muse_core.model.checkpoint import CheckpointState, is_checkpoint
from muse_core.model.export import carries_text, load_carried_text
from muse_core.model.locating import SHIPPED as SHIPPED, named_plugin
from muse_core.model.network import MuseNetwork
from muse_core.model.opening import locate, open_network
from muse_core.model.teacher import StructureTeacher
from muse_core.model.text import TextTower
from muse_core.model.tokenizer import AlignedMuseTokenizer, MuseTokenizer, Origin
from muse_core.model.untouched import UntouchedEncoder
from muse_core.model.weights import published, tiny
from muse_core.model.weights.parts import find_part, missing_parts

TINY_NOTE = "its structure teacher was trained with masks"


def load_tokenizer(where: str | Path, device: str = "cpu") -> Any:
    """Load a tokenizer.

    Args:
        where: "latest", a run folder, a checkpoint folder, a released file or the folder that holds it, the name of a
            tokenizer ("tiny" ships with muse), or NAME:PATH for one that a plugin loads from a path.
        device: where its weights go.

    Returns:
        an object with exactly the abilities that its files support (`muse_core.model.abilities`).

    Raises:
        MuseError: nothing of that name, a file is missing or damaged, or the plugin cannot be loaded.
    """
    plugin = named_plugin(where)
    if plugin is not None:
        build: Callable[..., Any] = plugin.code()
        return build(str(where).partition(":")[2] or None, device)
    return load_checkpoint(locate(where), device)


def load_checkpoint(path: Path, device: str = "cpu") -> MuseTokenizer:
    """Load a checkpoint folder of ours, averaged weights first, or a released file.

    Raises:
        MuseError: it is damaged or does not fit.
    """
    network, state = open_network(path)
    network.to(device)
    text, why = _text_of(path, state, network)
    origin = Origin(
        name=_name(path, state),
        source=str(path),
        licence="Apache-2.0" if state.size == "tiny" else "see the parts",
        resolution=state.spec.resolution,
        notes=((TINY_NOTE,) if state.size == "tiny" else ()) + why,
        size=state.size,
    )
    if text is None:
        return MuseTokenizer(network, origin)
    return AlignedMuseTokenizer(network, origin, text.to(device))


def _text_of(path: Path, state: CheckpointState, network: MuseNetwork) -> tuple[TextTower | None, tuple[str, ...]]:
    """Load the text tower that captions were read with; without one, say why there is none."""
    if state.stage == 1:
        return None, ()
    if carries_text(path):
        return load_carried_text(path), ()
    if state.size == "tiny":
        return tiny.load_text(), ()
    found = find_part(state.size, "text")
    if found.folder is None:
        return None, (f"no text: the text tower {found.part.hub} is not here ({found.remedy})",)
    tower = published.load_text(state.size)
    if tower.width != network.connector.caption_width:
        return None, (f"no text: {found.folder} is {tower.width} wide, not {network.connector.caption_width}",)
    if state.frozen.get("text", tower.digest()) != tower.digest():
        raise MuseError(
            f"the text tower in {found.folder} is not the one that this checkpoint was trained with",
            hint="put back the weights it was trained with",
        )
    return tower, ()


def _name(path: Path, state: CheckpointState) -> str:
    if path == SHIPPED:
        return "muse-tiny"
    kind = "released" if state.architecture and state.step == 0 and not state.training else state.size
    return f"muse-{kind}-stage{state.stage}"


def load_shipped(path: str | None, device: str) -> MuseTokenizer:
    """Load the finished tiny tokenizer that ships with muse, or another one of its kind from `path`."""
    if path:
        return load_checkpoint(locate(path), device)
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
        MuseError: the tokenizer is no MUSE tokenizer, so none belongs to it, or its teacher is not on this machine.
    """
    if not isinstance(tokenizer, MuseTokenizer | UntouchedEncoder):
        raise MuseError("only MUSE tokenizers have a structure teacher", exit_code=ExitCode.USAGE)
    size = tokenizer.origin.size if isinstance(tokenizer, MuseTokenizer) else "tiny"
    model = tiny.load_teacher_model() if size == "tiny" else published.load_teacher(size)
    return StructureTeacher(model).to(tokenizer.device)


class LateTeacher:
    """The structure teacher of a tokenizer, loaded when it is first asked: it is larger than the tokenizer."""

    def __init__(self, tokenizer: MuseTokenizer) -> None:
        self._tokenizer = tokenizer
        self._loaded: StructureTeacher | None = None

    def __call__(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the attention among patches on a grid, as `StructureTeacher` does.

        Raises:
            MuseError: the teacher is not on this machine.
        """
        self._loaded = self._loaded or load_teacher(self._tokenizer)
        return self._loaded(images, grid)


def late_teacher(tokenizer: object) -> LateTeacher | None:
    """Return the teacher that belongs to a tokenizer, or None where none does or it is not on this machine."""
    if not isinstance(tokenizer, MuseTokenizer) or missing_parts(tokenizer.origin.size, ["teacher"]):
        return None
    return LateTeacher(tokenizer)


def untouched_baseline(tokenizer: object) -> UntouchedEncoder | None:
    """Return the encoder that a tiny tokenizer started from, or None for anything else."""
    if not isinstance(tokenizer, MuseTokenizer) or tokenizer.origin.size != "tiny":
        return None
    return load_untouched(None, str(tokenizer.device))
