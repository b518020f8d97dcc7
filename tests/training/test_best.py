"""Which checkpoint of a run is the best one, while it trains and after it was stopped."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from muse_core.run_checkpoints import BEST, pointed_at, step_of
from muse_core.runs import RunFolder, Terminated
from muse_core.stages.start import resume
from muse_core.stages.validation import Validation
from tests.training.mini import StopAt, train_lean

OFTEN = {
    "data.val": "demo:val",
    "training.steps": 6,
    "training.save_every": 1,
    "training.eval_every": 2,
    "training.keep": 1,
}
KL = {2: 0.3, 4: 0.1, 6: 0.2}


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let held-out scores be known ones; PSNR says the opposite of topology."""
    values = iter([*KL.values()] * 2)
    monkeypatch.setattr(Validation, "measure", lambda *_: {"psnr": 20 + 10 * (kl := next(values)), "topology": kl})
    return iter(())


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "best"), [(1, 4), (2, 2)])
def test_each_stage_decides_by_its_own_score(tmp_path: Path, scripted: None, stage: int, best: int) -> None:
    run = RunFolder(train_lean(stage, tmp_path / "run", OFTEN).folder)
    assert pointed_at(run.path, BEST) == run.path / "checkpoints" / f"step-000000{best}"
    assert [step_of(path) for path in run.checkpoints()] == [best, 6]
    assert run.last_checkpoint() == run.path / "checkpoints" / "step-0000006"


@pytest.mark.slow
def test_a_run_that_was_stopped_keeps_its_best_and_finds_a_better_one(tmp_path: Path, scripted: None) -> None:
    with pytest.raises(Terminated):
        train_lean(1, tmp_path / "run", OFTEN, StopAt(3))
    run = RunFolder(tmp_path / "run")
    assert pointed_at(run.path, BEST) == run.path / "checkpoints" / "step-0000002"
    (run.path / "checkpoints" / "best").unlink()  # as if it had been killed before it was written
    resume(run)
    assert pointed_at(run.path, BEST) == run.path / "checkpoints" / "step-0000004"
    assert [step_of(path) for path in run.checkpoints()] == [4, 6]
