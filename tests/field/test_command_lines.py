"""Command lines that muse prints do in bash what they say, whatever names of files hold and whatever prints them."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from muse_core.command_lines import command_line, quote
from tests.cli.conftest import Muse

NAMES = (
    b"plain",
    b"two words",
    b"",
    b"it's",
    b"b\xff",
    b"\xc3\xa9",
    b"caf\xc3\xa9's \\ $HOME",
    b"tab\t\nline",
    b"\xff7f",
)


def typed(word: str) -> bytes:
    """Return what bash makes of a word."""
    assert word.isascii() or word.isprintable()
    return subprocess.run(["bash", "-c", b"printf %s " + word.encode()], capture_output=True, check=True).stdout


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_name_comes_back_from_bash(name: bytes, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    word = quote(name.decode("utf-8", "surrogateescape"))
    word.encode(encoding)
    assert typed(word) == name


def test_what_can_be_shown_stands_as_it_is() -> None:
    assert command_line("muse", "shard", Path("café"), "a b") == "muse shard 'café' 'a b'"
    assert quote("b\udcff-shards") == r"$'b\xff-shards'"


def test_letters_that_the_terminal_lacks_are_spelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert quote("café") == r"$'caf\xc3\xa9'"


def test_shards_of_a_name_that_is_no_text_are_inspected_as_typed(muse: Muse, tmp_path: Path) -> None:
    folder = tmp_path / "b\udcff"
    folder.mkdir()
    Image.new("RGB", (32, 32), "red").save(tmp_path / "one.png")
    (tmp_path / "one.png").rename(folder / "one.png")
    ended = muse("shard", folder.name)
    assert ended.out.splitlines()[-1] == r"next: muse inspect $'b\xff-shards'"
    ended = muse("inspect", "b\udcff-shards")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1] == r"next: muse train --stage 1 --size tiny --data $'b\xff-shards'"
