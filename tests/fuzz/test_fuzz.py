"""A short slice of the fuzzing; `make fuzz` does two thousand cases."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from muse_core import registry
from tests.fuzz.judge import muse
from tests.fuzz.kinds import Kind
from tests.fuzz.mutate import DAMAGES, damaged, wrong
from tests.fuzz.run import KINDS, tried


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("MUSE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))
    registry.forget()
    yield
    registry.forget()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name.replace(" ", "-"))
def test_nothing_that_is_damaged_ends_in_a_bug_a_hang_or_silence(kind: Kind, tmp_path: Path) -> None:
    *_, done = tried(tmp_path, cases=100, seed=20, only=kind.name)
    assert done.cases
    assert [bug.line() for bug in done.bugs] == []


def test_the_same_seed_gives_the_same_damage_and_damage_is_never_nothing() -> None:
    content = bytes(range(256)) * 4
    for case in range(50):
        one, other = (damaged(content, np.random.default_rng(case)) for _ in range(2))
        assert one == other != content
        document = {"a": [1, {"b": 2}], "c": "x"}
        said, again = (repr(wrong(document, np.random.default_rng(case))) for _ in range(2))
        assert said == again
    assert document == {"a": [1, {"b": 2}], "c": "x"}
    assert all(damage(b"", np.random.default_rng(0)) is not None for damage in DAMAGES)


def test_the_judge_sees_what_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    assert muse("ls", "stages").bug == ""
    assert muse("ls", "nothing-like-it").code == 2
    monkeypatch.setattr("tests.fuzz.judge.GUARD_S", 0.05)

    def broken(arguments: object) -> int:
        if arguments == ("hang",):
            while True:
                pass
        raise ZeroDivisionError

    monkeypatch.setattr("tests.fuzz.judge.main", broken)
    assert "hangs" in muse("hang").bug
    assert "ZeroDivisionError" in muse("break").bug
