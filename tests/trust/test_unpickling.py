"""Our reader of pickles imports nothing, calls nothing, and costs no more than the file it reads."""

import builtins
import os
import pickletools
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from muse_core.errors import ExitCode, MuseError
from muse_core.model.weights import torchfiles, unpickling
from muse_core.model.weights.inert import Placeholder, UnreadableError
from muse_core.model.weights.reading import open_tensors
from muse_core.model.weights.unpickling import unpickle
from tests.trust.gallery import ATTACKS, MALFORMED, STRANGE, archive, call, legacy, tensor, text, write

FORMS: dict[str, Callable[[bytes], bytes]] = {"zip": archive, "legacy": legacy}


class Caught(BaseException):
    """Something was imported or run."""


@pytest.fixture
def nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Whatever imports, runs or makes a folder raises, and no module is new at the end."""

    def refuse(*arguments: Any, **named: Any) -> Any:
        raise Caught(arguments)

    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield_over = [(os, "system"), (os, "mkdir"), (subprocess, "Popen"), (builtins, "eval"), (builtins, "exec")]
    for owner, name in [*yield_over, (builtins, "__import__")]:
        monkeypatch.setattr(owner, name, refuse)
    yield
    monkeypatch.undo()
    assert set(sys.modules) <= before
    assert not (tmp_path / "executed").exists()


def read(content: bytes, path: Path) -> dict[str, Tensor] | MuseError:
    """All tensors of a file, or how it is refused; nothing else may come of it."""
    write(content, path)
    try:
        return dict(open_tensors(path, "a test"))
    except MuseError as caught:
        error = caught
    assert error.exit_code == ExitCode.FILE
    assert "\n" not in error.what
    assert len(error.what) < 600
    assert str(path) in error.what
    return error


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_do_nothing(name: str, form: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    attack = ATTACKS[name]
    path = tmp_path / "x.pt"
    read(FORMS[form](b"}" + text("w") + tensor() + b"s."), path)  # what is imported by the first file is imported now
    request.getfixturevalue("nothing_happens")
    # alone, beside a model, and in it
    assert isinstance(read(FORMS[form](attack + b"."), path), MuseError)
    beside = read(
        FORMS[form](b"}(" + text("model") + b"}" + text("w") + tensor() + b"s" + text("x") + attack + b"u."), path
    )
    assert isinstance(beside, MuseError) or list(beside) == ["w"]
    assert isinstance(read(FORMS[form](b"}(" + text("a") + tensor() + text("w") + attack + b"u."), path), MuseError)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_ends_in_a_sentence(name: str, form: str, tmp_path: Path) -> None:
    error = read(FORMS[form](b"}" + text("w") + MALFORMED[name] + b"s."), tmp_path / "x.pt")
    assert isinstance(error, MuseError), name


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_strange_costs_neither_stack_nor_memory_nor_time(name: str, tmp_path: Path) -> None:
    content = archive(b"}(" + text("model") + b"}" + text("w") + tensor() + b"s" + text("x") + STRANGE[name] + b"u.")
    tracemalloc.start()
    result = read(content, tmp_path / "x.pt")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(result, MuseError) or list(result) == ["w"]
    assert peak < 120 * len(content) + (1 << 22)
    alone = read(archive(STRANGE[name] + b"."), tmp_path / "y.pt")
    assert isinstance(alone, MuseError)


def test_a_small_file_does_not_claim_gigabytes(tmp_path: Path) -> None:
    wide = tensor(size=b"J\x00\x00\x00\x08\x85", stride=b"K\x00\x85")  # 2**27 times the first of four values
    error = read(archive(b"}(" + text("a") + wide + text("b") + wide + b"u."), tmp_path / "x.pt")
    assert isinstance(error, MuseError)
    assert "would take" in error.what


def test_every_opcode_is_known_or_refused() -> None:
    handled = {*unpickling._LITERALS, *unpickling._FIXED, *unpickling._HANDLERS}
    assert {opcode.name for opcode in pickletools.opcodes} - handled == {"NEXT_BUFFER", "READONLY_BUFFER"}


def test_the_reader_has_no_way_to_import_or_to_look_up() -> None:
    """Whatever is wrong in the tables, there is nothing in these modules that could fetch what a file names."""
    for module in (unpickling, torchfiles):
        used = set(_names(module.__file__ or ""))
        assert used.isdisjoint({"__import__", "import_module", "eval", "exec", "compile", "find_class", "globals"})
        assert "pickle" not in vars(module)
    assert {name for name in _names(unpickling.__file__) if name == "getattr"} == {"getattr"}  # its own methods


def _names(file: str) -> list[str]:
    import ast

    return [node.id for node in ast.walk(ast.parse(Path(file).read_text())) if isinstance(node, ast.Name)]


def test_a_table_that_is_wrong_calls_only_what_is_in_it() -> None:
    seen: list[Any] = []
    found = unpickle(_bytes(call("os system", text("x")) + b"."), {"posix.system": seen.append})
    assert isinstance(found, Placeholder)
    assert (found.name, found.called, seen) == ("os.system", True, [])


def test_one_name_is_one_key_and_calls_are_apart() -> None:
    name, made = b"cpytorch_lightning\nCallback\n", call("x Color", b"K\x01")
    held = unpickle(_bytes(b"}(" + name + b"K\x01" + name + b"K\x02" + made + b"K\x03" + made + b"K\x04u."))
    assert [key.name for key in held] == ["pytorch_lightning.Callback", "x.Color", "x.Color"]
    assert [*held.values()] == [2, 3, 4]


def test_a_pickle_of_too_many_parts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickling, "MOST_OPCODES", 1000)
    with pytest.raises(UnreadableError, match="more than 1,000 parts"):
        unpickle(_bytes(b"]" + b"N0" * 1000 + b"."))


def test_names_in_messages_stay_on_their_line(tmp_path: Path) -> None:
    hostile = text("os\n\x1b[31m" + "x" * 100_000) + text("y") + b"\x93)R"
    error = read(archive(b"}" + text("w") + hostile + b"s."), tmp_path / "x.pt")
    assert isinstance(error, MuseError)
    assert "\x1b" not in error.what


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"byteorder": b"big"}, "only little"),
        ({"version": b"11\n"}, "not known"),
        ({"version": b"x"}, "not known"),
        ({"constants.pkl": b"N."}, "TorchScript"),
        ({"data/0": b"\0" * 8}, "fewer bytes"),
    ],
)
def test_archives_that_are_not_read(change: dict[str, bytes], why: str, tmp_path: Path) -> None:
    error = read(archive(b"}" + text("w") + tensor() + b"s.", **change), tmp_path / "x.pt")
    assert isinstance(error, MuseError)
    assert why in error.what


def _bytes(content: bytes) -> Any:
    import io

    return io.BytesIO(content)


@pytest.mark.parametrize("form", FORMS)
def test_the_gallery_would_be_read_without_its_attacks(form: str, tmp_path: Path) -> None:
    content = read(FORMS[form](b"}" + text("w") + tensor() + b"s."), tmp_path / "x.pt")
    assert isinstance(content, dict)
    assert torch.equal(content["w"], torch.zeros(4))
