"""What is named as data, or lies among data, and is none: told by name and at once, never opened and waited for."""

import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from muse_core.data.places import open_place
from muse_core.data.sharding.places import open_file, read_range
from muse_core.data.source import open_source, remarks_of
from muse_core.file_names import NO_FILE
from tests.field.conftest import Muse
from tests.field.inputs import RED, coded, flat, put, tar

PNG = coded(flat(RED, 64, 64), "PNG")


@pytest.fixture(autouse=True)
def soon() -> Iterator[None]:
    """End a test that waits for a pipe."""

    def late(*_: object) -> None:
        raise TimeoutError("somebody waits for a pipe")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def photos() -> Path:
    """Three images, a pipe with the name of one, and one with that of a caption."""
    folder = Path("photos")
    for number in range(3):
        put(folder / f"{number}.png", PNG)
    os.mkfifo(folder / "pipe.jpg")
    os.mkfifo(folder / "1.txt")
    return folder


def test_shards_are_made_without_pipes_which_are_listed(muse: Muse, photos: Path) -> None:
    ended = muse("shard", "photos")
    assert ended.code == 0, ended.err
    assert "3 images" in ended.out
    assert f"  2 x {NO_FILE}" in ended.out.splitlines()
    rows = Path("photos-shards/skipped.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows[-2:]] == ["1.txt", "pipe.jpg"]


def test_sockets_and_masks_that_are_pipes_are_no_files(muse: Muse, photos: Path) -> None:
    Path("masks").mkdir()
    os.mkfifo("masks/0.png")
    put(Path("masks/1.png"), coded(flat(RED, 64, 64)[..., 0], "PNG"))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("photos/s.png")
        ended = muse("shard", "photos", "--masks", "masks")
    assert ended.code == 0, ended.err
    assert f"  4 x {NO_FILE}" in ended.out.splitlines()


def test_a_folder_is_inspected_without_its_pipes(muse: Muse, photos: Path) -> None:
    ended = muse("inspect", "photos")
    assert ended.code == 0, ended.err
    assert f"note      2 x passed over: {NO_FILE} (first: 1.txt)" in ended.out.splitlines()
    assert ended.out.count(NO_FILE) == 1


def test_who_measures_on_a_folder_is_told_of_its_pipes(muse: Muse, photos: Path) -> None:
    ended = muse("eval", "tiny", "--data", "photos", "--metric", "psnr", "--json")
    assert ended.json["counts"]["seen"] == 3, ended.err
    assert f"left out of photos: 2 x {NO_FILE} (first: 1.txt)" in ended.err


def test_images_of_a_folder_are_drawn_without_its_pipes(muse: Muse, photos: Path) -> None:
    ended = muse("infer", "photos", "--checkpoint", "tiny", "--out", "out")
    assert ended.code == 0, ended.err
    assert f"left out of photos: 1 x {NO_FILE} (first: pipe.jpg)" in ended.err
    assert len(list(Path("out").glob("*.png"))) == 3


def test_a_pipe_among_shards_is_left_out_and_told() -> None:
    tar(Path("s/0.tar"), [("0.png", PNG)])
    os.mkfifo("s/1.tar")
    source = open_source("s")
    assert source.max_lanes == 1
    assert remarks_of(source) == (f"left out of s: 1 x {NO_FILE} (first: 1.tar)",)


def test_no_pipe_is_opened(muse: Muse) -> None:
    os.mkfifo("pipe.jpg")
    for opened in (open_place, open_file, read_range):
        with pytest.raises(OSError, match=NO_FILE):
            opened("pipe.jpg")
    for command in (("inspect", "pipe.jpg"), ("eval", "tiny", "--data", "pipe.jpg")):
        ended = muse(*command)
        assert (ended.code, f"pipe.jpg is {NO_FILE}" in ended.err) == (4, True), ended.err


@pytest.mark.parametrize(
    "command",
    [
        ("inspect", "{}"),
        ("eval", "tiny", "--data", "{}"),
        ("eval", "tiny", "--data", "demo + {}"),
        ("probe", "knn", "tiny", "--data", "{}", "--val-data", "demo:val"),
        ("train", "--stage", "1", "--size", "tiny", "--data", "{}", "--dry-run"),
        ("train", "--stage", "1", "--size", "tiny", "--data", "{}"),
        ("train", "--stage", "1", "--size", "tiny", "--data", "demo", "--val-data", "{}"),
    ],
)
def test_one_file_is_refused_by_name_and_nothing_is_begun(
    muse: Muse, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(Path("coffee.png"), PNG)
    put(Path("x.py"), b"print(1)\n" * 100)
    monkeypatch.setitem(sys.modules, "torch", None)  # who needs it fails
    for name, what in (("coffee.png", "is an image, not a folder of them"), ("x.py", "is no tar")):
        ended = muse(*(word.format(name) for word in command))
        assert (ended.code, f"error: {name} {what}" in ended.err.splitlines()) == (4, True), ended.err
        assert ("muse infer coffee.png" in ended.err) == (name == "coffee.png")
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["a.dat", "b"])
def test_a_tar_of_any_name_is_data(name: str) -> None:
    tar(Path("0.tar"), [("0.png", PNG)])
    shutil.move("0.tar", name)
    assert [item.key for item in open_source(name).once() if hasattr(item, "key")] == [f"{name}/0"]


def test_latents_are_no_images(muse: Muse) -> None:
    ended = muse("infer", "demo:val:4", "--checkpoint", "tiny", "--latents", "lat")
    assert ended.code == 0, ended.err
    for where in ("lat", "lat/*.tar"):
        for command in (("eval", "tiny", "--data"), ("train", "--stage", "1", "--size", "tiny", "--data")):
            ended = muse(*command, where)
            assert (ended.code, "lat holds latents, not images" in ended.err) == (4, True), ended.err
    assert not Path("runs").exists()
    ended = muse("train", "--stage", "1", "--size", "tiny", "--data", "lat", "--dry-run")
    assert "lat holds latents, not images" in ended.err
    assert muse("inspect", "lat").code == 0


@pytest.mark.parametrize("folder", [r"a\b-shards", "a[1]", "a{0..1}", "a*"])
def test_the_folder_of_a_pattern_is_taken_as_it_is_called(muse: Muse, folder: str) -> None:
    for number in range(3):
        tar(Path(folder) / f"{number}.tar", [("0.png", PNG)])
    assert open_source(f"{folder}/*.tar").max_lanes == 3
    assert open_source(f"{folder}/{{0..1}}.tar").max_lanes == 2
    assert open_source(f"{folder}/*.tar::{folder}/0.tar").max_lanes == 3
    put(Path(folder) / "0.png", PNG)
    ended = muse("infer", f"{folder}/*.png", "--checkpoint", "tiny", "--out", "out")
    assert ended.code == 0, ended.err


def test_inspect_names_what_it_takes(muse: Muse) -> None:
    ended = muse("inspect", r"a\c")
    assert r"error: a\c does not exist" in ended.err.splitlines()
    for kind in ("run", "checkpoint", "tokenizer", "shards", "folder of images or latents"):
        assert kind in ended.err.splitlines()[-1]
