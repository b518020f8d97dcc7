"""Captions, classes and masks from beside the pictures: read as meant, and what fits nothing is an error."""

import csv
import json
import unicodedata
from pathlib import Path
from typing import Any, Literal

import pytest

from muse_core.data.sample import Sample
from muse_core.data.source import absolute, open_source
from muse_core.errors import ExitCode
from tests.field.conftest import Case, Muse
from tests.field.inputs import RED, coded, flat, mask_of, put, scene, tar

JPEG = coded(flat(RED))
Form = Literal["NFC", "NFD"]


def samples(where: str = "d-shards") -> list[Sample]:
    found = list(open_source(where).once())
    assert all(isinstance(one, Sample) for one in found), found
    return [one for one in found if isinstance(one, Sample)]


def captions(where: str = "d-shards") -> list[str]:
    return [one.caption for one in samples(where)]


def index(where: str = "d-shards") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Path(where, "index.json").read_text())
    return document


def skipped(where: str = "d-shards") -> dict[str, str]:
    with Path(where, "skipped.csv").open(newline="") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


def pictures(*names: str) -> None:
    for name in names:
        put(Path(name), JPEG)


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
    ],
)
def test_classes_of_a_table(muse: Muse, values: tuple[str, str], names: list[str], labels: list[int]) -> None:
    pictures("d/a.jpg", "d/b.jpg")
    put(Path("c.csv"), f"file,label\na.jpg,{values[0]}\nb.jpg,{values[1]}\n")
    assert muse("shard", "d", "--classes", "csv:c.csv").code == 0
    assert (index()["classes"], [one.label for one in samples()]) == (names, labels)


@pytest.mark.parametrize("value", ["nan", "2.5", "-7"])
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


# ---------------------------------------------------------------- c1 to c3: text


def test_a_quote_that_opens_takes_no_other_caption(case: Case, muse: Muse) -> None:
    case("c1-open-quote")
    ended = muse("shard", "d", "--captions", "csv:captions.tsv")
    assert ended.code == 0
    assert captions() == ["a cat", '"Untitled, oil on canvas', "a dog", "a bird", "a fish", "a cow"]


def table(name: str, rows: list[str], end: str = "\n") -> None:
    part = "\t" if name.lower().endswith("tsv") else ","
    put(Path(name), end.join([f"file_name{part}caption", *rows]) + end)


def test_a_tsv_may_be_quoted_as_a_csv_is(muse: Muse) -> None:
    pictures("d/0.jpg", "d/1.jpg", "d/2.jpg")
    table("t.tsv", ['0.jpg\t"a ""big"" cat"', '1.jpg\tthe 12" record', '2.jpg\t"one" and "two"'])
    assert muse("shard", "d", "--captions", "csv:t.tsv").code == 0
    assert captions() == ['a "big" cat', 'the 12" record', '"one" and "two"']


def test_a_quoted_field_of_a_tsv_may_hold_lines(muse: Muse) -> None:
    pictures("d/0.jpg", "d/1.jpg")
    table("t.tsv", ['0.jpg\t"one\ntwo"', "1.jpg\tthree"])
    assert muse("shard", "d", "--captions", "csv:t.tsv").code == 0
    assert captions() == ["one\ntwo", "three"]


@pytest.mark.parametrize(
    "rows",
    [
        ["0.jpg,a", '1.jpg,"Untitled, oil', "2.jpg,b"],
        ["0.jpg,a", '1.jpg,"Untitled, oil', '2.jpg,the "big" one'],
        ["0.jpg,a", '1.jpg,"Untitled', '2.jpg,12"'],
    ],
)
def test_a_quote_left_open_in_a_csv_is_refused_with_its_row(muse: Muse, rows: list[str]) -> None:
    pictures("d/0.jpg", "d/1.jpg", "d/2.jpg")
    table("c.csv", rows)
    ended = muse("shard", "d", "--captions", "csv:c.csv")
    assert (ended.code, "c.csv, row 3" in ended.err, Path("d-shards").exists()) == (ExitCode.FILE, True, False)


def test_a_field_of_a_csv_may_hold_lines_commas_and_quotes(muse: Muse) -> None:
    pictures("d/0.jpg", "d/1.jpg")
    table("c.csv", ['0.jpg,"one, ""two""\nand, three"', "1.jpg,four"])
    assert muse("shard", "d", "--captions", "csv:c.csv").code == 0
    assert captions() == ['one, "two"\nand, three', "four"]


@pytest.mark.parametrize("name", ["c.csv", "c.tsv", "c.CSV", "c.TSV"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_tables_of_every_program(muse: Muse, name: str, end: str, mark: str) -> None:
    pictures("d/0.jpg", "d/1.jpg")
    part = "\t" if name.lower().endswith("tsv") else ","
    table(name, [f"0.jpg{part}a cat", f"1.jpg{part}a dog"], end)
    Path(name).write_text(mark + Path(name).read_bytes().decode(), newline="")
    assert muse("shard", "d", "--captions", f"csv:{name}").code == 0
    assert captions() == ["a cat", "a dog"]


def test_a_table_parted_by_semicolons(muse: Muse) -> None:
    pictures("d/0.jpg", "d/1.jpg")
    put(Path("c.csv"), 'file_name;caption\r\n0.jpg;"a cat; asleep"\r\n1.jpg;a dog, awake\r\n')
    assert muse("shard", "d", "--captions", "csv:c.csv").code == 0
    assert captions() == ["a cat; asleep", "a dog, awake"]


def test_paths_as_windows_writes_them(muse: Muse) -> None:
    pictures("d/a/0.jpg", "d/b/0.jpg")
    table("c.csv", ["a\\0.jpg,a cat", ".\\b\\0.jpg,a dog"])
    assert muse("shard", "d", "--captions", "csv:c.csv").code == 0
    assert captions() == ["a cat", "a dog"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["c.csv", "c.tsv"])
def test_a_table_in_another_encoding_is_refused_with_it(muse: Muse, name: str, encoding: str) -> None:
    pictures("d/0.jpg")
    put(Path(name), "file_name,caption\n0.jpg,a cat\n".encode(encoding))
    ended = muse("shard", "d", "--captions", f"csv:{name}")
    assert (ended.code, encoding[:6].upper() in ended.err) == (ExitCode.FILE, True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"file_name,caption\n0.jpg,a\0b\n", "line 2"),
        (b"file_name,caption\n0.jpg," + b"x" * 200_000 + b"\n", "row 2"),
        (b"file_name,caption\n0.jpg,caf\xe9\n", "Latin-1"),
        (b"file_name,caption\n0.jpg\n", "row 2"),
        (b"file_name,caption\n", "says nothing"),
        (b"file_name,caption\n0.jpg,\n", "says nothing"),
        (b"", "needs a column"),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused_in_a_sentence(muse: Muse, content: bytes, words: str) -> None:
    pictures("d/0.jpg")
    put(Path("c.csv"), content)
    ended = muse("shard", "d", "--captions", "csv:c.csv")
    assert (ended.code, "c.csv" in ended.err, words in ended.err) == (ExitCode.FILE, True, True)


@pytest.mark.parametrize(("on_disk", "in_table"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_in_one_sign_is_the_name_in_two(muse: Muse, on_disk: Form, in_table: Form) -> None:
    name = "K\u00e4fer"
    here, there = unicodedata.normalize(on_disk, name), unicodedata.normalize(in_table, name)
    pictures(f"d/{here}.jpg", f"d/{here}2.jpg")
    put(Path(f"d/{there}2.txt"), "beside")
    put(Path(f"m/{there}.png"), coded(mask_of(48, 32), "PNG"))
    table("c.csv", [f"{there}.jpg,in the table"])
    assert muse("shard", "d", "--captions", "csv:c.csv", "--masks", "m").code == 0
    assert captions() == ["in the table", ""]
    assert [one.mask is not None for one in samples()] == [True, False]
    assert muse("shard", "d", "--out", "o").code == 0
    assert captions("o") == ["", "beside"]


def test_class_names_are_composed(muse: Muse) -> None:
    pictures("d/Ka\u0308fer/0.jpg", "d/ant/0.jpg")
    assert muse("shard", "d").code == 0
    assert index()["classes"] == ["K\u00e4fer", "ant"] or index()["classes"] == ["ant", "K\u00e4fer"]


def test_byte_order_marks_are_dropped(case: Case, muse: Muse) -> None:
    case("c2-byte-order-mark")
    ended = muse("zeroshot", "tiny", "--data", "t", "--classes", "classes.txt", "--json")
    assert ended.code == 0, ended.err
    assert {row["class"] for row in ended.json["tables"]["per class"]} == {"cat", "dog"}
    assert captions("t") == ["a cat", "a dog"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lists_of_every_program(case: Case, muse: Muse, end: str) -> None:
    case("c2-byte-order-mark")
    put(Path("classes.txt"), "\ufeff" + end.join(["Ka\u0308fer", "", " dog "]) + end)
    put(Path("templates.txt"), "\ufeff" + end.join(["a photo of {}", "{}"]) + end)
    options = ("--classes", "classes.txt", "--templates", "templates.txt")
    ended = muse("zeroshot", "tiny", "--data", "t", *options, "--json")
    assert ended.code == 0, ended.err
    assert {row["class"] for row in ended.json["tables"]["per class"]} == {"K\u00e4fer", "dog"}


def test_a_list_in_another_encoding_is_refused_with_it(case: Case, muse: Muse) -> None:
    case("c2-byte-order-mark")
    put(Path("classes.txt"), "cat\ndog\n".encode("utf-16"))
    ended = muse("zeroshot", "tiny", "--data", "t", "--classes", "classes.txt")
    assert (ended.code, "UTF-16" in ended.err) == (ExitCode.FILE, True)


def test_members_of_tars_with_marks_and_line_ends(muse: Muse) -> None:
    mark = "\ufeff".encode()
    members = [("a.jpg", JPEG), ("a.txt", mark + b"one\r\ntwo\r"), ("a.cls", mark + b"3\r\n")]
    members += [("b.jpg", JPEG), ("b.json", mark + b'{"caption": "three", "label": 4}')]
    members += [("C.JPG", JPEG), ("C.TXT", b"four"), ("C.CLS", b"5")]
    tar(Path("t/0.tar"), members)
    assert [(one.caption, one.label) for one in samples("t")] == [("one\ntwo", 3), ("three", 4), ("four", 5)]


def test_suffixes_count_in_any_case(case: Case, muse: Muse) -> None:
    case("c3-upper-case")
    assert muse("shard", "d").code == 0
    assert (captions(), index()["skipped"]) == (["a cat"], {})


def test_suffixes_of_every_kind_of_file_count_in_any_case(muse: Muse) -> None:
    picture = coded(scene(48, 32))
    for name, suffix, content in (("a", "JSON", b'{"caption": "a cat"}'), ("b", "CLS", b"3"), ("c", "Txt", b"a dog")):
        put(Path(f"d/{name}.Jpg"), picture)
        put(Path(f"d/{name}.{suffix}"), content)
    put(Path("d/e.JPG"), picture)
    put(Path("d/e.SEG.PNG"), coded(mask_of(48, 32), "PNG"))
    put(Path("m/a.PNG"), coded(mask_of(48, 32), "PNG"))
    assert muse("shard", "d", "--masks", "m").code == 0
    assert [(one.caption, one.label, one.mask is not None) for one in samples()] == [
        ("a cat", -1, True),
        ("", 3, False),
        ("a dog", -1, False),
        ("", -1, True),
    ]
    assert index()["skipped"] == {}


def test_of_two_spellings_one_is_taken_and_the_other_named(muse: Muse) -> None:
    pictures("d/a.jpg")
    put(Path("d/a.TXT"), "upper")
    put(Path("d/a.txt"), "lower")
    assert muse("shard", "d").code == 0
    assert (captions(), list(skipped())) == (["lower"], ["a.TXT"])


@pytest.mark.parametrize(("encoding", "named"), [("latin-1", "Latin-1"), ("utf-16", "UTF-16"), ("utf-16-le", "UTF-16")])
def test_a_caption_in_another_encoding_is_left_out_with_it(muse: Muse, encoding: str, named: str) -> None:
    pictures("d/a.jpg", "d/b.jpg")
    put(Path("d/a.txt"), "ein Käfer".encode(encoding))
    assert muse("shard", "d").code == 0
    assert named in skipped()["a.jpg"]
    assert len(samples()) == 1


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
