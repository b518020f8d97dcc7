"""Quick feedback: what has not been imported when a command first says something, and how its process ends.

Nothing here is timed. Each command runs in a process of its own that ends at the moment looked at.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Ended, shell_environment

HEAVY = ("torch._inductor", "torch._dynamo", "diffusers", "transformers", "torchvision", "scipy", "matplotlib")


def python(code: str, folder: Path, *arguments: str) -> Ended:
    """Run Python code in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=shell_environment(),
        timeout=300,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


IMPORTED = """
import json, sys
from muse_cli.main import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]), file=sys.__stdout__)
"""


def imported_by(folder: Path, *arguments: str) -> tuple[int, set[str]]:
    """Run a command; return its exit code and the modules that are imported at its end."""
    code, modules = json.loads(python(IMPORTED, folder, *arguments).out.splitlines()[-1])
    return code, set(modules)


def test_doctor_imports_torch_to_see_that_it_works_and_nothing_that_is_built_on_it(tmp_path: Path) -> None:
    code, modules = imported_by(tmp_path, "doctor")
    assert code == 0
    assert "torch" in modules
    assert modules.isdisjoint(HEAVY)


@pytest.mark.parametrize("command", ["train", "eval", "inspect", "infer", "compare"])
def test_help_imports_nothing_heavy(tmp_path: Path, command: str) -> None:
    code, modules = imported_by(tmp_path, command, "--help")
    assert code == 0
    assert modules.isdisjoint({"torch", "numpy", "PIL", *HEAVY})


BUSY = """
import atexit, logging.handlers, os, sys, tempfile, threading, time, weakref
from concurrent.futures import ThreadPoolExecutor
from muse_cli.ending import end

def later():
    time.sleep(0.3)
    print("thread")

class Held: pass
held = Held()
pool = ThreadPoolExecutor(1)
pool.submit(later)
threading.Thread(target=later).start()
atexit.register(print, "atexit")
weakref.finalize(held, print, "finalizer")
log = logging.handlers.MemoryHandler(100, target=logging.FileHandler("log"), flushLevel=100)
log.emit(logging.LogRecord("", 20, "", 0, "logged", (), None))
folder = tempfile.TemporaryDirectory(dir=".")
sys.stdout.write("no newline, no flush")
sys.stderr.write("said")
end(int(sys.argv[1]))
"""


@pytest.mark.parametrize("code", [0, 3, 143])
def test_the_end_leaves_nothing_undone_and_keeps_the_exit_code(tmp_path: Path, code: int) -> None:
    ended = python(BUSY, tmp_path, str(code))
    assert ended.code == code
    assert ended.err == "said"
    assert ended.out.startswith("no newline, no flush")
    assert sorted(ended.out.removeprefix("no newline, no flush").split()) == ["atexit", "finalizer", "thread", "thread"]
    assert (tmp_path / "log").read_text() == "logged\n"
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


PARENT = """
import multiprocessing, time
from muse_cli.ending import end
def work():
    time.sleep(0.5)
    open("child", "w").close()
if __name__ == "__main__":
    multiprocessing.get_context("fork").Process(target=work).start()
    end(0)
"""


def test_the_end_waits_for_children(tmp_path: Path) -> None:
    assert python(PARENT, tmp_path).code == 0
    assert (tmp_path / "child").exists()


def test_modules_are_not_taken_apart_after_the_last_line(tmp_path: Path) -> None:
    noisy = (
        "import os\nclass Noisy:\n    def __del__(self, write=os.write): write(1, b'taken apart')\nnoisy = Noisy()\n"
    )
    assert python(noisy, tmp_path).out == "taken apart"
    assert python(f"{noisy}from muse_cli.ending import end\nend(0)\n", tmp_path).out == ""
