"""An identity is of contents alone: paths and times decide no more than whether a file is looked at again."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from muse_core import identity as module
from muse_core.errors import MuseError
from muse_core.identity import END, Content, Identity, Part, first_of, look


def one(*files: Content, **facts: str | int | float | None) -> Identity:
    return Identity((Part(facts, files),))


def test_contents_are_compared_and_places_are_not() -> None:
    before, now = one(Content("a", 3, "ends:x", "/old/a", "1.1")), one(Content("a", 3, "ends:x", "/new/a", "2.2"))
    assert before.compare(now).changed == before.compare(now).unchecked == ()
    assert before.fingerprint() == now.fingerprint()


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (one(Content("a", 3, "ends:x"), ratio=0.5), "b is gone"),
        (one(Content("a", 3, "ends:x"), Content("b"), Content("c"), ratio=0.5), "c is new"),
        (one(Content("b"), Content("a", 3, "ends:x"), ratio=0.5), "the files come in another order"),
        (one(Content("a", 4, "ends:x"), Content("b"), ratio=0.5), "a had 3 bytes and has 4"),
        (one(Content("a", 3, "ends:y"), Content("b"), ratio=0.5), "a holds other bytes of the same size"),
        (one(Content("a", 3, "ends:x"), Content("b"), ratio=0.25), "ratio 0.5 there, 0.25 now"),
        (Identity(()), "1 sources there, 0 now"),
    ],
)
def test_what_differs_is_said(now: Identity, text: str) -> None:
    before = one(Content("a", 3, "ends:x"), Content("b"), ratio=0.5)
    assert before.compare(now).changed == (text,)
    assert before.fingerprint() != now.fingerprint()


def test_what_has_no_checksum_or_another_kind_is_unchecked_and_not_changed() -> None:
    before = one(Content("a", 3, "sha256:x"), Content("b", None), Content("c", 4, "ends:x"))
    now = one(Content("a", 3, "ends:y"), Content("b", 7), Content("c", 4, "ends:x"))
    assert before.compare(now).changed == ()
    assert before.compare(now).unchecked == ("a", "b")


def test_an_identity_is_read_back_from_json_and_nothing_else_is(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    before = one(look(tmp_path / "a", "a"), Content("b"), ratio=0.5)
    read = Identity.from_json(json.loads(json.dumps(before.to_json())))
    assert read == before
    assert read.known() == before.known()
    strange: list[Any] = ["x", [{"facts": {}}], [{"facts": {}, "files": [{"colour": 1}]}], 3]
    for wrong in strange:
        with pytest.raises(MuseError, match="cannot be read"):
            Identity.from_json(wrong)


@pytest.mark.parametrize("size", [0, 1, END, END + 1, 2 * END, 5 * END])
def test_the_ends_of_a_file_tell_it_from_another(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(size))
    first = look(path, "a")
    assert (first.size, first.digest[:5]) == (size, "ends:")
    for place in {0, size // 2, size - 1} if size else set():
        content = bytearray(size)
        content[place] = 1
        path.write_bytes(content)
        in_the_middle = END <= place < size - END
        assert (look(path, "a").digest == first.digest) == in_the_middle
        assert look(path, "a", whole=True).digest != look(tmp_path / "a", "a").digest


def test_a_file_is_read_again_only_when_it_may_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    before = look(path, "a")
    monkeypatch.setattr(module, "_digest", lambda *_: "read")
    assert look(path, "a", {before.path: before}) == before
    assert look(path, "a", {before.path: before}, whole=True).digest == "sha256:read"
    state = path.stat()
    path.write_bytes(b"xyz")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # as `cp -p` would
    assert look(path, "a", {before.path: before}).digest == "ends:read"
    shutil.copy2(path, tmp_path / "b")
    assert look(tmp_path / "b", "a", {before.path: before}).digest == "ends:read"


def test_many_names_are_counted() -> None:
    assert first_of("abc") == "a, b, c"
    assert first_of("abcde", "; ") == "a; b; c; and 2 more"
