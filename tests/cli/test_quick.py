"""Quick feedback: what has not been imported when a command first says something, and how its process ends.

Nothing here is timed. Each command runs in a process of its own that ends at the moment looked at.
"""

import importlib
import io
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from muse_cli.commands import infer
from muse_cli.output import Output
from muse_core.data.sample import Sample
from muse_core.data.writer import write_shards
from muse_core.errors import MuseError
from muse_core.model.locating import SHIPPED
from tests.cli.conftest import Ended, Muse, shell_environment, stopped_after

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
    print("thread\\n", end="")  # in one piece: two threads print

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


MOMENT = """
import json, os, sys
from muse_cli.main import main
from muse_cli.output import Output
tell = Output.tell
def told(output, text):
    tell(output, text)
    if text.startswith(sys.argv[1]):
        print(json.dumps(sorted(sys.modules)), file=sys.__stdout__, flush=True)
        os._exit(0)
Output.tell = told
raise SystemExit(main(sys.argv[2:]))
"""
FIRST_LINES = [
    (
        "eval tiny --data demo:val:8 --metric psnr",
        "eval: tiny (size tiny, stage 3, ",
        " on demo:val, 8 images; psnr at 64 px",
    ),
    ("eval tiny --data shards --limit 2", "eval: tiny (", " on shards, 2 of 3 images; every metric"),
    ("zeroshot tiny --data demo:val:8", "zeroshot: tiny (", " on demo:val, 8 images; classes: those of the data"),
    (
        "probe knn tiny --data demo:train:9 --val-data demo:val:8",
        "probe knn: tiny (",
        " on demo:train, 9 images, then demo:val, 8 images; ",
    ),
    (
        "segment tiny --data demo:train:9 --val-data demo:val:8",
        "segment: tiny (",
        " on demo:train, 9 images, then demo:val, 8 images; 10 epochs",
    ),
    ("compare tiny tiny-encoder --data demo:val:8", "compare: tiny (", ", tiny-encoder (muse-tokenizer "),
    ("inspect shards", "inspect: shards shards, 1;", "every picture is opened"),
    ("inspect checkpoint", "inspect: checkpoint checkpoint (size tiny, stage 3, ", "every tensor"),
    ("infer photo.png", "infer: tiny (", " on photo.png; short side at most twice the training size"),
    ("attn-viz photo.png", "attn-viz: tiny (", " on photo.png"),
    ("infer shards --latents latents", "infer: tiny (", " on shards, 3 images; float32 latents at 64 px to latents"),
    (
        "eval tiny --data demo:val:8 --save-stats s.npz",
        "eval: tiny (",
        " on demo:val, 8 images; statistics at 64 px to s.npz",
    ),
    ("export tiny", "export: tiny (size tiny, stage 3, ", " to exported; averaged weights"),
    ("report results-alone", "report: results-alone; ", "settings, curves, samples and scores"),
    ("shard photos", "shard: photos to photos-shards", ""),
    (
        "train --stage 1-3 --size tiny --data shards --steps 2",
        "train: stages 1 to 3, size tiny, ",
        "on shards; 2 steps",
    ),
    ("train --stage 2 --size 1b --dry-run", "train: the plan of stage 2, size 1b, ", "on data not named yet; "),
    ("demo --quick", "demo: scenes, three stages of size tiny, ", "in runs/demo-quick"),
    ("doctor", "doctor: ", "size tiny"),
]


@pytest.fixture
def things(tmp_path: Path) -> Path:
    """A folder with a photo, three images as shards, and a checkpoint."""
    shutil.copytree(SHIPPED, tmp_path / "checkpoint")
    pixels = np.zeros((24, 36, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    write_shards((Sample(f"{number}", pixels) for number in range(3)), tmp_path / "shards")
    (tmp_path / "results-alone" / "results").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(("line", "begins", "holds"), FIRST_LINES, ids=[line for line, _, _ in FIRST_LINES])
def test_the_first_line_names_what_is_read_before_torch_is_imported(
    things: Path, line: str, begins: str, holds: str
) -> None:
    ended = python(MOMENT, things, begins, *line.split())
    modules = set(json.loads(ended.out))  # it ended at that moment
    assert holds in ended.err
    assert modules.isdisjoint({"torch", *HEAVY})


MISTAKES = [
    ("eval nowhere", 4, "nowhere"),
    ("eval tiny --metric psn", 2, "psn"),
    ("eval tiny --data nowhere", 4, "nowhere"),
    ("eval tiny --data demo:nowhere", 4, "nowhere"),
    ("eval tiny --reference nowhere.npz", 4, "nowhere.npz"),
    ("eval tiny --save-images shards", 4, "shards"),
    ("eval tiny --out photo.png", 3, "photo.png does not end in .json"),
    ("eval tiny --out checkpoint/state.json", 4, "checkpoint/state.json is there already"),
    ("eval tiny --data nowhere --save-stats stats.npz --size-px 64", 4, "nowhere"),
    ("eval tiny --save-stats photo.png", 3, "photo.png does not end in .npz"),
    ("eval tiny --devices moon", 3, "moon"),
    ("zeroshot tiny --data nowhere", 4, "nowhere"),
    ("probe knn tiny --data demo --val-data nowhere", 4, "nowhere"),
    ("zeroshot tiny --classes nowhere.txt", 4, "nowhere.txt"),
    ("zeroshot tiny --templates nowhere.txt", 4, "nowhere.txt"),
    ("probe knn tiny --layers textur", 4, "textur"),
    ("probe linear tiny --layers encoder,block-4", 4, "block-4"),
    ("probe linear checkpoint --blocks 4", 4, "block-4"),
    ("probe topology tiny --layer 3", 3, "3"),
    ("segment tiny --set layer=textur", 4, "textur"),
    ("compare tiny --data demo:val:8 --generator other=lightningdit:x", 2, "other"),
    ("segment tiny --data nowhere --val-data demo:val", 4, "nowhere"),
    ("segment tiny --save-masks photo.png", 4, "photo.png"),
    ("compare tiny nowhere --data demo:val:8", 4, "nowhere"),
    ("infer photo.png --checkpoint nowhere", 4, "nowhere"),
    ("infer photo.png --out photo.png", 2, "photo.png"),
    ("infer nowhere.png", 4, "nowhere.png"),
    ("infer photo.png --devices moon", 3, "moon"),
    ("infer shards --latents photo.png", 4, "photo.png"),
    ("infer nowhere --latents latents", 4, "nowhere"),
    ("infer shards --latents latents --checkpoint nowhere", 4, "nowhere"),
    ("infer shards --latents latents --dtype float61", 2, "float61"),
    ("infer shards --latents latents --devices moon", 3, "moon"),
    ("export nowhere", 4, "nowhere"),
    ("report nowhere", 4, "nowhere"),
    ("train --resume nowhere", 4, "nowhere"),
    ("inspect nowhere", 4, "nowhere"),
    ("attn-viz nowhere.png", 4, "nowhere.png"),
    ("attn-viz photo.png --query here", 2, "here"),
    ("attn-viz photo.png --query 99,5", 3, "99,5"),
    ("attn-viz photo.png --out drawn.bmp", 3, "drawn.bmp"),
    ("attn-viz photo.png --layer 7", 4, "7"),
    ("attn-viz photo.png --head 9", 3, "head 9"),
    ("attn-viz photo.png --against nowhere", 4, "nowhere"),
    ("attn-viz photo.png --against checkpoint --layer -4", 4, "-4"),
    ("doctor --size huge", 3, "huge"),
]


@pytest.mark.parametrize(("line", "code", "names"), MISTAKES, ids=[line for line, _, _ in MISTAKES])
def test_a_mistake_that_is_cheap_to_see_is_told_before_torch_is_imported(
    things: Path, line: str, code: int, names: str
) -> None:
    ended = python(IMPORTED, things, *line.split())
    found, modules = json.loads(ended.out.splitlines()[-1])
    error = next(text for text in ended.err.splitlines() if text.startswith("error: "))
    assert (found, names in error) == (code, True)
    assert set(modules).isdisjoint({"torch", "torchvision", "diffusers", "transformers"})


BUSY_COMMAND = """
from muse_cli.spec import CommandSpec
BUSY = CommandSpec("Compute.", "busy:busy")
def busy() -> None:
    import hashlib, sys
    from pathlib import Path
    from muse_cli.stopping import ending_soon
    from muse_core.files import written_aside
    with ending_soon(), written_aside(Path("result")) as aside:
        (aside / "part").touch()
        print("busy", file=sys.stderr, flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # one call into C, of half an hour, that no signal ends
"""


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_ends_a_measurement_in_the_middle_of_a_kernel(
    distribution: Callable[..., Path], tmp_path: Path, number: signal.Signals, code: int, word: str
) -> None:
    site = distribution("busy", BUSY_COMMAND, "[muse.commands]\nbusy = busy:BUSY\n")
    ended = stopped_after("busy", number, "busy", "--json", folder=tmp_path, plugins=site)
    assert (ended.code, ended.err) == (code, f"error: {word}\n")
    assert ended.json == {"error": word, "hint": None, "exit_code": code}
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


FORKED = """
import os, signal, time
from muse_cli import stopping
from muse_cli.output import out
out.is_program, stopping.PATIENCE_S = True, 0.1
signal.signal(signal.SIGTERM, lambda number, frame: os._exit(7))
with stopping.ending_soon():
    ready, begun = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(begun, b"!")  # what arrives before Python is itself again is dropped
        time.sleep(60)
    os.read(ready, 1)
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    time.sleep(0.5)
print("here")
"""


def test_a_signal_to_a_child_does_not_end_its_parent(tmp_path: Path) -> None:
    ended = python(FORKED, tmp_path)
    assert (ended.code, ended.out) == (0, "7\nhere\n")


def test_a_large_image_is_warned_of_before_it_is_reconstructed(
    muse: Muse, things: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(infer, "LONG_S", 0.0)
    large = things / "large.png"
    Image.fromarray(np.zeros((130, 510, 3), np.uint8)).save(large)
    before: list[str] = []
    reconstruct = infer.reconstruct_one

    def noted(*values: Any) -> Any:
        before.append(capture.getvalue())
        return reconstruct(*values)

    capture = io.StringIO()
    monkeypatch.setattr(Output, "warn", lambda output, text: capture.write(text))
    monkeypatch.setattr(infer, "reconstruct_one", noted)
    assert muse("infer", str(large), "--size-px", "native").code == 0
    assert "large.png at 510 x 130 takes roughly " in before[0]
    assert "--size-px 128 is the default" in before[0]
    assert muse("infer", str(large)).code == 0  # as large as it is by default
    assert before[1] == before[0]


@pytest.mark.parametrize(
    ("line", "work"),
    [
        ("inspect shards", "muse_core.inspection.inspect.inspect"),
        ("infer shards --latents latents --checkpoint tiny", "muse_core.latents.team.write_latents"),
    ],
)
def test_the_work_is_done_where_a_signal_ends_it_soon(
    muse: Muse, things: Path, monkeypatch: pytest.MonkeyPatch, line: str, work: str
) -> None:
    inside: list[bool] = []
    module = importlib.import_module(f"muse_cli.commands.{'inspect' if 'inspect' in line else 'latents'}")

    class Noted:
        def __enter__(self) -> None:
            inside.append(True)

        def __exit__(self, *_: object) -> None:
            inside.clear()

    def at_work(*_: object, **__: object) -> None:
        raise MuseError(f"inside: {inside == [True]}")

    monkeypatch.setattr("muse_cli.stopping.ending_soon", Noted)
    if hasattr(module, "ending_soon"):
        monkeypatch.setattr(module, "ending_soon", Noted)
    monkeypatch.setattr(work, at_work)
    assert "error: inside: True" in muse(*line.split()).err
