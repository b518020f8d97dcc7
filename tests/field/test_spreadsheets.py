"""Tables and lists as spreadsheet programs and cameras leave them."""

from pathlib import Path

import pytest

from muse_core.errors import ExitCode
from muse_core.text_files import lines_of
from tests.cli.conftest import Muse
from tests.field.inputs import put
from tests.field.test_tables import captions, pictures


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
