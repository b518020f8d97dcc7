"""What a path, address or name means to `muse inspect`."""

from __future__ import annotations

from pathlib import Path

from muse_core.data.folders import open_folder
from muse_core.inspection.checkpoints import inspect_checkpoint
from muse_core.inspection.findings import Inspection
from muse_core.inspection.folders import inspect_folder
from muse_core.inspection.latents import inspect_latents
from muse_core.inspection.runs import inspect_run
from muse_core.inspection.shards import inspect_shards
from muse_core.inspection.weights import inspect_weights
from muse_core.model.export import is_export
from muse_core.model.latent_stats import STATS_NAME
from muse_core.model.released import released_file
from muse_core.progress import Progress
from muse_core.run_checkpoints import split_pointer
from muse_core.run_search import find, find_run
from muse_core.runs import is_run


def inspect(
    where: str | Path, *, deep: bool = False, readers: int | None = None, progress: Progress | None = None
) -> Inspection:
    """Look through shards, a folder of images, a checkpoint, a run folder, or "latest", the run updated last.

    Args:
        where: what to look at: a run; a checkpoint folder of ours, or RUN:best; an exported tokenizer or a checkpoint
            of the public code, as a file or the folder that holds it; a folder of latents or of images;
            anything else is read as shards.
        deep: of shards and images, decode every picture.
        readers: of the same, say whether so many ranks x workers can be fed.
        progress: told of every shard.

    Raises:
        MuseError: there is nothing of that kind.
    """
    if str(where) == "latest":
        return inspect_run(find_run("latest").path)
    path = find(where) if split_pointer(where) else Path(where)
    if is_run(path):
        return inspect_run(path)
    holder = path.parent if path.is_file() and path.suffix != ".tar" else path
    if (holder / "state.json").is_file():
        return inspect_checkpoint(holder)
    if is_export(holder) or released_file(path):
        return inspect_weights(holder if is_export(holder) else path)
    if (path / STATS_NAME).is_file():
        return inspect_latents(path)
    folder = open_folder(str(where))
    if folder is not None:
        return inspect_folder(folder, deep=deep, readers=readers, progress=progress)
    return inspect_shards(str(where), deep=deep, readers=readers, progress=progress)
