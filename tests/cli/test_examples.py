"""Every example in every help text runs; what trains for minutes is replaced by a stand-in, many scenes by a few."""

import json
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch import Tensor

from muse_cli import launch
from muse_core.data.source import Item, SceneSource
from muse_core.data.writer import write_scene_shards
from muse_core.errors import ExitCode
from muse_core.evaluation import linear
from muse_core.evaluation.linear import Heads, Recipe, fit
from muse_core.evaluation.options import LinearOptions
from muse_core.registry import discover
from muse_core.runs import RunFolder
from muse_core.settings.train import TrainSettings
from tests.cli.conftest import Muse
from tests.training.mini import lean

EXAMPLES = [example for plugin in discover("muse.commands").values() for example in plugin.declaration.examples]
FEW = 32
Recipes = Sequence[Recipe]
_SETTINGS = json.dumps(lean(1, {"data.train": "demo"}).model_dump(mode="json"))
A_CHECK_THAT_FINDS_SOMETHING = ("muse train --stage 2 --size 1b --dry-run", "muse doctor --size 1b")


@pytest.fixture(autouse=True)
def what_the_examples_name(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture, a folder of them, the runs that examples mention, and stand-ins for long work."""
    Image.new("RGB", (200, 160), (90, 160, 40)).save("photo.jpg")
    Path("photos").mkdir()
    for copy in ("a.jpg", "b.jpg", "c.jpg", *(f"photos/{number}.jpg" for number in range(10, 16))):
        shutil.copy("photo.jpg", copy)
    write_scene_shards("val", 8, Path("shards"), per_shard=4)
    for name in ("tiny-stage1-20261123-1432", "tiny-stage3-20261123-1502"):
        shutil.copytree(trained, tmp_path / "runs" / name)
    (tmp_path / "runs" / "tiny-stage1-20261123-1432" / "config.yaml").write_text(_SETTINGS)
    RunFolder(tmp_path / "runs" / "tiny-stage1-20261123-1432").interrupt(KeyboardInterrupt())
    monkeypatch.setattr("muse_core.model.load.SHIPPED", trained / "checkpoints" / "step-0000001")
    monkeypatch.setenv("MUSE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))

    every = SceneSource.once

    def a_few(*place: Any) -> Iterator[Item]:
        return islice(every(*place), FEW)

    def brief(
        rows: Tensor, labels: Tensor, classes: int, recipes: Recipes, options: LinearOptions, *more: Any
    ) -> Heads:
        return fit(rows, labels, classes, recipes, options.model_copy(update={"epochs": 1, "least_steps": 5}), *more)

    def start(settings: TrainSettings, origins: Mapping[str, str], later: object) -> dict[str, Any]:
        return {"folder": f"runs/made{settings.run.stage}"}

    monkeypatch.setattr(SceneSource, "once", a_few)
    monkeypatch.setattr(linear, "fit", brief)
    monkeypatch.setattr(launch, "start", start)
    monkeypatch.setattr(launch, "resume", lambda folder, settings: {"folder": str(folder.path)})
    monkeypatch.setattr("muse_core.demo.run_demo", lambda out, quick, progress, resume: {"summary": "done"})


def marked(example: str) -> Any:
    """The plans of the published sizes count hundreds of layers."""
    return pytest.param(example, marks=[pytest.mark.slow] if "--size 1b --dry-run" in example else [])


@pytest.mark.parametrize("example", map(marked, EXAMPLES))
def test_the_example_runs(muse: Muse, example: str) -> None:
    program, *arguments = shlex.split(example)
    assert program == "muse"
    ended = muse(*arguments)
    expected = ExitCode.PROBLEMS if example in A_CHECK_THAT_FINDS_SOMETHING else ExitCode.DONE
    assert ended.code == expected, ended.err
    assert ended.out
