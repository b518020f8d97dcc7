"""Kind F: whoever goes on goes on with the same data, weights and settings, wherever it is typed, or is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from muse_core.errors import MuseError
from muse_core.runs import RunFolder
from muse_core.stages.start import resume
from tests.field.conftest import Case, Muse
from tests.field.going_on import LANES, overwrite
from tests.training.mini import StopAt, train_lean


def stop_after_one(folder: Path, data: str, **more: Any) -> RunFolder:
    """Begin a run on some data, and be stopped after its first step."""
    with pytest.raises(KeyboardInterrupt):
        train_lean(1, folder, {**LANES, "data.train": data, **more}, StopAt(1))
    return RunFolder(folder)


def going_on(run: RunFolder) -> list[str]:
    """Go on with a run until the end; return what was said."""
    progress = StopAt(0)
    resume(run, progress)
    return progress.said


def continues(said: list[str]) -> str:
    (sentence,) = [text for text in said if text.startswith("continues")]
    return sentence


def refused(run: RunFolder) -> MuseError:
    with pytest.raises(MuseError) as caught:
        resume(run)
    return caught.value


# Training: f1 in both its variants, and its neighbours.


@pytest.mark.parametrize("elsewhere", ["third", "other"])
def test_f1_a_run_goes_on_with_the_data_it_was_begun_with_wherever_it_is_resumed(
    case: Case, muse: Muse, monkeypatch: pytest.MonkeyPatch, elsewhere: str
) -> None:
    here = case("f1-moved-resume")
    monkeypatch.chdir(here / "proj")
    stop_after_one(Path("../r"), "d")
    monkeypatch.chdir(here / elsewhere)
    ended = muse("train", "--resume", "../r")
    assert ended.code == 0, ended.err
    assert "continues ../r exactly, from step-0000001" in ended.err
    run = RunFolder(here / "r")
    assert run.settings()["data"]["train"] == str(here / "proj" / "d")
    assert run.status.state == "finished"


def test_demo_addresses_and_mixes_are_kept_as_they_were_meant(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    here = case("f1-moved-resume")
    monkeypatch.chdir(here)
    run = stop_after_one(here / "r", "0.7 proj/d + 0.3 demo")
    assert run.settings()["data"]["train"] == f"0.7 {here}/proj/d + 0.3 demo"
    monkeypatch.chdir(here / "other")
    assert "exactly" in continues(going_on(run))


def test_data_that_moved_go_on_exactly_where_they_lie_now(case: Case, muse: Muse) -> None:
    here = case("f1-moved-resume")
    stop_after_one(here / "r", "proj/d")
    shutil.move("proj/d", "disk2")
    gone = muse("train", "--resume", "r")
    assert gone.code == 4
    assert f"{here}/proj/d" in gone.err
    assert "--data PLACE" in gone.err
    wrong = muse("train", "--resume", "r", "--data", "other/d")
    assert wrong.code == 4
    assert "0.tar holds other bytes of the same size" in wrong.err
    assert "proj/d" in (here / "r" / "config.yaml").read_text()
    moved = muse("train", "--resume", "r", "--data", "disk2")
    assert moved.code == 0, moved.err
    assert "continues r exactly" in moved.err
    assert RunFolder(here / "r").settings()["data"]["train"] == f"{here}/disk2"


@pytest.mark.parametrize("keep_time", [True, False])
def test_a_shard_of_the_same_size_with_other_bytes_is_refused_by_name(case: Case, keep_time: bool) -> None:
    here = case("f1-moved-resume")
    run = stop_after_one(here / "r", "proj/d")
    overwrite(here / "proj/d/0.tar", (here / "other/d/0.tar").read_bytes(), keep_time=keep_time)
    error = refused(run)
    assert "its train data changed since it was begun" in error.what
    assert "0.tar holds other bytes of the same size" in error.what
    assert f"--init {here}/r" in str(error.hint)
    assert "put them back" in str(error.hint)
    assert run.status.state == "interrupted"  # what was refused has not failed: put back, they go on


def test_what_was_only_touched_goes_on_exactly(case: Case) -> None:
    here = case("f1-moved-resume")
    run = stop_after_one(here / "r", "proj/d")
    (here / "proj/d/0.tar").touch()
    assert continues(going_on(run)) == f"continues {here}/r exactly, from step-0000001"


@pytest.mark.parametrize("change", ["added", "removed", "renamed"])
def test_shards_that_came_or_went_are_named(case: Case, change: str) -> None:
    here = case("f1-moved-resume")
    shutil.copy("other/d/0.tar", "proj/d/1.tar")
    run = stop_after_one(here / "r", "proj/d")
    if change == "added":
        shutil.copy("other/d/0.tar", "proj/d/2.tar")
    else:
        shutil.move("proj/d/1.tar", "proj/d/3.tar" if change == "renamed" else "kept.tar")
    expected = {"added": "2.tar is new", "removed": "1.tar is gone", "renamed": "1.tar is gone; 3.tar is new"}
    assert expected[change] in refused(run).what


def test_shards_that_were_written_anew_with_their_index_are_refused(case: Case, muse: Muse) -> None:
    here = case("f2-changed-pictures")
    assert muse("shard", "first", "--out", "s", "--per-shard", "100").code == 0
    run = stop_after_one(here / "r", "s")
    assert muse("shard", "second", "--out", "s", "--per-shard", "100", "--overwrite").code == 0
    assert "000000.tar holds other bytes of the same size; 000001.tar holds" in refused(run).what


def test_checksums_of_an_index_are_not_computed_again(case: Case, muse: Muse, monkeypatch: pytest.MonkeyPatch) -> None:
    here = case("f2-changed-pictures")
    assert muse("shard", "first", "--out", "s").code == 0
    monkeypatch.setattr("muse_core.identity._digest", lambda *_: pytest.fail("a shard was read"))
    assert "exactly" in continues(going_on(stop_after_one(here / "r", "s")))


def test_without_the_index_that_had_the_checksums_exactly_is_not_said(case: Case, muse: Muse) -> None:
    here = case("f2-changed-pictures")
    assert muse("shard", "first", "--out", "s").code == 0
    run = stop_after_one(here / "r", "s")
    (here / "s" / "index.json").unlink()
    assert "not bit for bit: 16 files without a checksum: 000000.tar, 000001.tar" in continues(going_on(run))


def test_held_out_data_and_ratios_count_too(case: Case) -> None:
    here = case("f1-moved-resume")
    run = stop_after_one(here / "a", "proj/d", **{"data.val": "other/d", "data.val_images": 2})
    overwrite(here / "other/d/0.tar", (here / "proj/d/0.tar").read_bytes())
    assert "its val data changed" in refused(run).what
    run = stop_after_one(here / "b", "0.5 proj/d + 0.5 demo")
    settings = run.settings()
    settings["data"]["train"] = f"0.25 {here}/proj/d + 0.75 demo"
    run.write_settings(settings, {})
    assert "ratio 0.5 there, 0.25 now" in refused(run).what


def test_a_run_of_0_1_0_goes_on_with_one_warning_and_is_compared_from_then_on(case: Case) -> None:
    here = case("f1-moved-resume")
    run = stop_after_one(here / "r", "proj/d", **{"training.steps": 3})
    (here / "r" / "identity.json").unlink()
    progress = StopAt(1)
    with pytest.raises(KeyboardInterrupt):
        resume(run, progress)
    assert sum("does not say which data" in text for text in progress.said) == 1
    assert "exactly" not in continues(progress.said)
    overwrite(here / "proj/d/0.tar", (here / "other/d/0.tar").read_bytes())
    assert "other bytes" in refused(run).what


def test_a_run_of_0_1_0_is_not_moved_to_data_that_nobody_can_compare(case: Case, muse: Muse) -> None:
    here = case("f1-moved-resume")
    stop_after_one(here / "r", "proj/d")
    (here / "r" / "identity.json").unlink()
    ended = muse("train", "--resume", "r", "--data", "other/d")
    assert ended.code == 3
    assert "does not say which data" in ended.err


@pytest.mark.parametrize(
    "content", ["{}", "[]", "no JSON", '{"inputs": 3, "settings": {}, "computed": {}, "reader": 2}']
)
def test_a_damaged_identity_is_refused_by_name(case: Case, content: str) -> None:
    here = case("f1-moved-resume")
    run = stop_after_one(here / "r", "proj/d")
    (here / "r" / "identity.json").write_text(content)
    assert "identity.json" in refused(run).what


def test_the_weights_that_a_run_starts_from_are_compared_until_it_has_its_own(case: Case) -> None:
    here = case("f1-moved-resume")
    first = train_lean(1, here / "one", {**LANES, "training.steps": 1}).folder
    run = stop_after_one(here / "two", "proj/d", **{"run.init": str(first)})
    shutil.rmtree(here / "two" / "checkpoints")
    state = next(first.glob("checkpoints/step-*/state.json"))
    document = json.loads(state.read_text())
    state.write_text(json.dumps({**document, "step": 7}))
    assert "the weights it starts from changed" in refused(run).what
    state.write_text(json.dumps(document))
    assert "exactly, from the first step" in continues(going_on(run))


def test_another_torch_and_other_settings_are_named_instead_of_bit_for_bit(case: Case) -> None:
    here = case("f1-moved-resume")
    run = stop_after_one(here / "r", "proj/d", **{"training.steps": 3})
    identity = json.loads((here / "r" / "identity.json").read_text())
    identity["computed"] |= {"torch": "1.0", "processes": 2}
    (here / "r" / "identity.json").write_text(json.dumps(identity))
    settings = run.settings()
    settings["optim"]["clip"] = 2.0
    run.write_settings(settings, {})
    sentence = continues(going_on(run))
    assert "exactly" not in sentence
    assert "torch 1.0 before" in sentence
    assert "processes 2 before, 1 now" in sentence
    assert "other settings: optim.clip" in sentence
