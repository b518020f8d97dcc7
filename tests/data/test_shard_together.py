"""Two commands that write the same shards: one writes, the other is told who; an attempt of one is never removed."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from muse_core.data.sharding.shard import shard
from muse_core.data.sharding.target import Target
from muse_core.errors import MuseError
from muse_core.files import HOLD

WAYS: list[dict[str, Any]] = [{}, {"resume": True}, {"overwrite": True}]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(20):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / f"{number}.png")
    return folder


def hold(out: str, is_held: Event, is_over: Event) -> None:
    with Target.of(out).held():
        is_held.set()
        is_over.wait(60)


@pytest.mark.parametrize("way", WAYS)
def test_shards_that_another_process_writes_are_left_to_it(way: dict[str, Any], images: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    is_held, is_over = context.Event(), context.Event()
    out, aside = tmp_path / "out", tmp_path / ".out.partial"
    (aside / ".partial").mkdir(parents=True)
    (aside / ".partial" / "settings.json").write_text("{}")
    other = context.Process(target=hold, args=(str(out), is_held, is_over))
    other.start()
    try:
        assert is_held.wait(60)
        with pytest.raises(MuseError, match=rf"{out} is in use: process {other.pid} ") as refused:
            shard(str(images), str(out), workers=1, **way)
    finally:
        is_over.set()
        other.join()
    assert refused.value.hint == f"wait for it, or --out {out}"
    assert (aside / ".partial" / "settings.json").read_text() == "{}"


@pytest.mark.parametrize(
    "change",
    [
        lambda images: (images / "3.png").rename(images / "x3.png"),
        lambda images: (images / "3.txt").write_text("a cat"),
        lambda images: (images / "3.png").unlink(),
    ],
)
def test_a_finished_set_is_not_called_so_when_its_source_has_changed(
    change: Callable[[Path], object], images: Path, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    whole = shard(str(images), out, workers=1)
    assert shard(str(images), out, workers=1, resume=True) == whole
    change(images)
    with pytest.raises(MuseError, match="other files, captions or classes than when"):
        shard(str(images), out, workers=1, resume=True)


def test_nothing_of_the_hold_is_left_in_shards_or_beside_them(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shard(str(images), str(out), workers=1)
    with pytest.raises(MuseError, match="holds shards already"):
        shard(str(images), str(out), workers=1)
    assert not [path for path in tmp_path.rglob("*") if path.name == HOLD]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out"]


def test_an_attempt_that_is_begun_anew_is_held_from_its_first_file_on(images: Path, tmp_path: Path) -> None:
    target = Target.of(str(tmp_path / "out"))
    with target.held():
        (Path(target.aside) / "000000.tar").write_bytes(b"half")
        target.clear()
        assert [path.name for path in Path(target.aside).iterdir()] == [HOLD]
    assert not Path(target.aside).exists()
