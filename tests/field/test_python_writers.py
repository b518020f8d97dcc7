"""Every writer that is called from Python, with a file of the user in its way; the table is complete."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import muse_core
from muse_core import api
from muse_core.data.sample import Sample
from muse_core.data.writer import write_scene_shards
from muse_core.errors import MuseError
from muse_core.evaluation.frechet import Moments, save_reference
from muse_core.evaluation.protocol import Protocol, Scores
from muse_core.latents.team import write_latents
from muse_core.latents.write import LatentJob
from muse_core.marks import Mark
from muse_core.model.exporting import export
from muse_core.ownership import write_file
from muse_core.runs import RunFolder
from muse_core.viz.attention import save_attention
from muse_core.viz.maps import AttentionMap, Scene
from muse_core.viz.report import read_run, write_report
from tests.field.inputs import put
from tests.field.writers import INDEXES, MINE, ROOT, everything


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
    "training.beginning.begun",
    "viz.attention.attention_content",
    "viz.kinds.kind_of",
    "viz.kinds.refuse_other_kinds",
}
"""Steps of those in the table, called by them alone; they write nothing of their own, or behind the same door."""


def test_every_python_function_that_takes_an_output_is_in_the_table() -> None:
    assert public_writers() == PYTHON_FILES.keys() | PYTHON_FOLDERS.keys() | {"demo.run_demo"} | PARTS
    assert {name for name in muse_core.__all__ if f"api.{name}" in public_writers()} == {"evaluate", "segment", "train"}


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
