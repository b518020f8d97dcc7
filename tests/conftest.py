"""What tests of several folders share: one run through all three stages, made once."""

import multiprocessing
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from muse_core.stages.start import RunSummary
from tests.training.mini import train_lean


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Side by side, begin with the files that hold the most slow tests, then with those that hold the most tests.

    A process that takes up a file of minutes last leaves the others idle; short files fill what is left.
    """
    if hasattr(config, "workerinput"):
        every, slow = Counter(item.path for item in items), Counter(item.path for item in items if is_slow(item))
        items.sort(key=lambda item: (-slow[item.path], -every[item.path], item.path))


def is_slow(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None


@pytest.fixture(scope="module", autouse=True)
def nobody_is_left_behind() -> Iterator[None]:
    """No process that a module's tests started outlives them: Python waits for it when everything is over."""
    before = set(multiprocessing.active_children())
    yield
    left = set(multiprocessing.active_children()) - before
    for process in left:
        process.kill()
    assert not left


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test writes into the cache of whoever runs it; features that are kept serve a whole session."""
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setenv("MUSE_CACHE", str(cache))
        yield cache


@pytest.fixture(autouse=True)
def no_runs_are_remembered(cache_of_the_tests: Path) -> None:
    """What one test trained is not the newest run of the next one."""
    shutil.rmtree(cache_of_the_tests / "runs", ignore_errors=True)


@pytest.fixture(scope="session")
def three_stages(tmp_path_factory: pytest.TempPathFactory) -> dict[int, RunSummary]:
    """Stages 1 to 3 of a narrow network, a few steps each, every stage from the one before; do not write into them."""
    folder: Path = tmp_path_factory.mktemp("three-stages")
    runs: dict[int, RunSummary] = {}
    for stage in (1, 2, 3):
        before = str(runs[stage - 1].folder) if stage > 1 else "none"
        changes = {"run.init": before, "data.val": "demo:val", "training.eval_every": 2, "training.save_every": 2}
        runs[stage] = train_lean(stage, folder / f"stage{stage}", changes)
    return runs
