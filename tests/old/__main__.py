"""`make old`: the sources of 0.1.0 beside these, on one machine, with one torch and one thread.

Both train the smallest run of every stage, and their losses have to be the same bits; runs of the old code are resumed
and measured by the new one, to the same bits again; and what 0.1.0 scored and lost when its fixtures were recorded has
to come out within a thousandth, or to the bit on the machine of the record.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.old.archive import FIXTURES, ROOT, unpack
from tests.old.filling import back_to
from tests.old.lines import MIDDLE, ON_RUNS, RUNS, SCORES, STEPS
from tests.old.record import machine
from tests.old.tree import FailedError, Tree, losses

CLOSE = 1e-3
"""How far a recorded number may be, relative to itself, on another machine."""

Check = Callable[[], Iterator[str]]


def main() -> int:
    """Print a line for each comparison; 1 when something differs."""
    with tempfile.TemporaryDirectory(prefix="muse-old-") as scratch:
        scene = Scene(Path(scratch))
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(scene.train, (scene.old, scene.new)))
            checks = scene.checks()
            results = list(pool.map(_differences, checks.values()))
    for name, differences in zip(checks, results, strict=True):
        print(f"{'differs' if differences else 'same'}  {name}")
        for difference in differences[:5]:
            print(f"  {difference}")
    return int(any(results))


class Scene:
    """Both trees, with a folder to work in each."""

    def __init__(self, scratch: Path) -> None:
        tree = unpack(scratch / "tree")
        self.old = Tree((tree, *sorted((tree / "plugins").iterdir())))
        self.new = Tree((ROOT, *sorted(path for path in (ROOT / "plugins").iterdir() if path.is_dir())))
        self.folders = {self.old: scratch / "old", self.new: scratch / "new"}
        self.mixed = scratch / "mixed"
        for folder in (*self.folders.values(), self.mixed):
            folder.mkdir()
            shutil.copytree(FIXTURES / "shards", folder / "shards")

    def train(self, tree: Tree) -> None:
        """Make every run with one of the trees."""
        for line in RUNS.values():
            tree.muse(self.folders[tree], line)

    def checks(self) -> dict[str, Check]:
        """Every comparison by its name; each yields what differs."""
        shutil.copytree(self.folders[self.old] / "runs", self.mixed / "runs")
        checks: dict[str, Check] = {}
        for run in RUNS:
            checks[f"{run}: {STEPS} steps by both codes, losses to the bit"] = lambda run=run: self.trained(run)  # type: ignore[misc]
            checks[f"{run}: losses as recorded"] = lambda run=run: self.recorded_losses(run)  # type: ignore[misc]
        for name in ON_RUNS:
            checks[f"{name} of the old run, to the bit"] = lambda name=name: self.measured(name)  # type: ignore[misc]
        for name in SCORES:
            checks[f"{name} of the shipped tokenizer, as recorded"] = lambda name=name: self.recorded(name)  # type: ignore[misc]
        for run in RUNS:
            checks[f"{run}: resumed by the new code, losses to the bit"] = lambda run=run: self.resumed(run)  # type: ignore[misc]
        return checks

    def trained(self, run: str) -> Iterator[str]:
        """Compare what both codes logged."""
        yield from differing(losses(self.folders[self.old] / run), losses(self.folders[self.new] / run), exact=True)

    def recorded_losses(self, run: str) -> Iterator[str]:
        """Compare what the new code logged with what 0.1.0 logged when the fixtures were made."""
        yield from differing(losses(FIXTURES / run), losses(self.folders[self.new] / run), exact=is_recorded_machine())

    def resumed(self, run: str) -> Iterator[str]:
        """Go on from the middle of an old run with the new code, in a folder of its own."""
        folder = self.mixed / "resumed" / Path(run).name
        folder.mkdir(parents=True)
        for name in ("runs", "shards"):
            shutil.copytree(self.mixed / name, folder / name)
        back_to(MIDDLE, folder / run)
        self.new.muse(folder, f"train --resume {run}")
        yield from differing(losses(self.folders[self.old] / run), losses(folder / run), exact=True)

    def measured(self, name: str) -> Iterator[str]:
        """Measure the old run with both codes."""
        old = self.old.scores(self.folders[self.old], ON_RUNS[name])
        new = self.new.scores(self.mixed, ON_RUNS[name])
        yield from differing(old["metrics"], new["metrics"], exact=True)

    def recorded(self, name: str) -> Iterator[str]:
        """Measure the shipped tokenizer."""
        before = json.loads((FIXTURES / "scores" / f"{name}.json").read_text())
        now = self.new.scores(self.folders[self.new], SCORES[name])
        yield from differing(before["metrics"], now["metrics"], exact=is_recorded_machine())


def is_recorded_machine() -> bool:
    """Tell whether processor and torch are those of the record; threads are, in every run here."""
    recorded: dict[str, Any] = json.loads((FIXTURES / "machine.json").read_text())
    return recorded == machine()


def differing(old: Mapping[Any, Any], new: Mapping[Any, Any], *, exact: bool) -> Iterator[str]:
    """Name every number of the old document that the new one has otherwise, or not at all."""
    for key, value in old.items():
        other = new.get(key)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            yield from (f"{key}: {line}" for line in differing(value, other, exact=exact))
        elif value != other and (exact or not _close(value, other)):
            yield f"{key}: {value} then, {other} now"


def _close(old: object, new: object) -> bool:
    return isinstance(old, float) and isinstance(new, float) and abs(old - new) <= CLOSE * abs(old)


def _differences(check: Check) -> list[str]:
    try:
        return list(check())
    except FailedError as error:
        return [str(error)]


if __name__ == "__main__":
    sys.exit(main())
