"""Kind F, of what is kept between commands: latents and features of the same data, weights and reader alone."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from muse_core.data.source import open_source
from muse_core.evaluation.features import FeatureSet, ProbeData
from muse_core.evaluation.patches import store_patches
from muse_core.evaluation.reading import EvalData
from muse_core.model.load import load_tokenizer
from muse_core.progress import Silent
from tests.field.conftest import Case, Ended, Muse
from tests.field.going_on import LANES, overwrite
from tests.field.inputs import coded, flat, mask_of, tar, turned
from tests.old.archive import FIXTURES
from tests.training.mini import train_lean

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


def test_latents_that_0_1_0_wrote_go_on(muse: Muse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("shards", "latents"):
        shutil.copytree(FIXTURES / name, tmp_path / name)
    before = (tmp_path / "latents" / "000000.tar").read_bytes()
    ended = muse("infer", "shards", "--checkpoint", "tiny", "--latents", "latents", "--dtype", "float16", "--resume")
    assert ended.code == 0, ended.err
    assert ended.err.count("does not say which data") == 1
    assert (tmp_path / "latents" / "000000.tar").read_bytes() == before
    job = json.loads((tmp_path / "latents" / "job.json").read_text())
    assert (job["data"], job["typed"]["data"]) == (f"{tmp_path}/shards", "shards")


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
