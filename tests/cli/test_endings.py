"""Every way a command can end, as the shell sees it."""

import errno
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from muse_cli.spec import CommandSpec
from muse_core.errors import ExitCode, MuseError
from tests.cli.conftest import Muse, stopped_after

Install = Callable[..., None]


def ending(install: Install, error: BaseException) -> None:
    """Install a command that ends with an error."""

    def run() -> None:
        print("a library says something")
        raise error

    install("muse.commands", "end", "ending:SPEC", SPEC=CommandSpec("End.", "ending:run"), run=run)


ENDINGS = [
    (MuseError("what", "do this", ExitCode.SETTINGS), 3, "what", "do this"),
    (MuseError("what"), 4, "what", None),
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "a/b"), 4, "a/b: No such file or directory", None),
    (OSError(errno.ENOSPC, "No space left on device"), 4, "the disk is full", None),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), 4, "the disk is full", None),
    (OSError(errno.EIO, "Input/output error"), 4, "a file could not be read or written: Input/output error", None),
    (ModuleNotFoundError("x", name="lpips"), 6, "the package lpips is not installed", "pip install lpips"),
    (
        MemoryError(),
        6,
        "not enough memory: out of memory",
        "a smaller --batch-size, or --size-px where one image alone is too large",
    ),
    (
        ValueError("oh"),
        1,
        "this is a bug in muse: ValueError: oh",
        "MUSE_DEBUG=1 shows where",
    ),
]


@pytest.mark.parametrize(("error", "code", "what", "hint"), ENDINGS)
def test_an_error_is_a_sentence_a_hint_and_a_code(
    install: Install, muse: Muse, error: BaseException, code: int, what: str, hint: str | None
) -> None:
    ending(install, error)
    ended = muse("end")
    assert ended.code == code
    assert ended.err == f"error: {what}\n" + (f" hint: {hint}\n" if hint else "")
    assert muse("end", "--json").json == {"error": what, "hint": hint, "exit_code": code}


def test_a_traceback_is_shown_only_when_asked_for(
    install: Install, muse: Muse, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending(install, ValueError("oh"))
    assert "Traceback" not in muse("end").err
    monkeypatch.setenv("MUSE_DEBUG", "1")
    assert "Traceback" in muse("end").err


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--bogus"], "No such option: --bogus"),
        (["trian"], "No such command 'trian'. Did you mean 'train'?"),
        (["infer"], "Missing argument 'IMAGE...'"),
        (["config", "show"], "Missing argument 'COMMAND'"),
    ],
)
def test_a_wrong_command_line_is_code_2_with_the_help_to_ask_for(muse: Muse, arguments: list[str], what: str) -> None:
    ended = muse(*arguments)
    assert ended.code == ExitCode.USAGE
    assert what in ended.err
    assert " hint: muse" in ended.err
    document = muse(*arguments, "--json").json
    assert what in document["error"]
    assert document["exit_code"] == 2


def test_with_json_stdout_carries_one_document_whatever_a_library_prints(install: Install, muse: Muse) -> None:
    ending(install, MuseError("what"))
    ended = muse("end", "--json")
    assert json.loads(ended.out)["error"] == "what"
    assert "a library says something" in ended.err


SLEEPER = """
from muse_cli.spec import CommandSpec
SLEEP = CommandSpec("Sleep.", "sleeper:sleep")
def sleep() -> None:
    import sys, time
    print("asleep", file=sys.stderr, flush=True)
    try:
        time.sleep(60)
    except KeyboardInterrupt as woken:
        print("saved", file=sys.stderr, flush=True)
        woken.hint = "muse train --resume RUN"
        raise
"""


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_being_told_to_stop_lets_the_work_save_and_has_its_own_code(
    distribution: Callable[..., Path], tmp_path: Path, number: signal.Signals, code: int, word: str
) -> None:
    site = distribution("sleeper", SLEEPER, "[muse.commands]\nsleep = sleeper:SLEEP\n")
    ended = stopped_after("asleep", number, "sleep", "--json", folder=tmp_path, plugins=site)
    assert ended.code == code
    assert ended.err == f"saved\nerror: {word}\n hint: muse train --resume RUN\n"
    assert ended.json == {"error": word, "hint": "muse train --resume RUN", "exit_code": code}


BUGGY = """
import json
import muse_cli.commands.ls as ls
from muse_cli.spec import CommandSpec
BUG = CommandSpec("Fail.", "buggy:fail")
def fail() -> None:
    raise ZeroDivisionError("by zero")
ls.LISTINGS[ls.Kind.PRESETS] = json.loads  # a bug that is not in a line of this package
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("ls stages", 0),
        ("ls presets", 1),
        ("ls --bogus", 2),
        ("config show train --set optim.lr=-1", 3),
        ("config show train --config nowhere.yaml", 4),
        ("gone", 5),
        ("bug", 5),
        ("infer photo.png --devices 77", 6),
        ("config check bad.yaml", 8),
    ],
)
def test_each_code_reaches_the_shell(
    shell: Muse, distribution: Callable[..., Path], tmp_path: Path, arguments: str, code: int
) -> None:
    site = distribution("buggy", BUGGY, "[muse.commands]\nbug = buggy:BUG\ngone = buggy:NOTHING\n")
    (tmp_path / "bad.yaml").write_text("optim: {lr: -1}\n")
    (tmp_path / "photo.png").touch()
    ended = shell(*arguments.split(), "--json", plugins=site)
    assert ended.code == code
    assert ended.json.get("exit_code", 0) == code
    assert ("error: " in ended.err) == (code != 0)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_with_7_and_says_so_in_the_run(shell: Muse, tmp_path: Path) -> None:
    ended = shell(
        *("train", "--stage", "1", "--size", "tiny", "--lr", "1e30", "--steps", "20", "--batch-size", "8", "--json"),
        *("--out", "run", "--track", "none", "--set", "data.val=null", "--set", "optim.warmup_steps=0"),
        *("--devices", "cpu"),
    )
    assert ended.code == ExitCode.STOPPED
    assert json.loads((tmp_path / "run" / "status.json").read_text())["exit_code"] == ExitCode.STOPPED
    assert "not finite" in ended.json["error"]
