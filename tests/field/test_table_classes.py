"""Classes from folders, tables and beside the pictures."""

import json
from pathlib import Path

import pytest

from muse_core.errors import ExitCode
from tests.field.conftest import Case, Muse
from tests.field.inputs import put
from tests.field.sharded import index, pictures, samples, skipped

# ---------------------------------------------------------------- b3, b4: classes


def test_numbered_folders(case: Case, muse: Muse) -> None:
    case("b3-numbered-folders")
    assert muse("shard", "d").code == 0
    assert index()["classes"] == [str(i) for i in range(12)]
    assert {round(one.image[0, 0, 0] / 20): one.label for one in samples()} == {i: i for i in range(12)}


def test_numbered_folders_of_mixed_widths(muse: Muse) -> None:
    pictures("d/007/a.jpg", "d/10/a.jpg", "d/9/a.jpg", "d/100/a.jpg")
    assert muse("shard", "d").code == 0
    assert index()["classes"] == ["007", "9", "10", "100"]


def test_folders_that_are_not_all_numbers_stay_sorted_as_text(muse: Muse) -> None:
    pictures("d/10/a.jpg", "d/9/a.jpg", "d/x/a.jpg")
    assert muse("shard", "d").code == 0
    assert index()["classes"] == ["10", "9", "x"]


@pytest.mark.parametrize("options", [(), ("--classes", "folders")])
def test_two_folders_of_one_number_are_refused(muse: Muse, options: tuple[str, ...]) -> None:
    pictures("d/1/a.jpg", "d/01/a.jpg", "d/2/a.jpg")
    ended = muse("shard", "d", *options)
    assert (ended.code, Path("d-shards").exists()) == (ExitCode.FILE, False)
    assert "01 and 1" in ended.err or "1 and 01" in ended.err
    assert muse("shard", "d", "--classes", "none").code == 0


@pytest.mark.parametrize("others", [(), ("d/ant/0.jpg",)])
@pytest.mark.parametrize("options", [(), ("--classes", "folders")])
def test_two_folders_of_one_name_in_two_spellings_are_refused(
    muse: Muse, options: tuple[str, ...], others: tuple[str, ...]
) -> None:
    pictures("d/K\u00e4fer/0.jpg", "d/Ka\u0308fer/1.jpg", *others)
    ended = muse("shard", "d", *options)
    assert (ended.code, Path("d-shards").exists()) == (ExitCode.FILE, False)
    assert "'K\\xe4fer'" in ended.err
    assert "'Ka\\u0308fer'" in ended.err
    assert muse("eval", "tiny", "--data", "d", "--metric", "psnr").code == ExitCode.FILE
    assert muse("shard", "d", "--classes", "none").code == 0


def test_labels_in_words_are_classes(case: Case, muse: Muse) -> None:
    case("b4-text-labels")
    assert muse("shard", "d").code == 0
    assert index()["classes"] == ["cat"]
    assert [one.label for one in samples()] == [0] * 12
    assert muse("inspect", "d-shards").code == 0
    assert muse("eval", "tiny", "--data", "d-shards", "--metric", "psnr", "--json").json["counts"]["skipped"] == {}


@pytest.mark.parametrize("suffix", ["json", "cls", "CLS"])
def test_words_beside_pictures_are_numbered_in_their_order(muse: Muse, suffix: str) -> None:
    for name, word in (("a", "dog"), ("b", "cat"), ("c", ""), ("d", "dog")):
        pictures(f"d/{name}.jpg")
        put(Path(f"d/{name}.{suffix}"), json.dumps({"label": word}) if suffix == "json" else word)
    assert muse("shard", "d").code == 0
    assert index()["classes"] == ["cat", "dog"]
    assert [one.label for one in samples()] == [1, 0, -1, 1]


def test_words_make_no_classes_where_none_are_wanted(muse: Muse) -> None:
    pictures("d/a.jpg", "d/b.jpg")
    put(Path("d/a.json"), '{"label": "cat"}')
    put(Path("d/b.cls"), "dog")
    assert muse("shard", "d", "--classes", "none").code == 0
    assert (index()["classes"], [one.label for one in samples()]) == ([], [-1, -1])


def test_numbers_beside_pictures_stay_those_numbers(muse: Muse) -> None:
    for name, label in (("a", "7"), ("b", "3.0"), ("c", "-1"), ("d", "null"), ("e", '"4"')):
        pictures(f"d/{name}.jpg")
        put(Path(f"d/{name}.json"), f'{{"label": {label}}}')
    pictures("d/f.jpg", "d/g.jpg", "d/h.jpg")
    put(Path("d/f.cls"), "2.0\r\n")
    put(Path("d/g.cls"), "\ufeff5")
    put(Path("d/h.cls"), "")
    assert muse("shard", "d").code == 0
    assert [one.label for one in samples()] == [7, 3, -1, -1, 4, 2, 5, -1]


def test_names_and_numbers_together_are_refused(muse: Muse) -> None:
    pictures("d/a.jpg", "d/b.jpg")
    put(Path("d/a.json"), '{"label": "cat"}')
    put(Path("d/b.json"), '{"label": 3}')
    ended = muse("shard", "d")
    assert (ended.code, Path("d-shards").exists()) == (ExitCode.FILE, False)
    assert "a.jpg" in ended.err
    assert "b.jpg" in ended.err


@pytest.mark.parametrize("label", ["NaN", "2.5", "true", "[1]", "-3", "1e30"])
def test_labels_that_fit_nothing_are_named_before_anything_is_written(muse: Muse, label: str) -> None:
    pictures("d/a.jpg", "d/b.jpg")
    put(Path("d/a.json"), f'{{"label": {label}}}')
    assert muse("shard", "d", "--on-error", "stop").code == ExitCode.FILE
    assert not Path("d-shards").exists()
    assert muse("shard", "d").code == 0
    assert list(skipped()) == ["a.jpg"]
    assert len(samples()) == 1


def test_a_class_by_folder_mends_a_label_that_fits_nothing(muse: Muse) -> None:
    pictures("d/x/a.jpg", "d/y/b.jpg")
    put(Path("d/x/a.json"), '{"label": [1, 2]}')
    assert muse("shard", "d", "--classes", "folders", "--verify").code == 0
    assert [one.label for one in samples()] == [0, 1]


@pytest.mark.parametrize(
    ("values", "names", "labels"),
    [
        (("10", "9"), [], [10, 9]),
        (("3.0", " 2 "), [], [3, 2]),
        (("01", "1"), [], [1, 1]),
        (("dog", "cat"), ["cat", "dog"], [1, 0]),
        (("10", "cat"), ["10", "cat"], [0, 1]),
        (("-1", "2"), [], [-1, 2]),
        (("", "cat"), ["cat"], [-1, 0]),
        (("-1", "cat"), ["cat"], [-1, 0]),
        (("007", "cat"), ["007", "cat"], [0, 1]),
    ],
)
def test_classes_of_a_table(muse: Muse, values: tuple[str, str], names: list[str], labels: list[int]) -> None:
    pictures("d/a.jpg", "d/b.jpg")
    put(Path("c.csv"), f"file,label\na.jpg,{values[0]}\nb.jpg,{values[1]}\n")
    assert muse("shard", "d", "--classes", "csv:c.csv").code == 0
    assert (index()["classes"], [one.label for one in samples()]) == (names, labels)


@pytest.mark.parametrize(("first", "second"), [("007", "7"), ("1e1", "10"), ("1.0", "1"), ("+3", "3.0"), ("1", "01")])
def test_numbers_beside_names_are_the_names_that_are_written(muse: Muse, first: str, second: str) -> None:
    pictures("d/a.jpg", "d/b.jpg", "d/c.jpg")
    put(Path("c.csv"), f"file,label\na.jpg, {first}\nb.jpg,{second} \nc.jpg,abc\n")
    ended = muse("shard", "d", "--classes", "csv:c.csv")
    assert ended.code == 0, ended.err
    names = sorted([first, second, "abc"])
    assert (index()["classes"], [one.label for one in samples()]) == (
        names,
        [*map(names.index, (first, second, "abc"))],
    )
    assert f"c.csv holds numbers and names (row 2: '{first}', row 4: 'abc')" in ended.err


def test_one_picture_has_not_two_names_that_are_one_number(muse: Muse) -> None:
    pictures("d/a.jpg", "d/b.jpg")
    put(Path("c.csv"), "file,label\na.jpg,7\na.jpg,07\nb.jpg,8\n")
    assert muse("shard", "d", "--classes", "csv:c.csv").code == 0
    assert [one.label for one in samples()] == [7, 8]
    put(Path("c.csv"), "file,label\na.jpg,7\na.jpg,07\nb.jpg,cat\n")
    ended = muse("shard", "d", "--classes", "csv:c.csv", "--out", "o")
    assert (ended.code, "c.csv, row 3: says both '7' and '07' of a.jpg" in ended.err) == (ExitCode.FILE, True)


@pytest.mark.parametrize("end", [".jpg", ""])
@pytest.mark.parametrize("kind", ["captions", "classes"])
@pytest.mark.parametrize("begin", ["{here}/tab/", "./tab/", "tab/", "../tab/", "./../tab//", ".\\tab\\", "{link}/tab/"])
def test_a_row_by_a_path_is_that_of_the_image_wherever_the_path_begins(
    muse: Muse, begin: str, kind: str, end: str
) -> None:
    """From the root, the folder in which the command is typed, or that of the table; here tables/t.csv."""
    pictures("tab/a/x.jpg", "tab/b/x.jpg", "tab/y.jpg")
    here, link = Path.cwd(), Path("link")
    link.symlink_to(here, target_is_directory=True)
    start = begin.format(here=here, link=link.absolute())
    rows = "".join(f"{start}{name}{end},{label}\n" for name, label in (("a/x", 5), ("b/x", 6), ("y", 7)))
    put(Path("tables/t.csv"), f"file,{'label' if kind == 'classes' else 'caption'}\n{rows}")
    ended = muse("shard", "link/tab" if "link" in begin else "tab", f"--{kind}", "csv:tables/t.csv", "--out", "o")
    assert ended.code == 0, ended.err
    found = [one.label if kind == "classes" else one.caption for one in samples("o")]
    assert found == ([5, 6, 7] if kind == "classes" else ["5", "6", "7"])
    assert index("o")["skipped"] == {}


def test_a_path_that_is_also_that_of_another_file_is_only_that_of_the_closest(muse: Muse) -> None:
    pictures("tab/tab/x.jpg", "tab/z.jpg", "tab/x.jpg")
    put(Path("t.csv"), "file,label\ntab/x.jpg,5\n./tab/z.jpg,6\n")
    ended = muse("shard", "tab", "--classes", "csv:t.csv", "--out", "o")
    assert (ended.code, [one.label for one in samples("o")]) == (0, [5, -1, 6])
    put(Path("tables/t.csv"), "file,label\ntab/x.jpg,5\ntab/z.jpg,6\n")
    pictures("tables/tab/z.jpg")
    assert muse("shard", "tab", "--classes", "csv:tables/t.csv", "--out", "p").code == 0
    assert [one.label for one in samples("p")] == [5, -1, -1]  # tab/z.jpg is one file here and another at the table


@pytest.mark.parametrize("value", ["nan", "NaN", "inf", "2.5", "-7", "true", "True", "FALSE", "false"])
def test_a_table_whose_label_fits_nothing_is_refused_with_its_row(muse: Muse, value: str) -> None:
    pictures("d/a.jpg", "d/b.jpg")
    put(Path("c.csv"), f"file,label\na.jpg,1\nb.jpg,{value}\n")
    ended = muse("shard", "d", "--classes", "csv:c.csv")
    assert (ended.code, "c.csv, row 3" in ended.err, value in ended.err) == (ExitCode.FILE, True, True)


def test_a_number_beside_a_picture_is_no_class_of_a_table_of_names(muse: Muse) -> None:
    pictures("d/a.jpg", "d/b.jpg", "d/c.jpg")
    put(Path("d/b.json"), '{"label": 1}')
    put(Path("d/c.json"), '{"label": "dog"}')
    put(Path("c.csv"), "file,label\na.jpg,cat\nx.jpg,dog\n")
    assert muse("shard", "d", "--classes", "csv:c.csv").code == 0
    assert [one.label for one in samples()] == [0, -1, 1]
