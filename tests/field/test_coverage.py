"""What was asked for and fits nothing is an error, what fits in part is counted; and names of shards."""

from pathlib import Path

import pytest

from muse_core.data.source import absolute, open_source
from muse_core.errors import ExitCode
from tests.field.conftest import Case, Muse
from tests.field.inputs import coded, mask_of, put, scene
from tests.field.sharded import captions, index, pictures, samples, skipped, table

# ---------------------------------------------------------------- d1: asked for and not there


def test_masks_of_other_names(case: Case, muse: Muse) -> None:
    case("d1-masks-of-other-names")
    ended = muse("shard", "d", "--masks", "m")
    assert (ended.code, Path("d-shards").exists()) == (ExitCode.FILE, False)
    assert "0.jpg needs m/0.png" in ended.err


def test_masks_of_which_some_fit(muse: Muse) -> None:
    for name in ("a", "b", "x/c"):
        put(Path(f"d/{name}.jpg"), coded(scene(48, 32)))
    for name in ("a", "b_mask", "y/c", "y/z/d"):
        put(Path(f"m/{name}.png"), coded(mask_of(48, 32), "PNG"))
    ended = muse("shard", "d", "--masks", "m")
    assert ended.code == 0, ended.err
    assert "--masks m fits 1 of 3 samples (first: b.jpg needs m/b.png)" in ended.err
    assert skipped() == dict.fromkeys(["m/b_mask.png", "m/y/c.png", "m/y/z/d.png"], "mask of no picture")
    assert index()["coverage"] == ["--masks m fits 1 of 3 samples (first: b.jpg needs m/b.png)"]


@pytest.mark.parametrize(("stored", "said"), [("ab", "fits 1 of 2 samples (first: b.jpg needs m/b.png)"), ("a", "")])
def test_masks_are_counted_of_what_is_stored(stored: str, said: str, muse: Muse) -> None:
    for name in "abcde":
        put(Path(f"d/{name}.jpg"), coded(scene(48, 32) if name in stored else scene(32, 32)))
    for name in "acd":
        put(Path(f"m/{name}.png"), coded(mask_of(48, 32), "PNG"))
    ended = muse("shard", "d", "--masks", "m", "--min-size", "48")
    assert (ended.code, len(samples()), sum(one.mask is not None for one in samples())) == (0, len(stored), 1)
    assert index().get("coverage", []) == ([f"--masks m {said}"] if said else [])


@pytest.mark.parametrize("kind", ["captions", "classes", "masks"])
def test_what_fits_nothing_of_what_is_stored_is_refused(kind: str, muse: Muse) -> None:
    put(Path("d/a.jpg"), coded(scene(48, 32)))
    put(Path("d/b.jpg"), coded(scene(32, 32)))
    put(Path("m/b.png"), coded(mask_of(48, 32), "PNG"))
    put(Path("t.csv"), "file,caption,label\nb.jpg,a cat,3\n")
    ended = muse("shard", "d", f"--{kind}", "m" if kind == "masks" else "csv:t.csv", "--min-size", "48")
    assert (ended.code, "fits none of 1 samples" in ended.err) == (ExitCode.FILE, True)
    assert not Path("d-shards").exists()


@pytest.mark.parametrize("kind", ["captions", "classes"])
def test_rows_are_counted_of_what_is_stored(kind: str, muse: Muse) -> None:
    for number, image in enumerate((scene(48, 32), scene(48, 32), scene(32, 32))):
        put(Path(f"d/{number}.jpg"), coded(image))
    put(Path("t.csv"), "file,caption,label\n0.jpg,,-1\n1.jpg,a cat,3\n")
    ended = muse("shard", "d", f"--{kind}", "csv:t.csv", "--min-size", "48")
    assert (ended.code, index().get("coverage")) == (0, None)  # a row that says "unknown" is a row


def test_what_the_index_tells_of_masks_does_not_depend_on_where_they_lie(muse: Muse) -> None:
    for name in ("a", "b"):
        put(Path(f"d/{name}.jpg"), coded(scene(48, 32)))
    put(Path("m/a.png"), coded(mask_of(48, 32), "PNG"))
    assert muse("shard", "d", "--masks", "m", "--out", "one").code == 0
    assert muse("shard", "d", "--masks", str(Path("m").absolute()), "--out", "two").code == 0
    assert Path("one/index.json").read_bytes() == Path("two/index.json").read_bytes()


@pytest.mark.parametrize("kind", ["captions", "classes"])
def test_a_table_of_other_names(muse: Muse, kind: str) -> None:
    pictures("d/0.jpg", "d/1.jpg")
    put(Path("t.csv"), "file,caption,label\nimages/x0.jpg,a cat,1\nimages/x1.jpg,a dog,2\n")
    ended = muse("shard", "d", f"--{kind}", "csv:t.csv")
    assert (ended.code, Path("d-shards").exists()) == (ExitCode.FILE, False)
    assert all(part in ended.err for part in ("t.csv", "0.jpg", "images/x0.jpg"))


def test_a_table_of_which_some_rows_fit(muse: Muse) -> None:
    pictures("d/0.jpg", "d/1.jpg")
    table("t.csv", ["0.jpg,a cat", "7.jpg,a dog"])
    ended = muse("shard", "d", "--captions", "csv:t.csv")
    assert ended.code == 0
    assert "t.csv fits 1 of 2 samples (first: no row for 1.jpg" in ended.err
    assert list(skipped()) == ["7.jpg"]


def test_a_bare_name_that_fits_several_pictures_is_told(muse: Muse) -> None:
    pictures("d/a/x.jpg", "d/b/x.jpg", "d/b/y.jpg")
    table("t.csv", ["x.jpg,a cat", "b/y.jpg,a dog"])
    ended = muse("shard", "d", "--captions", "csv:t.csv")
    assert (ended.code, captions()) == (0, ["a cat", "a cat", "a dog"])
    assert "1 rows fit several images each (first: x.jpg)" in ended.err


@pytest.mark.parametrize(("option", "words"), [("json:title", "caption, tags"), ("txt", "no txt")])
def test_captions_that_nobody_has(muse: Muse, option: str, words: str) -> None:
    pictures("d/0.jpg", "d/1.jpg")
    put(Path("d/0.json"), '{"caption": "a cat", "tags": []}')
    ended = muse("shard", "d", "--captions", option)
    assert (ended.code, Path("d-shards").exists()) == (ExitCode.FILE, False)
    assert all(part in ended.err for part in (f"--captions {option}", words))


def test_captions_that_some_have(muse: Muse) -> None:
    pictures("d/0.jpg", "d/1.jpg")
    put(Path("d/0.json"), '{"title": "a cat"}')
    ended = muse("shard", "d", "--captions", "json:title")
    assert (ended.code, captions()) == (0, ["a cat", ""])
    assert "--captions json:title fits 1 of 2 samples (first: 1.jpg has no json)" in ended.err


def test_classes_by_folders_where_there_are_none(muse: Muse) -> None:
    pictures("d/0.jpg", "d/1.jpg")
    ended = muse("shard", "d", "--classes", "folders")
    assert (ended.code, Path("d-shards").exists()) == (ExitCode.FILE, False)


def test_a_split_that_stays_empty(muse: Muse) -> None:
    pictures("d/0.jpg", "d/1.jpg")
    ended = muse("shard", "d", "--split", "train=0.9999,val=0.0001")
    assert (ended.code, "split val stays empty" in ended.err, Path("d-shards").exists()) == (ExitCode.FILE, True, False)


@pytest.mark.parametrize("options", [("--classes", "folders"), ()])
def test_folders_that_are_splits_are_no_classes_without_a_warning(muse: Muse, options: tuple[str, ...]) -> None:
    pictures("d/train/0.jpg", "d/train/1.jpg", "d/val/0.jpg")
    ended = muse("shard", "d", *options)
    assert ended.code == 0
    assert index()["classes"] == ["train", "val"]
    assert "the classes are train, val, which look like splits" in ended.err


# ---------------------------------------------------------------- names of shards


@pytest.mark.parametrize(
    "name", ["odd + name", "set{1,2}", "set{000..002}", "a::b", "a*b", "s[1]", "what?", "my set", "0.5 a"]
)
def test_shards_of_any_name_can_be_read(muse: Muse, name: str) -> None:
    pictures("d/0.jpg", "d/1.jpg")
    assert muse("shard", "d", "--out", name).code == 0
    assert len(samples(name)) == 2
    assert len(samples(f"{name}/000000.tar")) == 2
    assert muse("inspect", name).code == 0


def test_shards_of_an_odd_name_in_a_mix(muse: Muse) -> None:
    pictures("d/0.jpg")
    assert muse("shard", "d", "--out", "set{1,2}").code == 0
    assert muse("shard", "d", "--out", "plain").code == 0
    assert len(list(open_source("plain + set{1,2}").once())) == 2
    assert len(list(open_source("0.5 set{1,2} + 0.5 plain").once())) == 2


@pytest.mark.parametrize("name", ["demo", "demo:val"])
def test_names_that_mean_something_else_are_refused_when_made(muse: Muse, name: str) -> None:
    pictures("d/0.jpg")
    ended = muse("shard", "d", "--out", name)
    assert (ended.code, Path(name).exists()) == (ExitCode.USAGE, False)
    assert muse("shard", "d", "--out", f"./{name}").code == 0
    assert len(samples(f"./{name}")) == 1
    assert absolute(name) == name


@pytest.mark.parametrize("name", ["pipe:x", "./pipe:x"])
def test_a_name_that_means_a_command_is_refused_when_made(muse: Muse, name: str) -> None:
    pictures("d/0.jpg")
    assert (muse("shard", "d", "--out", name).code, Path(name).exists()) == (ExitCode.USAGE, False)


def test_a_brace_pattern_is_still_one(muse: Muse) -> None:
    pictures("d/0.jpg", "d/1.jpg")
    assert muse("shard", "d", "--per-shard", "1").code == 0
    assert len(samples("d-shards/{000000..000001}.tar")) == 2
