"""What every trial needs: small shards, settings, and a run that nobody touched to compare with."""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml
from PIL import Image

from muse_core.data.scenes import scene_at
from muse_core.data.sharding.options import ShardOptions
from muse_core.data.sharding.shard import shard
from muse_core.data.writer import write_scene_shards
from muse_core.pictures import image_png
from muse_core.runs import RunFolder
from tests.faults.commands import Running, start
from tests.training.mini import Changes, lean
from tests.training.test_resume import assert_equal_runs

STEPS, SAVE_EVERY = 6, 2
RECIPE: Changes = {
    "model.blocks": 1,
    "training.steps": STEPS,
    "training.save_every": SAVE_EVERY,
    "training.keep": STEPS,
    "training.batch_size": 4,
    "training.reconstruct": 2,
    "losses.adversarial_start": 1,
    "data.workers": 1,
    "data.limit_errors": 0.0,
}
"""A stage with every kind of state, reading its four shards twice, and accepting no damage."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A folder for trials, and settings that all of them share."""

    root: Path
    _made: list[Path] = field(default_factory=list)

    def folder(self) -> Path:
        """Make a folder for one trial."""
        path = self.root / f"trial{len(self._made):04d}"
        path.mkdir(parents=True)
        self._made.append(path)
        return path

    @contextmanager
    def cleared(self) -> Iterator[None]:
        """Remove what a trial leaves unless it raises: a hundred runs would fill a disk in memory."""
        before = len(self._made)
        yield
        for path in self._made[before:]:
            shutil.rmtree(path)

    @property
    def shards(self) -> Path:
        """Twelve scenes in four shards."""
        path = self.root / "shards"
        if not path.exists():
            write_scene_shards("train", 12, path, per_shard=3, size=32)
        return path

    @property
    def pictures(self) -> Path:
        """Sixteen pictures."""
        path = self.root / "pictures"
        if not path.exists():
            path.mkdir()
            for number in range(16):
                image = Image.fromarray(scene_at("train", number, size=32).image)
                (path / f"{number:02d}.png").write_bytes(image_png(image))
        return path

    @property
    def sharded(self) -> Path:
        """The pictures as shards that were written without disturbance."""
        path = self.root / "sharded"
        if not path.exists():
            shard(str(self.pictures), str(path), ShardOptions(per_shard=5), workers=1)
        return path

    def config(self, shards: Path | None = None) -> Path:
        """Write the settings of a training on some shards."""
        data = shards or self.shards
        path = self.root / f"{data.parent.name}-config.yaml"
        settings = lean(3, {**RECIPE, "data.train": str(data)})
        path.write_text(yaml.safe_dump(settings.model_dump(mode="json")), encoding="utf-8")
        return path

    def train(
        self, folder: Path, *more: str, before: Callable[[], None] | None = None, shards: Path | None = None
    ) -> Running:
        """Start a training into `run` in a folder."""
        run = folder / "run"
        arguments = ["train", "--config", str(self.config(shards)), "--out", str(run), *more]
        return start(run, arguments, said_in(folder), before)

    def resume(self, folder: Path, *more: str) -> Running:
        """Go on with the run in a folder."""
        run = folder / "run"
        return start(run, ["train", "--resume", str(run), *more], said_in(folder))

    def whole(self, *more: str) -> Path:
        """Train without disturbance, once for each kind of command line."""
        return _whole(self, more)

    def difference(self, run: Path, *more: str) -> str:
        """Say how a run differs from one that nobody disturbed; nothing when every bit is the same."""
        try:
            assert_equal_runs(run, self.whole(*more))
        except AssertionError as problem:
            return f"differs from an undisturbed run: {problem}"
        return ""


@cache
def _whole(scene: Scene, more: tuple[str, ...]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="whole-", dir=scene.root))
    running = scene.train(folder, *more)
    assert running.code() == 0, running.said.read_text()
    return running.run.path


def said_in(folder: Path) -> Path:
    """A new file for what a command says."""
    return folder / f"said-{len(list(folder.glob('said-*')))}.txt"


def error_in(said: Path, folder: Path) -> str:
    """The line that says what happened, with what differs from trial to trial taken out of it."""
    lines = said.read_text(encoding="utf-8", errors="replace").splitlines() if said.exists() else []
    found = [line for line in lines if line.startswith(("error: ", "warning: "))]
    text = (found or ["(nothing)"])[-1].replace(f"{folder}/", "").replace(str(folder), ".")
    text = re.sub(r"\.step-\d+\.\d+\.tmp", ".step-N.tmp", text)
    text = re.sub(r"\.(\w+\.\w+)(?:\.\d+)+\.tmp", r".\1.tmp", text)
    text = re.sub(r"process \d+ on \S+", "process N on HOST", text)
    return re.sub(r"step \d+", "step N", text)


def steps_of(run: RunFolder) -> tuple[int, int]:
    """How many steps a run has told, and how many are in its last checkpoint."""
    told = max((int(record["step"]) for record in run.metrics()), default=0)
    last = run.last_checkpoint()
    return told, int(last.name.removeprefix("step-")) if last else 0


def fast_folder() -> Path | None:
    """A folder in memory, where there is one: what is tried here is not the speed of a disk."""
    place = Path("/dev/shm")
    return place if sys.platform == "linux" and os.access(place, os.W_OK) else None
