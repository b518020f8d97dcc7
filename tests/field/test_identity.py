"""Kind F: whoever goes on goes on with the same data, weights and settings, wherever it is typed, or is refused."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from muse_core.data.source import open_source
from muse_core.errors import MuseError
from muse_core.evaluation.features import FeatureSet, ProbeData
from muse_core.evaluation.patches import store_patches
from muse_core.evaluation.reading import EvalData
from muse_core.model.load import load_tokenizer
from muse_core.progress import Silent
from muse_core.runs import RunFolder
from muse_core.training.start import resume
from tests.field.conftest import Case, Ended, Muse
from tests.field.inputs import coded, flat, mask_of, tar, turned
from tests.training.mini import StopAt, train_lean

LANES: dict[str, Any] = {"data.lanes": 1, "training.batch_size": 4, "training.steps": 2, "training.save_every": 1}


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


def overwrite(path: Path, content: bytes, *, keep_time: bool = True) -> None:
    """Replace a file by other bytes, with the time of change that it had."""
    state = path.stat()
    path.write_bytes(content)
    if keep_time:
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


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
    assert "not bit for bit: 1 files without a checksum: 000000.tar" in continues(going_on(run))


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
    identity["computed"]["torch"] = "1.0"
    (here / "r" / "identity.json").write_text(json.dumps(identity))
    settings = run.settings()
    settings["optim"]["clip"] = 2.0
    run.write_settings(settings, {})
    sentence = continues(going_on(run))
    assert "exactly" not in sentence
    assert "torch 1.0 before" in sentence
    assert "other settings: optim.clip" in sentence


# Latents.


@pytest.fixture
def two_sets(case: Case, muse: Muse) -> Path:
    """Shards `a` of the first version of some images and `b` of the second, of the same names and sizes."""
    here = case("f2-changed-pictures")
    for name, folder in (("first", "a"), ("second", "b")):
        for file in sorted((here / name).iterdir())[12:]:
            file.unlink()
        assert muse("shard", name, "--out", folder, "--per-shard", "4").code == 0
    return here


def infer(muse: Muse, *arguments: str) -> Ended:
    return muse("infer", *arguments, "--size-px", "32", "--devices", "cpu", "--json")


def half_done(muse: Muse, *arguments: str) -> dict[str, bytes]:
    """Write latents to `l`, and take the last shard away again; return what was there."""
    ended = infer(muse, *arguments, "--latents", "l")
    assert ended.code == 0, ended.err
    whole = {file.name: file.read_bytes() for file in Path("l").glob("*") if file.is_file()}
    for name in ("000002.tar", "index.json", "latents_stats.json", "parts/000002.json"):
        (Path("l") / name).unlink()
    return whole


def test_latents_go_on_to_the_same_bytes_from_another_folder_and_with_data_that_moved(
    two_sets: Path, muse: Muse, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = half_done(muse, "a", "--checkpoint", "tiny")
    shutil.move("a", "disk2")
    (two_sets / "else").mkdir()
    monkeypatch.chdir(two_sets / "else")
    ended = infer(muse, "../disk2", "--checkpoint", "tiny", "--latents", "../l", "--resume")
    assert ended.code == 0, ended.err
    again = {file.name: file.read_bytes() for file in (two_sets / "l").glob("*") if file.is_file()}
    job = json.loads(again.pop("job.json"))
    assert again == {name: content for name, content in whole.items() if name != "job.json"}
    assert (job["data"], job["typed"]["data"]) == (f"{two_sets}/else/../disk2", "a")


def test_latents_of_data_that_changed_are_refused_by_name(two_sets: Path, muse: Muse) -> None:
    half_done(muse, "a", "--checkpoint", "tiny")
    for file in Path("b").iterdir():
        shutil.copy2(file, "a")
    ended = infer(muse, "a", "--checkpoint", "tiny", "--latents", "l", "--resume")
    assert ended.code == 4
    assert "another data than there is now" in ended.err
    assert "000000.tar holds other bytes of the same size" in ended.err
    assert not Path("l/000002.tar").exists()


def test_latents_of_weights_that_were_replaced_under_their_path_are_refused(two_sets: Path, muse: Muse) -> None:
    first, second = (train_lean(1, two_sets / n, {**LANES, "run.seed": s}).folder for s, n in enumerate("xy"))
    half_done(muse, "a", "--checkpoint", str(first))
    shutil.rmtree(first)
    shutil.copytree(second, first)
    ended = infer(muse, "a", "--checkpoint", str(first), "--latents", "l", "--resume")
    assert ended.code == 4
    assert "model.safetensors holds other bytes of the same size" in ended.err


def test_what_latest_meant_is_recorded_and_a_newer_run_is_refused(
    two_sets: Path, muse: Muse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSE_RUNS", str(two_sets / "runs"))
    first = train_lean(1, two_sets / "runs" / "a", {**LANES, "training.steps": 1}).folder
    half_done(muse, "a", "--checkpoint", "latest")
    job = json.loads(Path("l/job.json").read_text())
    assert (job["tokenizer"], job["typed"]["tokenizer"]) == (f"{first}/checkpoints/step-0000001", "latest")
    second = train_lean(1, two_sets / "runs" / "b", {**LANES, "training.steps": 2}).folder
    status = json.loads((second / "status.json").read_text())
    (second / "status.json").write_text(json.dumps({**status, "updated": "2999-01-01T00:00:00+00:00"}))
    ended = infer(muse, "a", "--checkpoint", "latest", "--latents", "l", "--resume")
    assert ended.code == 4
    assert f"{first}/checkpoints/step-0000001 there, {second}/checkpoints/step-0000002 now" in ended.err
    assert "step 1 there, 2 now" in ended.err
    named = infer(muse, "a", "--checkpoint", str(first), "--latents", "l", "--resume")
    assert named.code == 0, named.err


def test_latents_of_0_1_0_go_on_with_one_warning_and_are_compared_from_then_on(two_sets: Path, muse: Muse) -> None:
    whole = half_done(muse, "a", "--checkpoint", "tiny")
    job = json.loads(whole["job.json"])
    old = {key: value for key, value in job.items() if key not in ("typed", "reader", "inputs")}
    Path("l/job.json").write_text(json.dumps({**old, "data": "a"}))
    ended = infer(muse, "a", "--checkpoint", "tiny", "--latents", "l", "--resume")
    assert ended.code == 0
    assert ended.err.count("does not say which data") == 1
    assert json.loads(Path("l/job.json").read_text())["inputs"] == job["inputs"]
    assert "000000.tar holds other bytes" in infer(muse, "b", "--checkpoint", "tiny", "--latents", "l", "--resume").err


def test_latents_of_the_first_reader_are_made_anew_where_an_affected_file_is_among_them(case: Case, muse: Muse) -> None:
    case("a1-upright")
    for name, files in (("s", ["lying/p.png"]), ("t", ["upright/p.png"])):
        for file in files:
            (Path(name) / "x").mkdir(parents=True)
            shutil.copy(file, Path(name) / "x")
        assert muse("shard", name, "--out", f"{name}-out").code == 0
    for name, remade in (("s", True), ("t", False)):
        folder = Path(f"{name}-latents")
        assert infer(muse, f"{name}-out", "--checkpoint", "tiny", "--latents", str(folder)).code == 0
        job = json.loads((folder / "job.json").read_text())
        (folder / "job.json").write_text(json.dumps({**job, "reader": 1}))
        before = (folder / "000000.tar").stat().st_ino
        assert infer(muse, f"{name}-out", "--checkpoint", "tiny", "--latents", str(folder), "--resume").code == 0
        assert ((folder / "000000.tar").stat().st_ino != before) == remade
        assert json.loads((folder / "job.json").read_text())["reader"] == 2


# Features that are kept.


def labelled(folder: Path, numbers: range) -> Path:
    """Shards of images in two classes."""
    members = [(f"{n}.jpg", coded(flat((n * 9 % 250, 90, 30), 64, 64))) for n in numbers]
    tar(folder / "0.tar", [one for name, image in members for one in ((name, image), (f"{name[:-4]}.cls", b"0"))])
    return folder


def features_of(shards: Path, tokenizer: str = "tiny") -> tuple[FeatureSet, int]:
    """Return features through a cache in `c`, and how many files it has then."""
    loaded = load_tokenizer(tokenizer)
    source = EvalData(open_source(str(shards), split="val"), size=32)
    found = ProbeData(loaded, source, cache=Path("c")).features()
    return found, len(list(Path("c").iterdir()))


def test_features_of_data_that_moved_are_used_and_of_changed_data_are_not(tmp_path: Path) -> None:
    first, count = features_of(labelled(Path("a"), range(6)))
    assert count == 1
    shutil.move("a", "disk2")
    moved, count = features_of(Path("disk2"))
    assert count == 1
    assert torch.equal(first.features, moved.features)
    labelled(Path("b"), range(3, 9))
    overwrite(Path("disk2/0.tar"), Path("b/0.tar").read_bytes())
    changed, count = features_of(Path("disk2"))
    assert count == 2
    assert not torch.equal(first.features, changed.features)


def test_a_later_sample_that_changed_makes_features_anew_also_where_time_and_first_sample_stay(tmp_path: Path) -> None:
    first, _ = features_of(labelled(Path("a"), range(6)))
    labelled(Path("b"), range(6))
    images = [*range(5), 20]
    members = [(f"{n}.jpg", coded(flat((i * 9 % 250, 90, 30), 64, 64))) for n, i in enumerate(images)]
    tar(Path("b/0.tar"), [one for name, image in members for one in ((name, image), (f"{name[:-4]}.cls", b"0"))])
    overwrite(Path("a/0.tar"), Path("b/0.tar").read_bytes())
    changed, count = features_of(Path("a"))
    assert count == 2
    assert torch.equal(first.features[:5], changed.features[:5])
    assert not torch.equal(first.features[5], changed.features[5])


def test_features_of_weights_that_were_replaced_under_their_path_are_made_anew(tmp_path: Path) -> None:
    shards = labelled(Path("a"), range(6))
    first, second = (train_lean(1, tmp_path / n, {**LANES, "run.seed": s}).folder for s, n in enumerate("xy"))
    assert features_of(shards, str(first))[1] == 1
    shutil.rmtree(first)
    shutil.copytree(second, first)
    assert features_of(shards, str(first))[1] == 2
    shutil.copytree(first, tmp_path / "copy")
    assert features_of(shards, str(tmp_path / "copy"))[1] == 2


@pytest.mark.parametrize("affected", [True, False])
def test_features_of_the_first_reader_are_made_anew_where_an_affected_file_is_among_them(affected: bool) -> None:
    image = coded(flat((200, 90, 30), 64, 64), exif=turned(6 if affected else 1))
    tar(Path("a/0.tar"), [("0.jpg", image), ("0.cls", b"0")])
    found, _ = features_of(Path("a"))
    (file,) = Path("c").iterdir()
    wrong = {"features": found.features + 1, "labels": found.labels}
    file.write_bytes(save(wrong, metadata={"counts": json.dumps(found.counts), "reader": "1"}))
    again, count = features_of(Path("a"))
    assert count == 1
    assert torch.equal(again.features, found.features if affected else found.features + 1)


def test_patches_are_known_by_what_they_are_made_of(tmp_path: Path) -> None:
    members = [("0.png", coded(flat((200, 90, 30), 64, 64), "PNG")), ("0.seg.png", coded(mask_of(64, 64), "PNG"))]
    tar(Path("a/0.tar"), members)
    tokenizer = load_tokenizer("tiny")

    def stored(shards: str) -> Path:
        return store_patches(tokenizer, EvalData(open_source(shards), size=32), None, Path("c"), Silent()).folder

    first = stored("a")
    shutil.move("a", "disk2")
    assert stored("disk2") == first
    tar(Path("b/0.tar"), [("0.png", coded(flat((20, 90, 30), 64, 64), "PNG")), members[1]])
    overwrite(Path("disk2/0.tar"), Path("b/0.tar").read_bytes())
    assert stored("disk2") != first
