"""The mask of each image of a segmentation as a PNG, in a folder that appears when all of them are there.

Of shards, KEY.png; of a mix, FOLDER_KEY.png, since its folders have the same keys. Letters: H x W pixels.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from muse_core.data.classes import stored
from muse_core.data.mixing import MixedSource
from muse_core.evaluation.maskpictures import Bytes, mask_bytes
from muse_core.evaluation.processes import Team
from muse_core.evaluation.reading import EvalData
from muse_core.evaluation.savedkinds import MASK, MASKS
from muse_core.files import written_aside
from muse_core.marks import with_mark
from muse_core.ownership import OutputNames

_LONGEST = 150


class SavedMasks:
    """Writes masks aside, numbered by where their images stand in the data, and names them once all are there."""

    def __init__(self, folder: Path, data: EvalData) -> None:
        self._folder, self._data = folder, data
        self._keys: dict[int, str] = {}

    def add(self, position: int, key: str, classes: Bytes) -> None:
        """Write the named classes (H, W) of the image at a position."""
        (self._folder / _numbered(position)).write_bytes(with_mark(mask_bytes(classes), MASK))
        source = stored(self._data.source)
        label = _labels(source)[source.origin(position)] if isinstance(source, MixedSource) else ""
        self._keys[position] = f"{label}_{key}" if label else key

    def name_all(self, team: Team) -> None:
        """Give the masks of all processes names; no two get one, and the same data give the same."""
        parts = team.gather(self._keys)
        if team.rank:
            return
        names = OutputNames()
        for position, key in sorted({position: key for part in parts for position, key in part.items()}.items()):
            plain = key.replace("/", "_")[-_LONGEST:]
            tries = (self._folder / f"{name}.png" for name in (plain, f"{plain}-{position:08d}"))
            path = next(path for path in tries if names.is_free(path) and not path.exists())
            names.give(path)
            (self._folder / _numbered(position)).rename(path)


@contextmanager
def saved_masks(folder: Path | None, data: EvalData, overwrite: bool) -> Iterator[SavedMasks | None]:
    """Collect masks beside `folder`, which appears after the block; None where no folder is given."""
    if folder is None:
        yield None
        return
    team = data.team
    replacing = MASKS.in_the_way(overwrite)
    with written_aside(folder, replacing) if team.rank == 0 else nullcontext(folder) as aside:
        saved = SavedMasks(team.gather(aside)[0], data)  # all processes write into the folder of the first
        yield saved
        saved.name_all(team)


def _numbered(position: int) -> str:
    return f".{position:08d}.png.tmp"


def _labels(source: MixedSource) -> Sequence[str]:
    """Name the folders of a mix: by their last part where this tells them apart, else by the whole path."""
    whole = [one.name.strip("/").replace("/", "_") for one in source.sources]
    last = [one.name.rstrip("/").rpartition("/")[2] for one in source.sources]
    for names in (last, whole):
        if len({name.casefold() for name in names}) == len(names) and all(names):
            return names
    return [f"{name}-{number}" for number, name in enumerate(last, start=1)]
