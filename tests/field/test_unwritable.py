"""Where nothing can be written every writer says so before it works, of the path that was typed, with a way on."""

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from muse_core.errors import ExitCode, MuseError, NotWritableError, explained
from muse_core.files import claim_folder, file_aside, held, naming, written_aside
from muse_core.training.beginning import new_folder
from tests.field.conftest import Ended, Muse
from tests.field.test_python_writers import PYTHON_FILES, PYTHON_FOLDERS
from tests.field.writers import FILES, FOLDERS, everything

LINES = {name: (one.line, f".{one.ending}" if name in FILES else "") for name, one in {**FILES, **FOLDERS}.items()}
LINES["infer --out"] = ("infer y.jpg --checkpoint tiny --out", "")
WAYS: list[Callable[[Path], AbstractContextManager[object]]] = [partial(file_aside, content=b"x"), written_aside, held]
TEMPORARY = (".tmp", ".partial", ".old", ".held")


def obstacle(folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put something in the way of whatever is written into `in`; returns what the message has to say."""
    place = folder / "in"
    if kind == "link":
        place.symlink_to("/nowhere/at/all")
        return "in is a link to /nowhere/at/all, which is not there"
    if kind == "file":
        place.write_text("mine")
        return "in is a file, not a folder"
    place.mkdir()
    really = os.access  # as a user who may not, which root never is
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "in" and really(path, mode))
    return "nothing may be written to in"


def named_well(ended: Ended, path: str, says: str) -> bool:
    told = ended.err[ended.err.index("error: ") :]
    return path in told and says in told and "hint: " in told and not any(one in told for one in TEMPORARY)


@pytest.mark.parametrize("kind", ["link", "file", "closed"])
@pytest.mark.parametrize("name", LINES)
def test_a_place_where_nothing_can_be_is_refused_before_anything_is_done(
    inputs: Path, muse: Muse, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    says, (line, ending) = obstacle(inputs, kind, monkeypatch), LINES[name]
    before = everything(inputs)
    for more in ([], ["--overwrite"] if name != "infer --out" else []):
        ended = muse(*line.split(), f"in/mine{ending}", *more)
        assert (ended.code, everything(inputs)) == (ExitCode.FILE, before), ended.err
        assert named_well(ended, f"in/mine{ending}", says), ended.err


@pytest.mark.parametrize("name", [*FOLDERS, "infer --out"])
def test_a_link_to_nothing_in_place_of_a_folder_is_named(inputs: Path, muse: Muse, name: str) -> None:
    (inputs / "mine").symlink_to("/nowhere/at/all")
    before = everything(inputs)
    ended = muse(*LINES[name][0].split(), "mine")
    assert (ended.code, everything(inputs)) == (ExitCode.FILE, before), ended.err
    assert named_well(ended, "mine", "is a link to /nowhere/at/all, which is not there"), ended.err


@pytest.mark.parametrize("name", [*PYTHON_FILES, *PYTHON_FOLDERS])
def test_python_is_told_as_well(inputs: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    says = obstacle(inputs, "link", monkeypatch)
    out = Path("in/mine.npz" if name == "api.save_statistics" else "in/mine.png" if name in PYTHON_FILES else "in/mine")
    with pytest.raises(MuseError, match=f"{out} cannot be written: {says}"):
        {**PYTHON_FILES, **PYTHON_FOLDERS}[name](out, inputs, False)


def refusing(monkeypatch: pytest.MonkeyPatch, number: int, below: str) -> None:
    """Let the file system refuse to make folders and files below a place, which nobody can know before."""

    def refused(action: Any) -> Any:
        def act(path: Any, *more: Any, **named: Any) -> Any:
            writes = "mkdir" in action.__name__ or any("w" in str(one) or "a" in str(one) for one in more[:1])
            if writes and below in os.path.abspath(os.fspath(path)):
                raise OSError(number, os.strerror(number), os.fspath(path))
            return action(path, *more, **named)

        return act

    monkeypatch.setattr(os, "mkdir", refused(os.mkdir))
    monkeypatch.setattr(Path, "open", refused(Path.open))


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.ENAMETOOLONG, errno.EIO])
@pytest.mark.parametrize("name", ["shard --out", "infer --out", "infer --latents", "export --out", "inspect --out"])
def test_what_is_refused_late_names_the_path_that_was_typed(
    inputs: Path, muse: Muse, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    (inputs / "ro").mkdir()
    line, ending = LINES[name]
    refusing(monkeypatch, number, "/ro/")
    ended = muse(*line.split(), f"ro/mine{ending}")
    assert (ended.code, list((inputs / "ro").iterdir())) == (ExitCode.FILE, [])
    assert named_well(ended, f"ro/mine{ending}", os.strerror(number)), ended.err


def test_a_new_folder_below_a_link_to_nothing_is_not_tried_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").symlink_to("/nowhere/at/all")
    monkeypatch.setenv("MUSE_RUNS", str(tmp_path / "runs"))
    for make in (partial(new_folder, 1, "tiny"), partial(claim_folder, tmp_path / "runs/demo")):
        with pytest.raises(MuseError, match="is a link to /nowhere/at/all"):
            make()


def test_every_way_to_write_aside_names_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(monkeypatch, errno.EROFS, str(tmp_path))
    ways: list[Callable[[Path], AbstractContextManager[object]]] = [
        partial(file_aside, content=b"x"),
        written_aside,
        held,
    ]
    for write in ways:
        with pytest.raises(NotWritableError) as refused, write(tmp_path / "deep/mine"):
            pass
        told = explained(refused.value)
        assert told is not None
        assert told.what == f"{tmp_path / 'deep/mine'} cannot be written: Read-only file system"
        assert told.hint == "a folder that you may write to"


def test_what_is_read_meanwhile_keeps_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as gone, written_aside(tmp_path / "mine"):
        (tmp_path / "absent.jpg").read_bytes()
    assert gone.value.filename == str(tmp_path / "absent.jpg")
    with pytest.raises(NotWritableError, match="mine"), naming(tmp_path / "mine", inside=tmp_path / "aside"):
        raise OSError(errno.ENOSPC, "No space left on device")
