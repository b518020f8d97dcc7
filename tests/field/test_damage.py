"""Damage counts whenever it is found, what archivers add is passed over, and no command ends well with nothing."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from muse_core.data.sample import Sample
from muse_core.data.sharding.shard import shard
from muse_core.data.source import open_source
from muse_core.errors import ExitCode, MuseError
from tests.field.conftest import Case, Muse
from tests.field.inputs import RED, coded, flat, noise, put, tar

JPEG = coded(flat(RED))


def cut_in_half(number: int = 0) -> bytes:
    """A picture whose header is whole and whose pixels are not."""
    content = coded(noise(np.random.default_rng(number), 32))
    return content[: len(content) // 2]


def usable(where: str) -> int:
    found = list(open_source(where).once())
    assert all(isinstance(one, Sample) for one in found), found
    return len(found)


# ---------------------------------------------------------------- e1


@pytest.mark.parametrize("options", [("--resize", "16"), ("--resize", "16", "--verify"), ("--format", "webp")])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_damage_found_late_is_too_much_damage(case: Case, muse: Muse, options: tuple[str, ...], workers: str) -> None:
    case("e1-late-damage")
    ended = muse("shard", "d", *options, "--out", "v", "--workers", workers, "--per-shard", "10")
    assert (ended.code, "40 of 40" in ended.err or "damaged" in ended.err) == (ExitCode.FILE, True)
    assert sorted(path.name for path in Path().iterdir()) == ["d"]


def test_late_damage_that_the_limit_allows_is_named(case: Case, muse: Muse) -> None:
    case("e1-late-damage")
    put(Path("d/whole.jpg"), JPEG)
    ended = muse("shard", "d", "--resize", "16", "--limit-errors", "100%", "--out", "v")
    assert ended.code == 0, ended.err
    assert json.loads(Path("v/index.json").read_text())["skipped"] == {"image cannot be decoded": 40}
    assert usable("v") == 1


def test_damage_is_counted_together_whenever_it_is_found(muse: Muse) -> None:
    for i in range(6):
        put(Path(f"d/early{i}.jpg"), "no picture")
        put(Path(f"d/late{i}.jpg"), cut_in_half(i))
        put(Path(f"d/whole{i}.jpg"), JPEG)
    assert muse("shard", "d", "--out", "plain").code == 0  # six are few
    ended = muse("shard", "d", "--resize", "16", "--out", "small")
    assert (ended.code, Path("small").exists()) == (ExitCode.FILE, False)


def test_a_set_without_one_image_is_never_finished(muse: Muse) -> None:
    for i in range(3):
        put(Path(f"d/{i}.jpg"), cut_in_half(i))
    ended = muse("shard", "d", "--resize", "16", "--limit-errors", "100%")
    assert (ended.code, Path("d-shards").exists()) == (ExitCode.FILE, False)
    assert "no image" in ended.err
    assert muse("shard", "d", "--resize", "16", "--resume").code != 0


def test_a_split_that_damage_leaves_empty_is_never_finished(muse: Muse) -> None:
    shares = ("--split", "train=0.5,val=0.5")
    for i in range(8):
        put(Path(f"d/{i}.jpg"), JPEG)
    assert muse("shard", "d", *shares, "--out", "whole").code == 0
    from muse_core.data.sharding.plan import split_of

    for i in range(8):
        if split_of(f"{i}.jpg", {"train": 0.5, "val": 0.5}) == "val":
            put(Path(f"d/{i}.jpg"), cut_in_half(i))
    ended = muse("shard", "d", *shares, "--resize", "16", "--out", "half")
    assert (ended.code, "val" in ended.err, Path("half").exists()) == (ExitCode.FILE, True, False)


def test_a_tar_that_damage_leaves_empty_is_not_written(muse: Muse) -> None:
    for i in range(4):
        put(Path(f"d/{i}.jpg"), cut_in_half(i) if i == 1 else JPEG)
    assert muse("shard", "d", "--resize", "16", "--per-shard", "1").code == 0
    assert usable("d-shards") == 3
    assert muse("inspect", "d-shards").code == 0


def test_late_damage_leaves_nothing_at_an_address_either() -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    for i in range(12):
        store.pipe_file(f"/damage/in/{i}.jpg", cut_in_half(i))
    from muse_core.data.sharding.options import ShardOptions

    with pytest.raises(MuseError, match="damaged"):
        shard("memory://damage/in", "memory://damage/out", ShardOptions(resize=16, per_shard=2), environ={})
    assert [name for name in store.find("/damage") if "/out" in name] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--min-size", "1000"), "filtered by shape"), (("--max-ratio", "1"), "filtered by shape"), ((), "no pictures")],
)
def test_nothing_to_store_is_an_error(muse: Muse, options: tuple[str, ...], words: str) -> None:
    Path("d").mkdir()
    if options:
        put(Path("d/a.jpg"), JPEG)
    for more in ((), ("--dry-run",)):
        ended = muse("shard", "d", *options, *more)
        assert (ended.code, words in ended.err, Path("d-shards").exists()) == (ExitCode.FILE, True, False)


# ---------------------------------------------------------------- nothing, in other commands


@pytest.fixture
def nothing(tmp_path: Path) -> None:
    """Shards without one sample that can be used, and a folder of pictures without one."""
    tar(Path("t/0.tar"), [(f"{i}.jpg", cut_in_half(i)) for i in range(3)])
    for i in range(3):
        put(Path(f"p/{i}.jpg"), cut_in_half(i))
    Path("empty").mkdir()


COMMANDS = {
    "eval": "eval tiny --data t --metric psnr",
    "knn": "probe knn tiny --data t --val-data t",
    "linear": "probe linear tiny --data t --val-data t --set epochs=1",
    "zeroshot": "zeroshot tiny --data t --classes imagenet",
    "segment": "segment tiny --data t --val-data t --epochs 1",
    "latents": "infer t --checkpoint tiny --latents o",
    "infer": "infer p --checkpoint tiny --out o",
    "infer an empty folder": "infer empty --checkpoint tiny --out o",
    "attn-viz": "attn-viz p --checkpoint tiny --out o",
    "inspect": "inspect t --deep",
    "inspect latents": "inspect empty",
    "train": "train --stage 1 --size tiny --data t --init none --steps 2 --batch-size 2 --set data.lanes=1 --out r",
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.usefixtures("nothing")
def test_no_command_ends_well_with_nothing(muse: Muse, command: str) -> None:
    ended = muse(*command.split())
    assert ended.code not in (ExitCode.DONE, ExitCode.BUG), (ended.out, ended.err)
    assert "error: " in ended.err


# ---------------------------------------------------------------- e2


def test_tars_from_a_mac(case: Case, muse: Muse) -> None:
    case("e2-mac-tars")
    for where in ("t", "u"):
        ended = muse("inspect", where)
        assert (ended.code, "3, 3 usable" in ended.out) == (0, True), ended.out
        counts = muse("eval", "tiny", "--data", where, "--metric", "psnr", "--json").json["counts"]
        assert (counts["seen"], counts["skipped"]) == (3, {})
    assert [one.caption for one in open_source("t").once() if isinstance(one, Sample)] == ["cat 0", "cat 1", "cat 2"]


CLUTTER = (
    "._a.jpg", ".DS_Store", "__MACOSX/a.jpg", "__MACOSX/._a.jpg", "Thumbs.db", "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
    ".ipynb_checkpoints/a-checkpoint.jpg", "x/.DS_Store", "x/._0.jpg", "desktop.ini",
)  # fmt: skip


def test_clutter_in_tars_is_passed_over_by_every_reader(muse: Muse) -> None:
    members = [("x/0.jpg", JPEG), ("x/0.txt", b"a cat")]
    tar(Path("t/0.tar"), [(name, JPEG) for name in CLUTTER] + members + [(f"d/{name}", JPEG) for name in CLUTTER])
    assert usable("t") == 1
    assert muse("inspect", "t").code == 0
    for recipe in ("cc12m", "blip3o"):
        ended = muse("shard", "t", "--recipe", recipe, "--out", recipe)
        assert (ended.code, json.loads(Path(recipe, "index.json").read_text())["skipped"]) == (0, {}), ended.err
        assert usable(recipe) == 1


def test_clutter_in_folders_is_passed_over(muse: Muse) -> None:
    for name in CLUTTER:
        put(Path("d", name), JPEG)
        put(Path("m", name), JPEG)
    put(Path("d/0.png"), coded(flat(RED), "PNG"))
    put(Path("m/0.png"), coded(np.zeros((32, 48), np.uint8), "PNG"))
    assert muse("shard", "d", "--masks", "m").code == 0
    index = json.loads(Path("d-shards/index.json").read_text())
    assert (index["count"], index["skipped"]) == (1, {})
    inferred = muse("infer", "d", "--checkpoint", "tiny", "--out", "o", "--json").json
    assert (len(inferred["images"]), len(inferred["unread"])) == (1, 0)


def test_clutter_in_published_layouts_is_no_class(muse: Muse) -> None:
    put(Path("i/val/a.JPEG"), JPEG)
    put(Path("i/val/@eaDir/a.JPEG"), JPEG)
    put(Path("i/LOC_val_solution.csv"), "ImageId,PredictionString\na,n01440764 1 2 3 4\n")
    ended = muse("shard", "i", "--recipe", "imagenet1k")
    assert ended.code == 0, ended.err
    assert usable("i-shards/val") == 1


def test_clutter_beside_shards_is_no_shard(muse: Muse) -> None:
    tar(Path("t/0.tar"), [("0.jpg", JPEG)])
    put(Path("t/._0.tar"), "Mac OS X        " * 8)
    put(Path("t/.DS_Store"), "x")
    assert usable("t") == 1
    assert usable("t/*.tar") == 1
    assert muse("inspect", "t").code == 0
    assert (
        muse("shard", "t", "--recipe", "cc12m", "--out", "o").code == ExitCode.FILE
    )  # without captions, not "not a tar"


# ---------------------------------------------------------------- e3


def test_names_with_dots(case: Case, muse: Muse) -> None:
    case("e3-dotted-names")
    ended = muse("inspect", "t")
    assert ended.code == ExitCode.PROBLEMS
    assert "2 x no image" in ended.err
    assert "0/1: has only 5 cats.jpg and 5 cats.txt; names are cut at the first dot" in ended.err


def test_names_with_dots_in_what_eval_and_shard_tell(case: Case, muse: Muse) -> None:
    case("e3-dotted-names")
    ended = muse("eval", "tiny", "--data", "t", "--metric", "psnr", "--json")
    assert ended.json["counts"]["skipped"] == {"no image": 2}
    assert muse("shard", "t", "--recipe", "cc12m", "--out", "o").code == ExitCode.FILE
    ended = muse("shard", "t", "--recipe", "cc12m", "--out", "o", "--dry-run")
    assert "no image (names are cut at the first dot)" in ended.err + ended.out


def test_a_sample_without_an_image_shows_what_it_has(muse: Muse) -> None:
    tar(Path("t/0.tar"), [("0.jpg", JPEG), ("1.txt", b"x"), ("1.cls", b"2")])
    ended = muse("inspect", "t")
    assert "0/1: has only cls and txt" in ended.err
    assert "first dot" not in ended.err


def test_an_image_that_is_whole_stays(muse: Muse) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (32, 32)).save(stream, "PNG")
    put(Path("d/0.png"), stream.getvalue())
    assert muse("shard", "d", "--resize", "16").code == 0
    assert usable("d-shards") == 1
