"""A process that has loaded torch and muse, and does each case in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import IO, Any

import pytest
import torch

from tests.gpu.waits import ROOT
from tests.lacking import skip


class CaseError(Exception):
    """How a case ended: the name of the error, its message, and the innermost line of ours."""

    def __init__(self, error: str, message: str, place: str) -> None:
        super().__init__(f"{error} at {place}: {message}")
        self.error, self.message, self.place = error, message, place


Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Do a case, once in a session: ask("steps", size="tiny", ...) returns what it found, or raises `CaseError`."""
    folder = tmp_path_factory.mktemp("gpu")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MUSE_")}
    environment |= {"MUSE_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.gpu"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert server.stdin is not None
        assert server.stdout is not None
        yield asking(server.stdin, server.stdout)
        server.stdin.close()
        server.wait(timeout=60)
        server.stdout.close()


def asking(questions: IO[str], answers: IO[str]) -> Ask:
    """Put cases to a process of `python -m tests.gpu`, each only once."""

    @cache
    def answer(line: str) -> dict[str, Any]:
        questions.write(line + "\n")
        questions.flush()
        document: dict[str, Any] = json.loads(answers.readline())
        return document

    def ask(case: str, **arguments: object) -> dict[str, Any]:
        document = answer(json.dumps([case, arguments]))
        if "found" not in document:
            raise CaseError(**document)
        found: dict[str, Any] = document["found"]
        return found

    return ask


def require(ask: Ask, device: str) -> None:
    """Skip a test where this torch lacks what a simulated device replaces, and name that (see tests/lacking.py)."""
    lacking = ask("lacking", device=device)["missing"]
    if lacking:
        skip(f"torch {torch.__version__} lacks what the {device} GPU replaces: {', '.join(lacking)}")


@pytest.fixture
def fake(ask: Ask) -> Ask:
    """Do a case on the fake device."""
    require(ask, "fake")
    return ask


@pytest.fixture
def slow(ask: Ask) -> Ask:
    """Do a case on the slow device."""
    require(ask, "slow")
    return ask
