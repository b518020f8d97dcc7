"""`checkpoints/best`: what decides, what is kept, and every way to name it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from muse_core.errors import MuseError
from muse_core.model.opening import locate
from muse_core.run_checkpoints import BEST, point, pointed_at
from muse_core.run_files import own_files
from muse_core.run_search import find, run_of
from muse_core.runs import RunFolder
from muse_core.stages.stage import STAGES
from muse_core.training.held_out import HeldOut, Score

PSNR = Score("psnr", higher=True)


def saved(run: RunFolder, held_out: HeldOut, scores: Mapping[int, float | None], keep: int = 1) -> list[str]:
    """Measure (where there is a score) and save at each step; returns the checkpoints that are kept then."""
    for step, score in scores.items():
        if score is not None:
            held_out.add(step, {held_out.decides.name: score})
        with run.checkpoint(step, keep=keep, best=held_out.best) as folder:
            (folder / "state.json").write_text("{}")
    return [path.name.removeprefix("step-000000") for path in run.checkpoints()]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.chdir(tmp_path)
    return RunFolder.create(Path("runs/x"), {}, {}, stage=2, size="tiny", steps=9)


def test_each_stage_names_the_score_that_decides() -> None:
    assert {number: (stage.decides.name, stage.decides.higher) for number, stage in STAGES.items()} == {
        1: ("topology", False),
        2: ("psnr", True),
        3: ("psnr", True),
    }


@pytest.mark.parametrize(("higher", "best"), [(True, 2), (False, 3)])
def test_the_score_decides_in_its_direction(run: RunFolder, higher: bool, best: int) -> None:
    held_out = HeldOut(Score("s", higher=higher))
    saved(run, held_out, {1: 5.0, 2: 7.0, 3: 4.0, 4: 6.0})
    assert (run.path / "checkpoints" / "best").read_text() == f"step-000000{best}\n"
    assert run.last_checkpoint() == run.path / "checkpoints" / "step-0000004"


def test_the_best_is_never_lost_and_keep_counts_the_others(run: RunFolder) -> None:
    assert saved(run, HeldOut(PSNR), {1: 1.0, 2: 9.0, 3: 2.0, 4: 3.0, 5: 4.0}, keep=2) == ["2", "4", "5"]
    assert saved(run, HeldOut(PSNR), {6: 10.0}, keep=1) == ["5", "6"]


def test_saving_again_without_measuring_changes_nothing(run: RunFolder) -> None:
    saved(run, HeldOut(PSNR), {1: 5.0, 2: None, 3: None})
    assert pointed_at(run.path, BEST) == run.path / "checkpoints" / "step-0000001"


@pytest.mark.parametrize("scores", [{1: None, 2: None}, {1: float("nan"), 2: float("inf")}])
def test_where_nothing_was_measured_there_is_none(run: RunFolder, scores: dict[int, float | None]) -> None:
    assert saved(run, HeldOut(PSNR), scores) == ["2"]
    assert not (run.path / "checkpoints" / "best").exists()
    with pytest.raises(MuseError, match="runs/x has no best checkpoint: nothing was measured") as caught:
        find("runs/x:best")
    assert "--val-data" in str(caught.value.hint)


def test_records_of_metrics_say_what_was_measured() -> None:
    records: list[dict[str, Any]] = [
        {"step": 1, "lr": 1.0},
        {"step": 2, "val/psnr": 20.0, "val/topology": None},
        {"step": 4, "val/psnr": 19},
    ]
    held_out = HeldOut.recorded(PSNR, records)
    assert held_out.best([1, 3, 4, 5]) == 3
    assert HeldOut.recorded(Score("topology", higher=False), records).best([3, 5]) is None


@pytest.mark.parametrize("name", ["{}:best", "{}/checkpoints/best", "{}/../x:best", "latest:best"])
@pytest.mark.parametrize("absolute", [False, True])
def test_it_has_its_name_wherever_a_checkpoint_is_named(
    run: RunFolder, tmp_path: Path, name: str, absolute: bool
) -> None:
    saved(run, HeldOut(PSNR), {1: 7.0, 2: 5.0})
    run.finish(2)
    where = name.format(tmp_path / run.path if absolute else run.path)
    assert find(where).samefile(run.path / "checkpoints" / "step-0000001")
    assert locate(where).samefile(find(where))
    assert locate(where.replace("best", "last")).samefile(run.path / "checkpoints" / "step-0000002")
    belongs = run_of(Path(where))
    assert name.startswith("latest") or (belongs is not None and belongs.path.samefile(run.path))


def test_a_folder_of_that_very_name_is_meant_by_it(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "a:best", {}, {}, stage=1)
    with run.checkpoint(1) as folder:
        (folder / "state.json").write_text("{}")
    assert find(run.path) == run.path / "checkpoints" / "step-0000001"


@pytest.mark.parametrize("content", ["../..", "step-0000009", "\0", ""])
def test_a_pointer_that_names_none_of_the_run_names_nothing(run: RunFolder, content: str) -> None:
    saved(run, HeldOut(PSNR), {1: 7.0})
    (run.path / "checkpoints" / "best").write_text(content)
    with pytest.raises(MuseError, match="has no best checkpoint"):
        find(f"{run.path}:best")


def test_it_is_written_whole_and_belongs_to_the_run(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(run, HeldOut(PSNR), {1: 7.0})
    assert "checkpoints/best" in (own_files(run.path) or [])
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        point(run.path, BEST, 5)
    assert pointed_at(run.path, BEST) == run.path / "checkpoints" / "step-0000001"


def test_killed_before_the_new_best_was_named_the_old_one_is_still_there(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others go only after `best` is decided: at no moment does it name what is gone."""
    held_out = HeldOut(PSNR)
    saved(run, held_out, {1: 7.0, 2: 5.0})

    def killed(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr("muse_core.run_checkpoints.point_to_best", killed)
    with pytest.raises(SystemExit):
        saved(run, held_out, {3: 9.0})
    assert pointed_at(run.path, BEST) == run.path / "checkpoints" / "step-0000001"
