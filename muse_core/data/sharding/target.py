"""Where shards go, and what must not lie there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from muse_core.data.owned import SHARDS
from muse_core.data.sharding.attempt import SETTINGS, finished, read, refuse_other_settings, settings_of
from muse_core.data.sharding.options import ShardOptions
from muse_core.data.sharding.places import Place
from muse_core.data.sharding.report import INDEX_NAME, SKIPPED_NAME, Sharded
from muse_core.errors import MuseError
from muse_core.files import HOLD, contents, held, naming, refuse_unwritable
from muse_core.home import expanded
from muse_core.ownership import files_in

WORK = ".partial"
_ATTEMPT = rf"\.partial/.+|([^/]+/)?(\d+\.tar|index\.json)|skipped\.csv|.+\.tmp|{re.escape(HOLD)}"
"""Files of an attempt, in the hidden folder where it is made."""


@dataclass(frozen=True)
class Target:
    """Where shards go, and where they are until all are there.

    Here: a hidden folder beside the target, renamed at the end. At an address: the target itself, whose index.json is
    written last, because stores cannot rename a folder.
    """

    out: str
    aside: str

    @staticmethod
    def of(out: str) -> Target:
        """Return the target of a path or an address."""
        place = Place(out)
        if not place.is_local:
            return Target(place.path(), place.path())
        folder = expanded(place.path() if "://" in out else out)
        whole = Path(place.path())  # of which the name is known, also of one that is typed as `.`
        return Target(str(folder), str(whole.with_name(f".{whole.name}{WORK}")))

    @property
    def work(self) -> str:
        """Where the steps keep what they found."""
        return Place(self.aside).path(WORK)

    def is_unfinished(self) -> bool:
        """Say whether an earlier attempt left something to continue."""
        return Place(self.work).exists(SETTINGS)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the attempt to this process, where it is made here: another one is told who writes.

        Raises:
            MuseError: another process writes the same shards.
        """
        if not Place(self.aside).is_local:  # stores know no locks
            yield
            return
        aside = Path(self.aside)
        refuse_unwritable(Path(self.out))
        try:
            with held(aside, shown=Path(self.out)):
                yield
        finally:
            if aside.is_dir() and not contents(aside):
                shutil.rmtree(aside)

    def naming(self) -> AbstractContextManager[None]:
        """Let what refuses to write name the target as it was typed, not the hidden folder beside it."""
        return naming(Path(self.out), inside=Path(self.aside)) if Place(self.aside).is_local else nullcontext()

    def clear(self) -> None:
        """Remove what an earlier attempt left; the folder stays with whoever holds it."""
        for entry in contents(Path(self.aside)):
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()

    def let_go(self) -> None:
        """Remove the file that keeps the folder, which is about to get its name."""
        (Path(self.aside) / HOLD).unlink(missing_ok=True)


def refuse_taken(
    source: str, target: Target, options: ShardOptions, *, resume: bool, overwrite: bool
) -> Sharded | None:
    """Refuse a target that holds something else than what is to be continued, and change nothing.

    Returns:
        What is there already, where an attempt that is to be continued is finished.

    Raises:
        MuseError: it holds something, or an attempt with other settings or none that was to be continued.
    """
    out, work = Place(target.out), Place(target.work)
    settings = settings_of(source, options)
    if target.is_unfinished() and resume:
        refuse_other_settings(read(work, SETTINGS), settings, target.out)
    elif target.is_unfinished() and not overwrite:
        raise MuseError(
            f"an earlier attempt to write {target.out} was interrupted",
            hint="--resume continues it, --overwrite begins anew",
        )
    elif not target.is_unfinished() and resume and out.exists(INDEX_NAME):
        return finished(out, target.out, settings)
    elif out.is_local:
        SHARDS.refuse(Path(target.out), overwrite)
        _refuse_strange(Path(target.aside))
    else:
        _refuse_at_address(out, target.out, overwrite)
    return None


def refuse_overlap(source: str, out: str) -> None:
    """Refuse a target inside the source, or around it.

    Raises:
        MuseError: it is.
    """
    one, other = f"{Place(source).path()}/", f"{Place(out).path()}/"
    if one.startswith(other) or other.startswith(one):
        raise MuseError(f"{out} and {source} lie inside one another", hint="--out FOLDER beside the source")


def _refuse_strange(aside: Path) -> None:
    """Refuse what lies where an attempt is written, and is not what an earlier attempt left."""
    strange = [name for name in files_in(aside) if not re.fullmatch(_ATTEMPT, name)]
    if strange:
        raise MuseError(f"{aside / strange[0]} is in the way, and muse did not write it", hint="move it")


def _refuse_at_address(out: Place, shown: str, overwrite: bool) -> None:
    """Only shards are ever replaced: a folder that holds anything else was not meant."""
    if not (out.is_folder() and any(out.entries())):
        return
    if not overwrite:
        raise MuseError(f"{shown} exists and is not empty", hint="choose another --out, or pass --overwrite")
    if not out.exists(INDEX_NAME):
        raise MuseError(f"{out.path()} has no {INDEX_NAME}, so it is not replaced", hint="another --out, or remove it")
    splits = read(out, INDEX_NAME).get("splits", {})
    known = {INDEX_NAME, SKIPPED_NAME, WORK, *splits}
    strange = [one.name for one in out.entries() if one.name not in known and not one.name.endswith(".tar")]
    if strange:
        raise MuseError(
            f"{out.path()} holds more than shards, so it is not replaced: {', '.join(strange[:3])}",
            hint="another --out",
        )


def remove_shards(out: Place) -> None:
    """Remove what an earlier command wrote to an address, and nothing else."""
    if out.exists(INDEX_NAME):
        index = read(out, INDEX_NAME)
        out.remove(INDEX_NAME)
        for name in [one["name"] for one in index["shards"]] + [
            f"{split}/{INDEX_NAME}" for split in index.get("splits", {})
        ]:
            out.remove(name)
    out.remove(SKIPPED_NAME)
    out.remove(WORK)
