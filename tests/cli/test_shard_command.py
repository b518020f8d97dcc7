"""`muse shard` as it is typed."""

import json
import shlex
from pathlib import Path

import pytest
from PIL import Image

from muse_core.errors import ExitCode
from muse_core.interrupts import Terminated
from tests.cli.conftest import Muse


@pytest.fixture(autouse=True)
def images() -> None:
    """Three pictures, one of which is none, in two folders."""
    for name in ("images/cat/1.png", "images/dog/2.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (200, 90, 40)).save(name)
    Path("images/dog/3.png").write_text("not a picture")


def test_a_folder_becomes_shards_beside_it(muse: Muse) -> None:
    ended = muse("shard", "images")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == [
        "1 shard, 2 images, 0.0 MiB, 1 skipped (see images-shards/skipped.csv)",
        "  1 x image cannot be decoded",
        "fields: cls 2, png 2",
        "2 classes, in this order: cat, dog",
        "next: muse inspect images-shards",
    ]
    assert sorted(path.name for path in Path("images-shards").iterdir()) == ["000000.tar", "index.json", "skipped.csv"]


@pytest.mark.parametrize("source", ["images/", "./images", "images/../images"])
def test_however_the_folder_is_typed_its_shards_lie_beside_it(muse: Muse, source: str) -> None:
    assert muse("shard", source).code == 0
    assert Path("images-shards/index.json").exists()


def test_the_folder_one_stands_in_can_be_sharded(muse: Muse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("images")
    assert muse("shard", ".").code == 0
    assert Path("../images-shards/index.json").exists()


def test_the_document_is_the_index_and_where_it_is(muse: Muse) -> None:
    document = muse("shard", "images", "--out", "s", "--json").json
    index = json.loads(Path("s/index.json").read_text())
    assert {key: document[key] for key in index} == index
    assert (document["command"], document["out"], document["errors"]) == ("shard", "s", 1)


def test_every_option_reaches_what_it_is_for(muse: Muse) -> None:
    options = ["--per-shard", "1", "--shard-size", "1MiB", "--resize", "15", "--quality", "80", "--format", "webp"]
    options += ["--shuffle", "--seed", "3", "--verify", "--min-size", "20", "--max-ratio", "1.5", "--on-error", "skip"]
    options += ["--limit-errors", "5%", "--classes", "none", "--captions", "txt", "--split", "train=0.5,val=0.5"]
    Path("images/cat/1.txt").write_text("a cat")
    settings = muse("shard", "images", "--workers", "1", "--json", *options).json["settings"]
    assert settings == {
        "captions": "txt",
        "classes": "none",
        "format": "webp",
        "limit_errors": 0.05,
        "masks": False,
        "max_ratio": 1.5,
        "min_long_side": 20,
        "on_error": "skip",
        "per_shard": 1,
        "quality": 80,
        "recipe": None,
        "resize": 15,
        "seed": 3,
        "shard_bytes": 2**20,
        "shuffle": True,
        "split": {"train": 0.5, "val": 0.5},
        "verify": True,
    }


def test_settings_come_from_the_environment_too(muse: Muse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSE_SHARD__PER_SHARD", "1")
    assert len(muse("shard", "images", "--json").json["shards"]) == 2


def test_a_dry_run_ends_as_the_command_does_and_names_it_whole(muse: Muse) -> None:
    typed = ("shard", "images", "--out", "my shards", "--resize", "16")
    planned = muse(*typed, "--dry-run")  # dog/3.png is damaged, within --limit-errors
    assert (planned.code, Path("my shards").exists()) == (ExitCode.DONE, False)
    (following,) = [line.partition("next: ")[2] for line in planned.out.splitlines() if "next: " in line]
    assert shlex.split(following) == ["muse", *typed]
    written = muse(*shlex.split(following)[1:])
    assert (written.code, Path("my shards").exists()) == (ExitCode.DONE, True)
    assert planned.out.splitlines()[0].split(", ")[1] == written.out.splitlines()[0].split(", ")[1]


@pytest.mark.parametrize("more", [(), ("--overwrite",), ("--resume",)])
def test_a_dry_run_refuses_what_the_command_refuses(muse: Muse, more: tuple[str, ...]) -> None:
    Path("o").mkdir()
    Path("o/mine.txt").write_text("kept")
    ended = [
        muse("shard", "images", "--out", where, *more, *dry)
        for where in ("o", "images/in")
        for dry in ((), ("--dry-run",))
    ]
    assert [one.code for one in ended] == [ExitCode.FILE] * 4
    assert (ended[0].err, ended[2].err) == (ended[1].err, ended[3].err)
    assert sorted(path.name for path in Path().glob("o*")) == ["o"]


def test_a_dry_run_over_finished_shards_is_refused_or_finds_them_finished(muse: Muse) -> None:
    assert muse("shard", "images", "--out", "o").code == ExitCode.DONE
    before = {path: path.read_bytes() for path in Path("o").rglob("*") if path.is_file()}
    for more, code in (((), ExitCode.FILE), (("--overwrite",), ExitCode.DONE), (("--resume",), ExitCode.DONE)):
        assert muse("shard", "images", "--out", "o", "--dry-run", *more).code == code
    assert {path: path.read_bytes() for path in Path("o").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["images", "--on-error", "stop"], ExitCode.FILE, "dog/3.png: image cannot be decoded"),
        (["nowhere"], ExitCode.FILE, "is not a folder"),
        (["images", "--split", "train=2"], ExitCode.SETTINGS, "is not NAME=SHARE"),
        (["images", "--shard-size", "huge"], ExitCode.SETTINGS, "is not a size"),
        (["images", "--format", "bmp"], ExitCode.SETTINGS, "format"),
        (["images", "--captions", "guess"], ExitCode.SETTINGS, "captions is one of"),
        (["images", "--recipe", "imagenet1k"], ExitCode.FILE, "holds neither train/ nor val/"),
        (["images", "--resume", "--overwrite"], ExitCode.USAGE, "--resume continues"),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_nothing(muse: Muse, arguments: list[str], code: int, said: str) -> None:
    ended = muse("shard", *arguments)
    assert ended.code == code
    assert said in ended.err
    assert "hint:" in ended.err
    assert not any(path.name.endswith((".partial", "-shards")) for path in Path().iterdir())


def test_shards_that_are_there_stay_unless_told_otherwise(muse: Muse) -> None:
    muse("shard", "images")
    ended = muse("shard", "images")
    assert ended.code == ExitCode.FILE
    assert "--overwrite" in ended.err
    assert muse("shard", "images", "--overwrite", "--per-shard", "1").code == 0
    assert Path("images-shards/000001.tar").exists()
    assert muse("shard", "images", "--resume", "--per-shard", "1").code == 0


@pytest.mark.parametrize(("ending", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_being_told_to_stop_says_how_to_go_on(
    muse: Muse, monkeypatch: pytest.MonkeyPatch, ending: type[BaseException], code: int
) -> None:
    def stopped(*arguments: object) -> None:
        raise ending

    with monkeypatch.context() as patch:
        patch.setattr("muse_core.data.sharding.shard.write_shard", stopped)
        ended = muse("shard", "images", "--workers", "1")
    assert (ended.code, Path("images-shards").exists()) == (code, False)
    assert "--resume goes on from here" in ended.err
    assert muse("shard", "images", "--workers", "1", "--resume").code == 0
    assert not Path(".images-shards.partial").exists()


@pytest.mark.parametrize("split", ["train=1.0,val=0.0", "val=0,train=1", "train=1,val=.0"])
@pytest.mark.parametrize("more", [(), ("--dry-run",), ("--resume",)])
def test_a_split_of_nothing_is_refused_before_anything_is_written(
    muse: Muse, split: str, more: tuple[str, ...]
) -> None:
    before = sorted(Path().iterdir())
    ended = muse("shard", "images", "--split", split, *more)
    assert (ended.code, "split val has no share" in ended.err) == (3, True)
    assert sorted(Path().iterdir()) == before
