"""Tables and lists as spreadsheet programs and cameras leave them."""

import json
from pathlib import Path

import pytest

from muse_core.data.sample import Sample
from muse_core.data.source import open_source
from muse_core.errors import ExitCode
from muse_core.text_files import lines_of
from tests.cli.conftest import Muse
from tests.field.inputs import put
from tests.field.sharded import captions, index, pictures, samples


def test_the_line_by_which_excel_says_what_parts_columns_is_no_row(muse: Muse) -> None:
    pictures("d/0.jpg", "d/1.jpg")
    put(Path("c.csv"), "sep=;\r\nfile_name;caption\r\n0.jpg;a cat, asleep\r\n1.jpg;a dog\r\n")
    assert muse("shard", "d", "--captions", "csv:c.csv").code == 0
    assert captions() == ["a cat, asleep", "a dog"]


def test_rows_of_nothing_but_separators_are_no_rows(muse: Muse) -> None:
    pictures("d/0.jpg", "d/1.jpg")
    put(Path("c.csv"), "file_name,caption,\n0.jpg,a cat,\n1.jpg,a dog,\n,,\n , ,\n")
    ended = muse("shard", "d", "--captions", "csv:c.csv", "--json")
    assert ended.code == 0
    assert captions() == ["a cat", "a dog"]
    assert ended.json["skipped"] == {}


@pytest.mark.parametrize(("file", "row"), [("A.JPG", "A.jpg"), ("A.jpg", "A.JPG"), ("A.Jpeg", "d/A.jpeg")])
def test_a_row_finds_its_image_in_any_case_of_the_suffix(file: str, row: str, muse: Muse) -> None:
    pictures(f"d/{file}", "d/b.jpg")
    put(Path("c.csv"), f"file_name,caption\n{row.removeprefix('d/')},one\nb.jpg,two\n")
    assert muse("shard", "d", "--captions", "csv:c.csv").code == 0
    assert captions() == ["one", "two"]


def test_a_row_of_exactly_the_name_comes_first(muse: Muse) -> None:
    pictures("d/A.JPG", "d/A.jpg")
    put(Path("c.csv"), "file_name,caption\nA.jpg,small\nA.JPG,large\n")
    assert muse("shard", "d", "--captions", "csv:c.csv").code == 0
    assert captions() == ["large", "small"]


def test_the_case_of_a_name_itself_is_not_changed(muse: Muse) -> None:
    pictures("d/a.jpg")
    put(Path("c.csv"), "file_name,caption\nA.jpg,one\n")
    assert muse("shard", "d", "--captions", "csv:c.csv").code == ExitCode.FILE


def test_marks_around_every_entry_of_a_list_are_its_programs() -> None:
    assert lines_of('"cat"\r\n"big ""dog"""\r\n') == ["cat", 'big "dog"']
    assert lines_of('"cat"\ndog\n') == ['"cat"', "dog"]


def test_an_empty_caption_does_not_keep_folders_from_being_classes(muse: Muse) -> None:
    pictures("d/cat/0.jpg", "d/cat/1.jpg", "d/dog/2.jpg")
    put(Path("d/cat/1.txt"), "")
    ended = muse("shard", "d", "--json")
    assert ended.json["classes"] == ["cat", "dog"]


def test_one_caption_of_many_images_is_named_where_it_keeps_folders_from_being_classes(muse: Muse) -> None:
    pictures("d/cat/0.jpg", "d/cat/1.jpg", "d/dog/2.jpg")
    put(Path("d/cat/1.txt"), "a cat")
    said = "folders are not taken for classes, as 1 of 3 images have a caption or json (first: cat/1.jpg)"
    ended = muse("shard", "d", "--json")
    assert ended.json["classes"] == []
    assert said in ended.err
    asked = muse("shard", "d", "--classes", "folders", "--out", "o", "--json")
    assert asked.json["classes"] == ["cat", "dog"]
    assert said not in asked.err


@pytest.mark.parametrize(
    ("values", "names", "labels"),
    [
        (("1,0", "0,0", "2,00"), [], [1, 0, 2]),
        (("-1,0", "3", "+2,0"), [], [-1, 3, 2]),
        (("1,0", "cat", ""), ["1,0", "cat"], [0, 1, -1]),
        (('"big, bad wolf"', '"a ""b"""', "cat"), ['a "b"', "big, bad wolf", "cat"], [1, 0, 2]),
    ],
)
def test_between_semicolons_a_comma_in_a_number_is_its_point(
    values: tuple[str, ...], names: list[str], labels: list[int], muse: Muse
) -> None:
    pictures(*(f"d/{number}.jpg" for number in range(3)))
    put(Path("c.csv"), "file;label\n" + "".join(f"{number}.jpg;{value}\n" for number, value in enumerate(values)))
    assert muse("shard", "d", "--classes", "csv:c.csv").code == 0
    assert (index()["classes"], [one.label for one in samples()]) == (names, labels)


def test_between_semicolons_half_a_class_is_none(muse: Muse) -> None:
    pictures("d/0.jpg")
    put(Path("c.csv"), "file;label\n0.jpg;1,5\n")
    ended = muse("shard", "d", "--classes", "csv:c.csv")
    assert (ended.code, "c.csv, row 2" in ended.err, "1,5" in ended.err) == (ExitCode.FILE, True, True)


def test_a_table_of_numbers_and_names_is_one_of_names_and_says_so(muse: Muse) -> None:
    pictures(*(f"d/{number}.jpg" for number in range(4)))
    put(Path("c.csv"), "file,label\n0.jpg,\n1.jpg,cat\n2.jpg,10\n3.jpg,9\n")
    said = "c.csv holds numbers and names (row 3: 'cat', row 4: '10'): all of them are names of classes, sorted as text"
    ended = muse("shard", "d", "--classes", "csv:c.csv")
    assert (ended.code, said in ended.err) == (0, True)
    assert (index()["classes"], [one.label for one in samples()]) == (["10", "9", "cat"], [-1, 2, 0, 1])
    put(Path("c.csv"), "file,label\n0.jpg,\n1.jpg,4\n2.jpg,10\n3.jpg,9\n")
    assert "numbers and names" not in muse("shard", "d", "--classes", "csv:c.csv", "--out", "o").err


def test_marks_that_a_csv_needs_go_from_a_list_and_others_stay() -> None:
    assert lines_of('"cat, wild"\ndog\n') == ["cat, wild", "dog"]
    assert lines_of('"a ""big"" cat"\n"dog"\n"x;y"\ncow') == ['a "big" cat', '"dog"', "x;y", "cow"]
    assert lines_of('"a" or "b, c"\ndog') == ['"a" or "b, c"', "dog"]


TWO = "2 images with several captions in json, of which the first is taken"


@pytest.mark.parametrize("asked", [[], ["--captions", "json:caption"]])
def test_of_a_list_of_captions_the_first_is_taken_and_that_is_said(asked: list[str], muse: Muse) -> None:
    pictures(*(f"d/{number}.jpg" for number in range(4)))
    for number, value in enumerate((["a cat", "it sleeps"], [" ", "a dog", "a"], ["a cow"], "a fish")):
        put(Path(f"d/{number}.json"), json.dumps({"caption": value}))
    ended = muse("shard", "d", *asked)
    assert (ended.code, TWO in ended.err) == (0, True)
    assert captions() == ["a cat", "a dog", "a cow", "a fish"]
    assert [one.caption for one in open_source("d").once() if isinstance(one, Sample)] == captions()


@pytest.mark.parametrize("value", [5, {"en": "a cat"}, ["a cat", 5], [["a cat"]], True])
def test_a_caption_that_is_no_text_is_named(value: object, muse: Muse) -> None:
    pictures("d/0.jpg", "d/1.jpg")
    put(Path("d/0.json"), json.dumps({"caption": value}))
    put(Path("d/1.json"), json.dumps({"caption": value, "text": "a dog"}))
    ended = muse("shard", "d")
    assert (ended.code, "1 image whose caption in json is not text, and is left out" in ended.err) == (0, True)
    assert captions() == ["", "a dog"]
    asked = muse("shard", "d", "--captions", "json:caption", "--out", "o")
    assert (asked.code, "json's caption is not text" in asked.err) == (ExitCode.FILE, True)
