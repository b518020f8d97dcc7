"""Every command that writes, with a file of the user in its way; the tables are complete."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from muse_cli.plugins import command_of
from muse_core import demo
from muse_core.errors import ExitCode
from muse_core.progress import Silent
from muse_core.registry import discover
from muse_core.training.beginning import new_folder
from tests.field.conftest import Muse
from tests.field.inputs import put
from tests.field.writers import BESIDE, FILES, FOLDERS, INDEXES, INPUTS, MINE, ROOT, everything

# ---------------------------------------------------------------- the tables are complete


def leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Every command that can be typed, with the groups built as they are when one of theirs is run."""
    if not hasattr(command, "list_commands"):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        plugin = getattr(command, "plugins", {}).get(name)
        inner = command.build(plugin) if plugin else command.get_command(context, name)
        yield from leaves(inner, (*path, name))


def options() -> set[str]:
    """Every option that names a file or a folder, of every command."""
    found = set()
    for name, plugin in discover("muse.commands").items():
        for path, command in leaves(command_of(plugin.code()), (name,)):
            for option in command.params:
                names_a_path = option.opts[0] == "--out" or re.search("FILE|DIR", option.metavar or "")
                if option.param_type_name == "option" and names_a_path:
                    found.add(f"{path} {option.opts[0]}")
    return found


def test_every_option_that_names_an_output_is_in_a_table() -> None:
    outputs = {option for option in options() if option.rpartition(" ")[2] not in INPUTS}
    assert outputs == FILES.keys() | FOLDERS.keys() | BESIDE


def test_every_command_with_such_an_option_knows_overwrite() -> None:
    for name, plugin in discover("muse.commands").items():
        for path, command in leaves(command_of(plugin.code()), (name,)):
            names = {spelling for option in command.params for spelling in option.opts}
            if any(f"{path} {option}" in FILES.keys() | FOLDERS.keys() for option in names):
                assert "--overwrite" in names, path


RAW = re.compile(
    r"\.write_bytes\(|\.write_text\(|write_atomically\(|write_json\(|rmtree\(|\.unlink\(|os\.replace\(|os\.remove\("
    r"|(?<!scores)\.save\((?:out|path|target|folder|file)\b|\.rename\(|\.replace\((?:path|target|folder|self\._folder|out)\b|save_file\(|open\([^)]*[\"'][wax]b?\+?[\"']"
)
BEHIND_THE_DOOR = {
    "muse_core/files.py": "how files become whole",
    "muse_core/ownership.py": "the door",
    "muse_core/run_checkpoints.py": "inside a run that is held",
    "muse_core/run_files.py": "inside a run that is held",
    "muse_core/runs.py": "inside a run that is held",
    "muse_core/training/identity.py": "inside a run that is held",
    "muse_core/stages/chain.py": "inside a run, what it keeps of the stages after it",
    "muse_core/training/checkpointing.py": "inside a run that is held",
    "muse_core/training/recording.py": "inside a run that is held",
    "muse_core/training/trackers.py": "inside a run that is held",
    "muse_core/tensor_files.py": "into a folder that is written aside",
    "muse_core/model/checkpoint.py": "into a folder that is written aside",
    "muse_core/model/export.py": "into a folder that is written aside",
    "muse_core/model/exporting.py": "into a folder that is written aside",
    "muse_core/data/writer.py": "into a folder that is written aside",
    "muse_core/evaluation/savedmasks.py": "into a folder that is written aside",
    "muse_cli/commands/compare.py": "into a folder that is written aside",
    "muse_core/data/sharding/shard.py": "into a folder that is written aside",
    "muse_core/data/sharding/target.py": "into a folder that is held, what its index lists",
    "muse_core/data/sharding/places.py": "into a folder that is written aside, or what an index lists",
    "muse_core/evaluation/savedpairs.py": "into a folder that was asked for",
    "muse_core/latents/write.py": "into a folder that was asked for",
    "muse_core/demo_record.py": "inside a demo that is held",
    "muse_core/remembered.py": "the cache",
    "muse_core/evaluation/patches.py": "the cache",
    "muse_core/evaluation/features.py": "the cache",
    "muse_core/evaluation/zeroshot.py": "the cache",
    "muse_core/data/places.py": "a temporary file",
    "muse_cli/team.py": "a temporary folder",
    "muse_cli/terminal.py": "the streams of this process",
    "muse_core/model/weights/reading.py": "nothing: a hint shows a command that writes",
    "muse_core/data/scenes/build_artwork.py": "made once, by the makers, into the package",
}


def test_nothing_else_in_the_product_writes_or_removes_files() -> None:
    writing = set()
    for path in [*(ROOT / "muse_core").rglob("*.py"), *(ROOT / "muse_cli").rglob("*.py")]:
        name = path.relative_to(ROOT).as_posix()
        if "training/foundation/" not in name and RAW.search(path.read_text(encoding="utf-8")):
            writing.add(name)
    assert writing == BEHIND_THE_DOOR.keys()


# ---------------------------------------------------------------- commands


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_user_is_refused_before_anything_is_done(inputs: Path, muse: Muse, name: str) -> None:
    mine = f"mine.{FILES[name].ending}"
    put(inputs / mine, MINE)
    before = everything(inputs)
    ended = muse(*FILES[name].line.split(), mine)
    assert (ended.code, everything(inputs)) == (ExitCode.FILE, before), ended.err
    assert f"{mine} is there already" in ended.err
    assert "--overwrite" in ended.err


@pytest.mark.parametrize("name", [name for name, writer in FILES.items() if writer.cheap])
def test_a_named_file_is_replaced_when_that_is_said(inputs: Path, muse: Muse, name: str) -> None:
    mine = f"mine.{FILES[name].ending}"
    put(inputs / mine, MINE)
    put(inputs / "mine", "another file")
    before = everything(inputs)
    ended = muse(*FILES[name].line.split(), mine, "--overwrite")
    assert ended.code == 0, ended.err
    after = everything(inputs)
    assert after[mine] not in (MINE.encode(), b"")
    assert {path for path, content in before.items() if after.get(path) != content} == {mine}


@pytest.mark.parametrize("name", FILES)
def test_a_name_that_promises_another_kind_of_file_is_refused(inputs: Path, muse: Muse, name: str) -> None:
    wrong = "npz" if FILES[name].ending != "npz" else "jpg"
    before = everything(inputs)
    ended = muse(*FILES[name].line.split(), f"mine.{wrong}", "--overwrite")
    assert (ended.code, everything(inputs)) == (ExitCode.SETTINGS, before), ended.err


@pytest.mark.parametrize("name", FOLDERS)
def test_a_strangers_folder_is_never_touched(inputs: Path, muse: Muse, name: str) -> None:
    for index in INDEXES:
        put(inputs / "mine" / index, '{"slurm": 1, "format": "mine"}')
    put(inputs / "mine/deep/thesis.tex", MINE)
    before = everything(inputs)
    for more in ([], ["--overwrite"]):
        ended = muse(*FOLDERS[name].line.split(), "mine", *more)
        assert (ended.code, everything(inputs)) == (ExitCode.FILE, before), (more, ended.err)
        assert "mine is not empty and holds no " in ended.err
        assert "mine-2" in ended.err


@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_in_place_of_a_folder_is_never_touched(inputs: Path, muse: Muse, name: str) -> None:
    put(inputs / "mine", MINE)
    before = everything(inputs)
    for more in ([], ["--overwrite"]):
        ended = muse(*FOLDERS[name].line.split(), "mine", *more)
        assert (ended.code, everything(inputs)) == (ExitCode.FILE, before), (more, ended.err)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if one.cheap else pytest.mark.slow) for name, one in FOLDERS.items()]
)
def test_a_folder_of_muse_is_replaced_when_that_is_said_and_a_file_beside_keeps_it(
    inputs: Path, muse: Muse, name: str
) -> None:
    line = [*FOLDERS[name].line.split(), "made"]
    assert muse(*line).code == 0
    first = everything(inputs)
    if name != "eval --save-images":  # which goes on where it was, and finds all of it
        assert muse(*line).code == ExitCode.FILE
    put(inputs / "made/thesis.tex", MINE)
    before = everything(inputs)
    if name != "eval --save-images":
        ended = muse(*line, "--overwrite")
        assert (ended.code, everything(inputs)) == (ExitCode.FILE, before)
        assert "so it is not replaced: thesis.tex" in ended.err
    (inputs / "made/thesis.tex").unlink()
    assert muse(*line, "--overwrite").code == 0
    assert everything(inputs).keys() == first.keys()


DEFAULTS = {
    "infer y.jpg --checkpoint tiny": ("y-recon.png", "y-recon-2.png"),
    "infer y.jpg --checkpoint tiny --out o": ("o/y-recon.png", "o/y-recon-2.png"),
    "infer y.jpg --checkpoint tiny --compare": ("y-compare.png", "y-compare-2.png"),
    "attn-viz y.jpg --checkpoint tiny": ("y-attention.png", "y-attention-2.png"),
    "inspect s --sample 2": ("s-samples.png", "s-samples-2.png"),
    "report run": ("run/report.html", "run/report-2.html"),
    "eval run --data demo:val:2 --metric psnr": ("run/results/eval.json", "run/results/eval-2.json"),
    "segment run --data demo:train:8 --val-data demo:val:2 --epochs 1 --classes 96": (
        "run/results/segment.png",
        "run/results/segment-2.png",
    ),
}
"""Names that muse chooses, and those that it takes when the user has them."""


@pytest.mark.parametrize("line", DEFAULTS)
def test_a_name_that_muse_chose_steps_aside(inputs: Path, muse: Muse, line: str) -> None:
    taken, free = DEFAULTS[line]
    put(inputs / taken, MINE)
    for _ in range(2):  # the second time the same name again
        ended = muse(*line.split())
        assert ended.code == 0, ended.err
        assert Path(free).name in ended.err + ended.out
        assert (inputs / taken).read_text() == MINE
        made = [path for path in inputs.rglob(f"{Path(taken).stem}*{Path(taken).suffix}") if "cache" not in path.parts]
        assert sorted(made) == sorted([inputs / taken, inputs / free])


@pytest.mark.parametrize(("line", "name"), [("shard d", "d-shards"), ("export tiny", "exported")])
def test_a_folder_that_muse_chose_is_refused_where_something_is(inputs: Path, muse: Muse, line: str, name: str) -> None:
    put(inputs / name / "thesis.tex", MINE)
    before = everything(inputs)
    for more in ([], ["--overwrite"]):
        ended = muse(*line.split(), *more)
        assert (ended.code, everything(inputs)) == (ExitCode.FILE, before), ended.err
        assert f"{name}-2" in ended.err


def test_a_new_run_and_a_demo_take_a_free_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSE_RUNS", str(tmp_path / "runs"))
    first, second = new_folder(1, "tiny"), new_folder(1, "tiny")
    assert first != second

    class StoppedError(Exception):
        pass

    def stop(places: demo.Places, *_: object) -> None:
        raise StoppedError(places.root)

    monkeypatch.setattr(demo, "_write_data", stop)  # the rest takes minutes, and writes below this folder
    put(tmp_path / "muse-demo/thesis.tex", MINE)
    put(tmp_path / "file", MINE)
    for name in ("muse-demo", "file"):
        with pytest.raises(StoppedError) as stopped:
            demo.run_demo(tmp_path / name, True, Silent())
        chosen = Path(stopped.value.args[0])
        assert chosen == tmp_path / f"{name}-2"
        assert {path.name for path in chosen.iterdir()} == {".held", "demo.json"}
    assert (tmp_path / "muse-demo/thesis.tex").read_text() == MINE
    assert (tmp_path / "file").read_text() == MINE
