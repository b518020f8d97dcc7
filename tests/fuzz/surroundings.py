"""Odd surroundings: names of files, encodings, variables and full disks around commands that are themselves well."""

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from muse_core.errors import ExitCode
from tests.fuzz.judge import Ended, muse
from tests.fuzz.kinds import Bug, Cases, Rng
from tests.fuzz.pictures import picture

VARIABLES = (
    "COLUMNS", "NO_COLOR", "FORCE_COLOR", "TERM", "MUSE_LOG_LEVEL", "MUSE_OFFLINE", "MUSE_SEED",
    "MUSE_CACHE", "MUSE_RUNS", "MUSE_PLUGINS", "MUSE_DATA", "TERMINAL_WIDTH", "XDG_CACHE_HOME",
)  # fmt: skip
VALUES = (
    "",
    " ",
    "0",
    "1",
    "-1",
    "010",
    "true",
    "no",
    "maybe",
    "1e3",
    "~nobody/x",
    "{",
    "a::b",
    "\udcff",
    "9" * 30,
    "x" * 300,
)
ENCODINGS = ("ascii", "latin-1", "utf-8", "cp1252", "utf-16")
COMMANDS = (
    ("ls", "runs"), ("ls", "metrics"), ("--help",), ("config", "show", "train"), ("config", "show", "eval"),
    ("plugins",), ("ls", "nothing"), ("infer",), ("inspect",),
)  # fmt: skip
MAY_END = {ExitCode.DONE, ExitCode.USAGE, ExitCode.SETTINGS, ExitCode.FILE, ExitCode.PROBLEMS}


def surroundings(folder: Path, cases: list[int], of: Cases) -> Iterator[Bug]:
    """A command with a name of any bytes, some variables, and a stdout of some encoding, full or not."""
    folder.mkdir(parents=True)
    for case in cases:
        rng = of.rng(case)
        with _variables(rng):
            yield from _tried(folder, case, rng, of)


def _tried(folder: Path, case: int, rng: Rng, of: Cases) -> Iterator[Bug]:
    file = folder / _name(case, rng)
    file.write_bytes(picture(0)[1])
    command: tuple[str, ...] = COMMANDS[int(rng.integers(len(COMMANDS)))]
    if command == ("infer",):
        command = ("infer", str(file), "--checkpoint", "tiny", "--size-px", "16", "--out", str(folder / f"out{case}"))
    elif command == ("inspect",):
        command = ("inspect", str(file))
    as_json = bool(rng.random() < 0.5)
    stream = _Stream(str(rng.choice(ENCODINGS)), full=bool(rng.random() < 0.3))
    ended = muse(*command, *(["--json"] if as_json else []), stdout=stream)
    wrong = ended.bug or _wrong(ended, stream, as_json)
    if wrong:
        yield of.bug(case, ended, wrong)


def _wrong(ended: Ended, stream: "_Stream", as_json: bool) -> str:
    if ended.code not in MAY_END:
        return f"exit code {ended.code}"
    if stream.full:
        return "" if ended.code else "the disk is full, and that is not told"
    if not as_json or "--help" in ended.arguments:
        return ""
    try:
        document = json.loads(stream.text())
    except ValueError as error:
        return f"not one document: {error}"
    return "" if document.get("exit_code", 0) == ended.code else "another exit code in the document"


def _name(case: int, rng: Rng) -> str:
    usable = [byte for byte in range(1, 256) if byte != ord("/")]
    return f"{case}" + os.fsdecode(bytes(rng.choice(usable, int(rng.integers(1, 40))).tolist())) + ".png"


@contextmanager
def _variables(rng: Rng) -> Iterator[None]:
    before = dict(os.environ)
    try:
        for name in rng.choice(VARIABLES, int(rng.integers(0, 4)), replace=False):
            os.environ[str(name)] = VALUES[int(rng.integers(len(VALUES)))]
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class _Stream(io.TextIOWrapper):
    """A stdout of some encoding, behind which the disk may be full."""

    def __init__(self, encoding: str, *, full: bool) -> None:
        self.full, self._bytes = full, io.BytesIO()
        raw: Any = open("/dev/full", "wb") if full and sys.platform == "linux" else self._bytes  # noqa: SIM115, PTH123
        self.full = raw is not self._bytes
        super().__init__(raw, encoding=encoding)

    def text(self) -> str:
        """What was written."""
        return self._bytes.getvalue().decode(self.encoding)
