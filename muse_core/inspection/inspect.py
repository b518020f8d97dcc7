"""What a path, address or name means to `muse inspect`."""

from __future__ import annotations

from pathlib import Path

from muse_core.data.folders import FolderSource, open_folder
from muse_core.data.named import holds_latents, refuse_other, refuse_other_shards
from muse_core.data.places import is_address, is_here
from muse_core.data.shards import find_shards
from muse_core.errors import MuseError
from muse_core.inspection.findings import Inspection
from muse_core.model.locating import STATS_NAME, is_export, known_names, look_up, named_plugin, released_file
from muse_core.progress import Progress, Silent
from muse_core.run_checkpoints import split_pointer
from muse_core.run_search import find, find_run
from muse_core.runs import is_run
from muse_core.suggestions import did_you_mean

TAKES = "a run (muse ls runs), a checkpoint, a tokenizer (muse ls tokenizers), shards, or a folder of images or latents"


def inspect(
    where: str | Path, *, deep: bool = False, readers: int | None = None, progress: Progress | None = None
) -> Inspection:
    """Look through shards, a folder of images, a tokenizer, a run folder, or "latest", the run updated last.

    Args:
        where: what to look at: whatever `load_tokenizer` takes, which is a run, or RUN:best; a checkpoint folder of
            ours; an exported tokenizer or a checkpoint of the public code, as a file or the folder that holds it; the
            name of a tokenizer. Else a folder of latents or of images; anything else is read as shards.
        deep: of shards and images, decode every picture.
        readers: of the same, say whether so many ranks x workers can be fed.
        progress: told of every shard.

    Raises:
        MuseError: there is nothing of that kind.
    """
    progress = progress or Silent()
    path = _meant(where)
    if is_run(path):
        return _run(path, progress)
    holder = path.parent if path.is_file() and path.suffix != ".tar" else path
    if (holder / "state.json").is_file() or is_export(holder) or released_file(path):
        return _weights(path, holder, progress)
    if (path / STATS_NAME).is_file() or (path.is_dir() and holds_latents(path)):
        return _latents(path, progress)
    if named_plugin(where):
        return _tokenizer(str(where), progress)
    refuse_other(str(where))
    folder = open_folder(str(where))
    if folder is not None:
        return _folder(folder, deep, readers, progress)
    return _shards(str(where), deep, readers, progress)


def _meant(where: str | Path) -> Path:
    if str(where) == "latest":
        return find_run("latest").path
    return find(where) if split_pointer(where) else Path(where)


# Each says what it is going to read before it imports what reads it: torch, and for networks what is built on it.


def _run(path: Path, progress: Progress) -> Inspection:
    progress.say(f"inspect: run {path}; its records, and every tensor of its last checkpoint")
    from muse_core.inspection.runs import inspect_run

    return inspect_run(path)


def _weights(path: Path, holder: Path, progress: Progress) -> Inspection:
    progress.say(f"inspect: checkpoint {look_up(str(path)).text}; every tensor")
    if (holder / "state.json").is_file():
        from muse_core.inspection.checkpoints import inspect_checkpoint

        return inspect_checkpoint(holder)
    from muse_core.inspection.weights import inspect_weights

    return inspect_weights(holder if is_export(holder) else path)


def _tokenizer(where: str, progress: Progress) -> Inspection:
    progress.say(f"inspect: tokenizer {look_up(where).text}; it is loaded")
    from muse_core.inspection.tokenizers import inspect_tokenizer

    return inspect_tokenizer(where)


def _latents(path: Path, progress: Progress) -> Inspection:
    progress.say(f"inspect: latents {path}; every sample")
    from muse_core.inspection.latents import inspect_latents

    return inspect_latents(path)


def _folder(folder: FolderSource, deep: bool, readers: int | None, progress: Progress) -> Inspection:
    progress.say(f"inspect: folder {folder.name}, {folder.images:,} images; {_how(deep)}")
    from muse_core.inspection.folders import inspect_folder

    return inspect_folder(folder, deep=deep, readers=readers, progress=progress)


def _how(deep: bool) -> str:
    return "every picture is decoded" if deep else "every picture is opened; --deep decodes them"


def _shards(where: str, deep: bool, readers: int | None, progress: Progress) -> Inspection:
    named = where if is_address(where) else f"{where}, {_count(where):,}"
    progress.say(f"inspect: shards {named}; {_how(deep)}")
    from muse_core.inspection.shards import inspect_shards

    return inspect_shards(where, deep=deep, readers=readers, progress=progress)


def _count(where: str) -> int:
    """Return how many shards there are; for a word that names nothing, the hint has names that are like it.

    Raises:
        MuseError: there are none.
    """
    try:
        shards = find_shards(where, "train")
    except MuseError as error:
        meant = did_you_mean(where, known_names())
        hint = error.hint if is_here(where) else TAKES
        raise MuseError(error.what, hint=f"{meant} {hint or ''}".strip(), exit_code=error.exit_code) from None
    refuse_other_shards(shards)
    return len(shards)
