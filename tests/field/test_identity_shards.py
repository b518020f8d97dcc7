"""Kind F, of shards: an attempt is continued with the images it was begun with, or refused by name."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muse_core.data.sample import Sample
from muse_core.data.sharding.tar import TarWriter
from muse_core.data.source import open_source
from tests.field.conftest import Case, Ended, Muse
from tests.field.going_on import overwrite
from tests.field.inputs import RED, coded, flat, mask_of, put

# Sharding.


class StopAtTheSecond:
    """A `TarWriter.add` that adds one sample."""

    def __init__(self, add: Callable[..., None]) -> None:
        self.add, self.added = add, 0

    def __get__(self, tar: TarWriter, kind: type) -> Callable[..., None]:
        return lambda *arguments: self(tar, *arguments)

    def __call__(self, tar: TarWriter, *arguments: Any) -> None:
        if self.added:
            raise KeyboardInterrupt
        self.added += 1
        self.add(tar, *arguments)


@pytest.fixture
def killed(case: Case, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Begin to shard `d`, copied from `first`, and be ended when some tars are written."""

    def begin(*arguments: str, tars: int = 3, muse: Muse) -> Path:
        here = case("f2-changed-pictures")
        for file in sorted((here / "first").iterdir())[40:]:
            file.unlink()
        shutil.copytree("first", "d")
        for number in range(0, 40, 4):
            Path(f"d/{number:05d}.txt").write_text(f"number {number}")
            put(Path(f"m/{number:05d}.png"), coded(mask_of(8, 8), "PNG"))
        written: list[TarWriter] = []
        close = TarWriter.close

        def closing(self: TarWriter) -> None:
            if len(written) == tars:
                raise KeyboardInterrupt
            written.append(self)
            close(self)

        with monkeypatch.context() as patch:
            patch.setattr(TarWriter, "close", closing)
            assert sharded(muse, *arguments).code == 130
        assert not Path("o").exists()
        return here

    return begin


def sharded(muse: Muse, *arguments: str, source: str = "d") -> Ended:
    return muse("shard", source, "--out", "o", "--per-shard", "4", "--workers", "1", *arguments)


def green(folder: str = "o") -> set[int]:
    """The greens of all images of a folder of shards."""
    return {int(item.image[0, 0, 1]) for item in open_source(folder).once() if isinstance(item, Sample)}


def test_f2_sharding_goes_on_with_the_same_images_alone(killed: Callable[..., Path], muse: Muse) -> None:
    killed(muse=muse)
    shutil.copytree("d", "kept")
    for file in sorted(Path("second").iterdir())[:40]:
        shutil.copy(file, "d")
    ended = sharded(muse, "--resume")
    assert ended.code == 4
    assert "d has changed since the attempt" in ended.err
    assert "00000.bmp (image), 00001.bmp (image), 00002.bmp (image), and 37 more" in ended.err
    assert not Path("o").exists()
    shutil.copytree("kept", "d", dirs_exist_ok=True)
    assert sharded(muse, "--resume").code == 0
    assert green() == {30}


@pytest.mark.parametrize("tars", [0, 5])
@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("d/00000.bmp", None, "00000.bmp (image)"),
        ("d/00000.txt", b"Number 0", "00000.bmp (caption)"),
        ("m/00000.png", coded(mask_of(8, 8, 2), "PNG"), "00000.bmp (mask)"),
        ("d/00036.bmp", None, "00036.bmp (image)"),
        ("d/00036.txt", b"nUmber 36", "00036.bmp (caption)"),
    ],
)
def test_what_changed_under_its_name_size_and_time_is_refused_by_name(
    killed: Callable[..., Path], muse: Muse, file: str, content: bytes | None, named: str, tars: int
) -> None:
    here = killed("--masks", "m", tars=tars, muse=muse)
    overwrite(here / file, content or (here / "second" / Path(file).name).read_bytes())
    ended = sharded(muse, "--masks", "m", "--resume")
    assert ended.code == 4
    assert named in ended.err
    assert "put the images back" in ended.err


def test_images_that_came_or_went_and_rows_of_a_table_are_named(killed: Callable[..., Path], muse: Muse) -> None:
    rows = "\n".join(["file,caption", *(f"{n:05d}.bmp,words {n}" for n in range(40))])
    Path("../table.csv").write_text(rows)
    killed("--captions", "csv:../../table.csv", muse=muse)
    again = ("--captions", "csv:../../table.csv", "--resume")
    for change, undo, named in (
        (lambda: shutil.copy("d/00000.bmp", "d/x.bmp"), lambda: Path("d/x.bmp").unlink(), "x.bmp is new"),
        (lambda: shutil.move("d/00005.bmp", "."), lambda: shutil.move("00005.bmp", "d"), "00005.bmp is gone"),
        (
            lambda: Path("../../table.csv").write_text(rows.replace("words 7", "other 7")),
            lambda: Path("../../table.csv").write_text(rows),
            "00007.bmp (caption words 7 there, other 7 now)",
        ),
    ):
        change()
        ended = sharded(muse, *again)
        assert ended.code == 4
        assert named in ended.err, ended.err
        undo()
    assert sharded(muse, *again).code == 0


def test_a_tar_that_is_written_is_compared_beyond_the_beginnings_of_its_images(
    case: Case, muse: Muse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An uncompressed image of 12 kB, of which the last line alone changed."""
    case("f2-changed-pictures")
    for number in range(3):
        put(Path(f"d/{number}.bmp"), coded(flat((number, 30, 30), 64, 64), "BMP"))
    with monkeypatch.context() as patch:
        patch.setattr(TarWriter, "add", stopping := StopAtTheSecond(TarWriter.add))
        assert sharded(muse, "--per-shard", "1").code == 130
    assert stopping.added == 1
    content = Path("d/0.bmp").read_bytes()
    overwrite(Path("d/0.bmp"), content[:-3] + b"xyz")
    ended = sharded(muse, "--per-shard", "1", "--resume")
    assert ended.code == 4
    assert "0.bmp (in 000000.tar, which is written)" in ended.err
    overwrite(Path("d/0.bmp"), content)
    assert sharded(muse, "--per-shard", "1", "--resume").code == 0


def test_images_that_moved_or_were_only_touched_go_on_to_the_same_bytes(
    killed: Callable[..., Path], muse: Muse
) -> None:
    here = killed("--masks", "m", muse=muse)
    assert muse("shard", "d", "--out", "right", "--per-shard", "4", "--masks", "m").code == 0
    shutil.copytree("d", "disk2/d")
    shutil.rmtree("d")
    shutil.move("m", "disk2/m")
    ended = sharded(muse, "--masks", "disk2/m", "--resume", source="disk2/d")
    assert ended.code == 0, ended.err
    names = sorted(file.name for file in (here / "right").iterdir())
    assert len(names) == 11
    assert [(here / "o" / name).read_bytes() for name in names] == [
        (here / "right" / name).read_bytes() for name in names
    ]


def test_an_attempt_of_0_1_0_begins_anew_with_one_warning(killed: Callable[..., Path], muse: Muse) -> None:
    here = killed(muse=muse)
    settings = next(here.glob(".o.partial/.partial/settings.json"))
    document = json.loads(settings.read_text())
    settings.write_text(json.dumps({key: document[key] for key in document if key not in ("reader", "masks_at")}))
    for file in sorted(Path("second").iterdir())[:40]:
        shutil.copy(file, "d")
    ended = sharded(muse, "--resume")
    assert ended.code == 0, ended.err
    assert ended.err.count("begins anew") == 1
    assert green() == {250}


@pytest.fixture
def finished(muse: Muse) -> Callable[..., Ended]:
    """Shards `o` of `d`, six images with texts, and what else is asked for; then the same command with --resume."""
    for number in range(6):
        put(Path(f"d/{number}.jpg"), coded(flat((number, 30, 30), 16, 16)))
        put(Path(f"d/{number}.txt"), f"a cat {number}")
        put(Path(f"d/{number}.json"), json.dumps({"label": "dog" if number % 2 else "cat", "text": "x"}))
    put(Path("d/c/0.jpg"), coded(flat((9, 9, 9), 16, 16)))
    options: list[str] = []

    def run(*more: str) -> Ended:
        options.extend(more)
        if not Path("o").exists():
            assert muse("shard", "d", "--out", "o", "--workers", "1", *options).code == 0
        return muse("shard", "d", "--out", "o", "--workers", "1", *options, "--resume")

    return run


OTHER = "d holds other files, captions or classes than when o was finished"


@pytest.mark.parametrize("more", [(), ("--shuffle", "--per-shard", "2", "--split", "a=.5,b=.5")])
@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("4.txt", "a dog 4", "first: 4.txt"),
        ("4.txt", "another number of bytes", "first: 4.txt"),
        ("4.json", '{"label": "cow", "text": "x"}', "first: 4.json"),
        ("4.json", '{"label": "cat", "text": "y"}', "first: 4.json"),
        ("4.json", "{", "captions or labels"),  # which leaves its image out
        ("c/0.txt", "new", "first: c/0.txt"),
    ],
)
def test_finished_shards_are_compared_with_the_texts_of_their_source(
    finished: Callable[..., Ended], more: tuple[str, ...], file: str, content: str, named: str
) -> None:
    assert "is finished already" in finished(*more).err
    before = Path("o/index.json").read_bytes()
    path = Path("d", file)
    kept = path.read_bytes() if path.exists() else None
    put(path, content)
    ended = finished()
    assert (ended.code, Path("o/index.json").read_bytes()) == (4, before)
    assert f"{OTHER} ({named})" in ended.err
    path.unlink() if kept is None else put(path, kept)
    assert "is finished already" in finished().err


@pytest.mark.parametrize("label", ["3", "cat"])
def test_finished_shards_are_compared_with_labels_of_one_size(muse: Muse, label: str) -> None:
    for number in range(3):
        put(Path(f"d/{number}.jpg"), coded(flat((number, 30, 30), 16, 16)))
        put(Path(f"d/{number}.cls"), label)
    assert muse("shard", "d", "--out", "o").code == 0
    put(Path("d/1.cls"), "9" if label == "3" else "ant")
    ended = muse("shard", "d", "--out", "o", "--resume")
    assert (ended.code, f"{OTHER} (first: 1.cls)" in ended.err) == (4, True)
    put(Path("d/1.cls"), label)
    assert muse("shard", "d", "--out", "o", "--resume").code == 0


def test_a_long_text_is_compared_to_its_end(finished: Callable[..., Ended]) -> None:
    put(Path("d/5.txt"), "a cat " * 2000 + "5")
    assert "is finished already" in finished().err
    put(Path("d/5.txt"), "a cat " * 2000 + "6")
    assert f"{OTHER} (first: 5.txt)" in finished().err


def test_a_text_that_is_stored_as_before_is_told_without_a_name(finished: Callable[..., Ended]) -> None:
    put(Path("d/5.txt"), "a cat 5\n")
    finished()
    put(Path("d/5.txt"), "a cat 5 ")
    assert f"{OTHER} (captions or labels)" in finished().err


def test_rows_of_a_table_are_named_by_their_image(finished: Callable[..., Ended]) -> None:
    put(Path("t.csv"), "file,label\n1.jpg,dog\n3.jpg,ant\n5.jpg,eel\n")
    finished("--classes", "csv:t.csv")
    put(Path("t.csv"), "file,label\n1.jpg,dog\n3.jpg,bat\n5.jpg,eel\n")
    assert f"{OTHER} (first: label of 3.jpg)" in finished().err


def test_images_that_came_are_told_in_general(finished: Callable[..., Ended]) -> None:
    finished()
    put(Path("d/new.jpg"), coded(flat(RED, 16, 16)))
    assert f"{OTHER}\n" in finished().err


def test_shards_that_were_finished_with_the_older_fingerprint_stay_finished(finished: Callable[..., Ended]) -> None:
    """It was one hash, of names, sizes, and what tables and folders say: the texts of these six images."""
    finished()
    index = json.loads(Path("o/index.json").read_text())
    lines = [f"{name}\n{sizes}\n\n{label}\n" for name, sizes, label in _listed()]
    index["listing"] = hashlib.sha256("".join(lines).encode()).hexdigest()
    Path("o/index.json").write_text(json.dumps(index))
    assert "is finished already" in finished().err
    put(Path("d/4.txt"), "a dog 4")
    assert "is finished already" in finished().err
    put(Path("d/4.txt"), "another number of bytes")
    assert f"{OTHER}\n" in finished().err


def _listed() -> list[tuple[str, str, str]]:
    kinds = {"image": "jpg", "json": "json", "txt": "txt"}
    found = []
    for name in [*(str(number) for number in range(6)), "c/0"]:
        files = {kind: Path("d", f"{name}.{suffix}") for kind, suffix in kinds.items()}
        sizes = ",".join(f"{kind}:{file.stat().st_size}" for kind, file in files.items() if file.exists())
        found.append((f"{name}.jpg", sizes, "c" if "/" in name else ""))
    return found
