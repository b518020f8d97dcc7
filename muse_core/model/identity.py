"""Which files the weights of a tokenizer come from: to trace a number to them, and to go on with the same ones."""

import hashlib
from pathlib import Path

from muse_core.home import expanded
from muse_core.identity import WHOLE, Content, Fact, Identity, Part, look
from muse_core.model.abilities import Described
from muse_core.model.checkpoint import is_checkpoint, read_state
from muse_core.model.load import SHIPPED
from muse_core.model.opening import locate
from muse_core.registry import Plugin, discover

OURS = ("average.safetensors", "model.safetensors")
WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt")

Origin = dict[str, str | int | None]


def checkpoint_of(tokenizer: object) -> Origin | None:
    """Say where the weights of a tokenizer come from.

    Returns:
        path; step, for a checkpoint of ours; sha256 of the file. Of several files it is what
        `sha256sum FILES | sha256sum` prints in their folder, the files in the order of their names. None where the
        tokenizer names no file that is there.
    """
    source = tokenizer.info.source if isinstance(tokenizer, Described) else ""
    place = Path(source)
    if not source or not place.exists():
        return None
    step = read_state(place).step if is_checkpoint(place) else None
    return {"path": str(place), "step": step, "sha256": _joined(identity_of_weights(place).files)}


def identity_of_weights(place: Path, known: Identity | None = None) -> Identity:
    """Return the identity of the weights at a path that `locate` returned: step and hash of each file.

    Of a checkpoint of ours the hashes are those that its state.json records, which loading compares with the files.

    Args:
        place: a checkpoint folder, another folder with weights, or a file.
        known: what was recorded before; a file that is as it was is not hashed again.

    Raises:
        MuseError: state.json is damaged.
        OSError: a file cannot be read.
    """
    state = read_state(place) if is_checkpoint(place) else None
    digests = state.digests if state else {}
    seen = known.known() if known else {}
    files = [_content(file, place, digests.get(file.name), seen) for file in files_of(place, state is not None)]
    return Identity((Part({"step": state.step if state else None}, tuple(files)),))


def settled(tokenizer: str) -> str:
    """Return a tokenizer, as `load_tokenizer` takes it, as it is named from any folder and at any time.

    What "latest" or a run means now is its checkpoint; paths are absolute; names stay.

    Raises:
        MuseError: there is nothing of that name.
    """
    plugin = _plugin(tokenizer)
    if plugin is None:
        return str(locate(tokenizer).absolute())
    place = expanded(tokenizer.partition(":")[2])
    return f"{plugin.name}:{place.absolute()}" if ":" in tokenizer and place.exists() else tokenizer


def identity_of_tokenizer(tokenizer: str, known: Identity | None = None) -> Identity:
    """Return the identity of the weights that `load_tokenizer` would load.

    Of a tokenizer without files it is the version of the package that has it.

    Raises:
        MuseError: there is nothing of that name, or its state.json is damaged.
    """
    plugin = _plugin(tokenizer)
    if plugin is None:
        return identity_of_weights(locate(tokenizer), known)
    place = expanded(tokenizer.partition(":")[2])
    place = SHIPPED if tokenizer == "tiny" and is_checkpoint(SHIPPED) else place
    name: dict[str, Fact] = {"tokenizer": plugin.name}
    if place == SHIPPED or (":" in tokenizer and place.exists()):
        (part,) = identity_of_weights(place, known).parts
        return Identity((Part({**name, **part.facts}, part.files),))
    return Identity((Part({**name, "package": f"{plugin.package} {plugin.version}"}),))


def _plugin(tokenizer: str) -> Plugin | None:
    name = tokenizer.partition(":")[0]
    return None if Path(tokenizer).exists() else discover("muse.tokenizers").get(name)


def _content(file: Path, place: Path, digest: str | None, seen: dict[str, Content]) -> Content:
    name = file.name if file == place else file.relative_to(place).as_posix()
    if digest:
        return Content(name, file.stat().st_size, WHOLE + digest)
    return look(file, name, seen, whole=True)


def files_of(place: Path, ours: bool) -> list[Path]:
    """Return the files that hold weights: of a checkpoint of ours those that are loaded, of other folders all."""
    if place.is_file():
        return [place]
    if ours:
        return [place / name for name in OURS if (place / name).is_file()]
    return sorted(file for file in place.rglob("*") if file.suffix in WEIGHTS and file.is_file())


def _joined(files: tuple[Content, ...]) -> str | None:
    digests = [file.digest.removeprefix(WHOLE) for file in files]
    if len(files) < 2:
        return digests[0] if digests else None
    lines = (f"{digest}  {file.name}\n" for digest, file in zip(digests, files, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
