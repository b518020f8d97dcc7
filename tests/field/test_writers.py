"""Every writer of the product, commands and Python, with a file of the user in its way.

The tables are complete: the options come from the commands themselves, the functions from the code.
"""

import ast
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch

import muse_core
from muse_cli.plugins import command_of
from muse_core import api, demo
from muse_core.data.sample import Sample
from muse_core.data.writer import write_scene_shards
from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.frechet import Moments, save_reference
from muse_core.evaluation.protocol import Protocol, Scores
from muse_core.latents.team import write_latents
from muse_core.latents.write import LatentJob
from muse_core.marks import Mark
from muse_core.model.exporting import export
from muse_core.ownership import write_file
from muse_core.progress import Silent
from muse_core.registry import discover
from muse_core.runs import RunFolder
from muse_core.stages.start import new_folder
from muse_core.viz.attention import save_attention
from muse_core.viz.maps import AttentionMap, Scene
from muse_core.viz.report import read_run, write_report
from tests.field.conftest import Muse
from tests.field.inputs import RED, coded, flat, put, tar

ROOT = Path(__file__).parents[2]
MINE = "my own work"
INDEXES = ("job.json", "index.json", "status.json", "config.json", "saved.json", "comparison.json")
"""By which muse knows its folders: files of a stranger may be called so."""


@dataclass(frozen=True)
class Writer:
    """A command line that ends with the option that names an output.

    cheap: it takes not more than seconds. ending: of the files that it writes.
    """

    line: str
    cheap: bool = True
    ending: str = "json"


EVAL = "eval tiny --data demo:val:2 --metric psnr"
SEGMENT = "segment tiny --data demo:train:8 --val-data demo:val:2 --epochs 1 --classes 96"
FILES = {
    "eval --out": Writer(f"{EVAL} --out"),
    "eval --save-stats": Writer("eval --data demo:val:4 --size-px 64 --metric fd-tiny-clip --save-stats", ending="npz"),
    "zeroshot --out": Writer("zeroshot tiny --data demo:val:4 --out"),
    "segment --out": Writer(f"{SEGMENT} --out"),
    "segment --picture": Writer(f"{SEGMENT} --picture", ending="png"),
    "attn-viz --out": Writer("attn-viz y.jpg --checkpoint tiny --out", ending="png"),
    "infer --features": Writer("infer y.jpg --checkpoint tiny --out o --features", ending="npz"),
    "inspect --out": Writer("inspect s --sample 2 --out", ending="png"),
    "report --out": Writer("report run --out", ending="html"),
    **{
        f"probe {name} --out": Writer(
            f"probe {name} tiny --val-data demo:val:16 --data demo:train:32 --out", name == "knn"
        )
        for name in sorted(discover("muse.probes"))
    },
}
FOLDERS = {
    "shard --out": Writer("shard d --out"),
    "infer --latents": Writer("infer s --checkpoint tiny --latents"),
    "export --out": Writer("export tiny --out"),
    "train --out": Writer("train --stage 1 --size tiny --data demo --init none --steps 1 --batch-size 8 --out", False),
    "compare --out": Writer("compare tiny --data demo:val --limit 2 --measure eval --set metrics=[psnr] --out"),
    "eval --save-images": Writer(f"{EVAL} --save-images"),
    "segment --save-masks": Writer(f"{SEGMENT} --save-masks"),
}
BESIDE = {"infer --out", "demo --out"}
"""Where names step aside: files in the folder, or the folder itself."""
INPUTS = {"--config", "--reference", "--classes", "--templates", "--masks", "--captions"}


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


def public_writers() -> set[str]:
    """Functions and methods of the product that anybody may call and that take an output or `overwrite`."""
    found = set()
    for path in sorted((ROOT / "muse_core").rglob("*.py")):
        module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        if (
            module.split(".")[1] in ("files", "ownership")
            or ".foundation." in module
            or module.endswith("build_artwork")
        ):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and takes_output(node):
                found.add(f"{module.removeprefix('muse_core.')}.{node.name}")
    return found


def takes_output(node: ast.FunctionDef) -> bool:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    kinds = {one.arg: ast.unparse(one.annotation) if one.annotation else "" for one in arguments}
    return "overwrite" in kinds or kinds.get("out") in ("Path", "Path | None", "str", "str | None")


PARTS = {
    "data.sharding.attempt.begin_anew_if_read_otherwise",
    "data.sharding.attempt.refuse_other_settings",
    "data.sharding.shard.run",
    "data.sharding.target.of",
    "data.sharding.target.refuse_overlap",
    "data.sharding.target.refuse_taken",
    "demo_record.begun",
    "demo_record.resumed",
    "evaluation.kept_scores.keep",
    "evaluation.reconstruction.evaluate",
    "evaluation.reconstruction.reference_statistics",
    "evaluation.savedmasks.saved_masks",
    "evaluation.segmentation.segment",
    "latents.job.begin",
    "latents.write.finish",
    "latents.write.prepare",
    "latents.write.write_units",
    "runs.refuse_in_the_way",
    "viz.attention.attention_content",
    "viz.kinds.kind_of",
    "viz.kinds.refuse_other_kinds",
}
"""Steps of those in the table, called by them alone; they write nothing of their own, or behind the same door."""


def test_every_python_function_that_takes_an_output_is_in_the_table() -> None:
    assert public_writers() == PYTHON_FILES.keys() | PYTHON_FOLDERS.keys() | {"demo.run_demo"} | PARTS
    assert {name for name in muse_core.__all__ if f"api.{name}" in public_writers()} == {"evaluate", "segment", "train"}


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
    "muse_core/stages/validation.py": "inside a run that is held",
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


@pytest.fixture
def inputs(tmp_path: Path, trained: Path) -> Path:
    """What the command lines read, in the folder where they are typed."""
    put(tmp_path / "d/0.jpg", coded(flat(RED)))
    put(tmp_path / "y.jpg", coded(flat(RED, 64, 64)))
    tar(tmp_path / "s/0.tar", [(f"{n}.jpg", coded(flat(RED, 64, 64))) for n in range(2)])
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path


def everything(folder: Path) -> dict[str, bytes | None]:
    """All that is in a folder, hidden files and empty folders too; the cache is muse's."""
    return {
        re.sub(r"tfevents.*", "tfevents", path.relative_to(folder).as_posix()): (
            path.read_bytes() if path.is_file() else None
        )
        for path in sorted(folder.rglob("*"))
        if path.relative_to(folder).parts[0] != "cache"
    }


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


# ---------------------------------------------------------------- Python


def scene() -> Scene:
    weights = np.full((4, 4), 0.25, np.float32)
    return Scene(np.zeros((3, 16, 16), np.float32), (AttentionMap("a", weights, (2, 2)),))


def moments() -> Moments:
    found = Moments()
    found.add(torch.rand(4, 3))
    return found


def scores() -> Scores:
    return Scores("eval", "t", {"psnr": 1.0}, Protocol({"data": "d"}), {"seen": 1, "skipped": {}})


Write = Callable[[Path, Path, bool], Any]
"""Takes the output, the folder with inputs, and `overwrite`."""

PYTHON_FILES: dict[str, Write] = {
    "api.save_statistics": lambda out, _, overwrite: api.save_statistics(
        "demo:val:4", out, 64, "fd-tiny-clip", overwrite=overwrite
    ),
    "evaluation.frechet.save_reference": lambda out, _, overwrite: save_reference(moments(), out, overwrite),
    "evaluation.protocol.save": lambda out, _, overwrite: scores().save(out, overwrite=overwrite),
    "viz.attention.save_attention": lambda out, _, overwrite: save_attention(scene(), out, overwrite=overwrite),
    "viz.report.write_report": lambda out, here, overwrite: write_report(
        [read_run(here / "run")], out, overwrite=overwrite
    ),
}


def tiny() -> object:
    return api.load_tokenizer("tiny")


PYTHON_FOLDERS: dict[str, Write] = {
    "api.train": lambda out, _, overwrite: api.train(
        1, "tiny", "demo", str(out), {"run.init": "none", "run.overwrite": overwrite, "training.steps": 1}
    ),
    "api.evaluate": lambda out, _, overwrite: api.evaluate(
        tiny(), "demo:val:2", ["psnr"], images=out, overwrite=overwrite
    ),
    "api.segment": lambda out, _, overwrite: api.segment(
        tiny(), "demo:train:8", "demo:val:2", masks=out, overwrite=overwrite
    ),
    "data.sharding.shard.shard": lambda out, here, overwrite: api.shard(
        str(here / "d"), str(out), workers=1, overwrite=overwrite
    ),
    "data.writer.write_shards": lambda out, _, overwrite: api.write_shards(
        [Sample("0", np.zeros((8, 8, 3), np.uint8))], out, overwrite=overwrite
    ),
    "data.writer.write_scene_shards": lambda out, _, overwrite: write_scene_shards(
        "val", 2, out, size=32, overwrite=overwrite
    ),
    "latents.team.write_latents": lambda out, here, overwrite: write_latents(
        LatentJob(str(here / "s"), "tiny", 64), out, overwrite=overwrite
    ),
    "model.exporting.export": lambda out, here, overwrite: export(here / "run", out, overwrite=overwrite),
    "runs.create": lambda out, _, overwrite: RunFolder.create(out, {}, {}, overwrite=overwrite),
}


@pytest.mark.parametrize("name", PYTHON_FILES)
def test_python_replaces_a_file_only_when_that_is_said(inputs: Path, name: str) -> None:
    mine = "mine.npz" if name == "api.save_statistics" else "mine.png"
    put(inputs / mine, MINE)
    before = everything(inputs)
    with pytest.raises(MuseError, match="is there already"):
        PYTHON_FILES[name](inputs / mine, inputs, False)
    assert everything(inputs) == before
    PYTHON_FILES[name](inputs / mine, inputs, True)
    assert {path for path, content in everything(inputs).items() if before.get(path) != content} == {mine}


@pytest.mark.parametrize("name", PYTHON_FOLDERS)
def test_python_never_touches_a_strangers_folder(inputs: Path, name: str) -> None:
    for index in INDEXES:
        put(inputs / "mine" / index, '{"slurm": 1, "format": "mine"}')
    put(inputs / "mine/deep/thesis.tex", MINE)
    before = everything(inputs)
    for overwrite in (False, True):
        with pytest.raises(MuseError, match="is not empty and holds no "):
            PYTHON_FOLDERS[name](inputs / "mine", inputs, overwrite)
        assert everything(inputs) == before


def test_the_door_itself_is_shut(tmp_path: Path) -> None:
    put(tmp_path / "x", MINE)
    with pytest.raises(MuseError):
        write_file(tmp_path / "x", "theirs", Mark("note"))
    assert everything(tmp_path) == {"x": MINE.encode()}
