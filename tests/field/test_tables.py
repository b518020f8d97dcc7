"""Text and tables beside the pictures are read as meant."""

import unicodedata
from pathlib import Path

import pytest

from muse_core.errors import ExitCode
from tests.field.conftest import Case, Muse
from tests.field.inputs import coded, mask_of, put, scene, tar
from tests.field.sharded import JPEG, Form, captions, index, pictures, samples, skipped, table

# ---------------------------------------------------------------- c1 to c3: text


def test_a_quote_that_opens_takes_no_other_caption(case: Case, muse: Muse) -> None:
    case("c1-open-quote")
    ended = muse("shard", "d", "--captions", "csv:captions.tsv")
    assert ended.code == 0
    assert captions() == ["a cat", '"Untitled, oil on canvas', "a dog", "a bird", "a fish", "a cow"]


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
