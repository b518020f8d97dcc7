"""Folders of muse with a file of the user in them are neither replaced nor emptied; those of 0.1.0 are known."""

import json
from pathlib import Path

import numpy as np
import pytest

from muse_core.data.owned import SHARDS
from muse_core.data.sample import Sample
from muse_core.data.writer import write_shards
from muse_core.errors import MuseError
from muse_core.files import HOLD, held
from muse_core.latents.owned import LATENTS
from muse_core.latents.write import LatentJob, prepare
from muse_core.marks import Mark, mark_of
from muse_core.model.exporting import EXPORTS
from muse_core.ownership import FolderKind, write_file
from muse_core.run_files import RUNS
from muse_core.runs import RunFolder
from tests.field.conftest import Muse
from tests.field.inputs import RED, coded, flat, put, tar
from tests.field.owned import MINE, PAGE, PNG, files, scores
from tests.old.archive import FIXTURES
from tests.old.filling import lay_out

# ---------------------------------------------------------------- folders


def a_run(folder: Path) -> RunFolder:
    run = RunFolder.create(folder, {"run": {}}, {}, stage=1, size="tiny", steps=4)
    for step in (2, 4):
        with run.checkpoint(step) as inside:
            put(inside / "state.json", "{}")
            put(inside / "model.safetensors", "x")
    run.append_metrics({"step": 2})
    run.log("hello")
    put(folder / "samples/step-0000002.png", PNG)
    put(folder / "tensorboard/events.out.tfevents.1.host.2.0", b"x")
    put(folder / "trackers.json", "{}")
    scores().save(run.result_path("segment"))
    write_file(folder / "report.html", PAGE, Mark("report"))
    put(
        folder / "results/zeroshot.json",
        json.dumps({"command": "zeroshot", "muse": "0.1.0", "protocol": {}, "metrics": {}}),
    )
    return run


def test_a_run_is_emptied_and_nothing_else(tmp_path: Path) -> None:
    run = a_run(tmp_path / "r")
    RunFolder.create(run.path, {}, {}, overwrite=True)
    assert sorted(files(run.path)) == ["config.yaml", "environment.json", "origins.json", "status.json"]


@pytest.mark.parametrize(
    "name",
    [
        "thesis.tex",
        "results/notes.md",
        "results/mine.json",
        "results/segment-mine.png",
        "samples/mine.png",
        "checkpoints/step-0000002/notes.txt",
        "checkpoints/mine/model.safetensors",
        "tensorboard/mine.txt",
        "report-mine.html",
    ],
)
def test_a_run_with_a_file_of_the_user_is_left_alone(tmp_path: Path, name: str) -> None:
    run = a_run(tmp_path / "r")
    put(run.path / name, MINE)
    before = files(run.path)
    with pytest.raises(MuseError, match=f"holds more than a run, so it is not replaced: {name}"):
        RunFolder.create(run.path, {}, {}, overwrite=True)
    assert files(run.path) == before


def test_an_edited_report_or_score_keeps_a_run_from_being_emptied(tmp_path: Path) -> None:
    for name in ("report.html", "results/segment.json", "results/segment.png"):
        run = a_run(tmp_path / name.replace("/", "-"))
        with (run.path / name).open("ab") as file:
            file.write(b" ")
        if name.endswith(".json"):  # a blank changes no value
            RunFolder.create(run.path, {}, {}, overwrite=True)
            continue
        with pytest.raises(MuseError, match=f"not replaced: {name}"):
            RunFolder.create(run.path, {}, {}, overwrite=True)


@pytest.mark.parametrize("status", ['{"state": "ok"}', '{"state": "running", "pid": 3}', "[]", "not json"])
def test_a_strangers_status_makes_no_run(tmp_path: Path, muse: Muse, status: str) -> None:
    put(tmp_path / "mine/status.json", status)
    put(tmp_path / "mine/thesis.tex", MINE)
    for more in ([], ["--overwrite"]):
        told = ("--stage", "1", "--size", "tiny", "--data", "demo", "--init", "none", "--steps", "1", "--out", "mine")
        ended = muse("train", *told, *more)
        assert ended.code == 4
        assert "holds no run" in ended.err
        assert sorted(path.name for path in Path("mine").iterdir()) == ["status.json", "thesis.tex"]  # no .held either


def test_links_in_a_run_are_not_followed(tmp_path: Path) -> None:
    run = a_run(tmp_path / "r")
    put(tmp_path / "elsewhere/step-0000009/model.safetensors", MINE)
    (run.path / "more").symlink_to(tmp_path / "elsewhere")
    (run.path / "samples/step-0000007.png").symlink_to(tmp_path / "elsewhere/step-0000009/model.safetensors")
    with pytest.raises(MuseError, match="not replaced: more"):
        RunFolder.create(run.path, {}, {}, overwrite=True)
    assert (tmp_path / "elsewhere/step-0000009/model.safetensors").read_text() == MINE
    (run.path / "more").unlink()
    (run.path / "samples/step-0000007.png").unlink()
    (tmp_path / "link").symlink_to(run.path)  # the folder that was named may be a link
    RunFolder.create(tmp_path / "link", {}, {}, overwrite=True)
    assert (tmp_path / "link").is_symlink()


def test_a_note_beside_an_old_checkpoint_outlives_it(tmp_path: Path) -> None:
    run = a_run(tmp_path / "r")
    put(run.path / "checkpoints/step-0000002/notes.txt", MINE)
    with run.checkpoint(6, keep=1) as inside:
        put(inside / "state.json", "{}")
    assert [path.name for path in run.checkpoints()] == ["step-0000006"]
    assert (run.path / "checkpoints/step-0000002/notes.txt").read_text() == MINE
    assert not (run.path / "checkpoints/step-0000004").exists()


def test_a_file_with_the_name_of_the_lock_is_not_emptied(tmp_path: Path) -> None:
    put(tmp_path / HOLD, "what I held dear")
    with pytest.raises(MuseError, match="was not written by muse"), held(tmp_path):
        pass
    assert (tmp_path / HOLD).read_text() == "what I held dear"


def sharded(folder: Path, count: int = 2) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    write_shards([Sample(str(n), image) for n in range(count)], folder, per_shard=1)


@pytest.mark.parametrize("name", ["thesis.tex", "mine.tar", "train/thesis.tex", "skipped.csv", "000000.tar"])
def test_shards_with_a_file_of_the_user_are_left_alone(tmp_path: Path, muse: Muse, name: str) -> None:
    for number in range(3):
        put(tmp_path / f"d/{number}.jpg", coded(flat(RED)))
    split = ["--split", "train=0.5,val=0.5"] if "/" in name else []
    assert muse("shard", "d", "--out", "o", *split).code == 0
    put(tmp_path / "o" / name, MINE)
    before = files(tmp_path / "o")
    ended = muse("shard", "d", "--out", "o", "--overwrite")
    assert (ended.code, files(tmp_path / "o")) == (4, before)
    assert f"more than shards, so it is not replaced: {name}" in ended.err
    with pytest.raises(MuseError, match="not replaced"):
        write_shards([{"txt": "x"}], tmp_path / "o", overwrite=True)
    assert files(tmp_path / "o") == before


def test_a_strangers_index_makes_no_shards_and_a_link_is_not_replaced(tmp_path: Path) -> None:
    put(tmp_path / "mine/index.json", '{"shards": []}')
    with pytest.raises(MuseError, match="holds no shards"):
        write_shards([{"txt": "x"}], tmp_path / "mine", overwrite=True)
    sharded(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(MuseError, match="is a link") as refused:
        write_shards([{"txt": "x"}], tmp_path / "link", overwrite=True)
    assert str(tmp_path / "real") in str(refused.value.hint)
    sharded(tmp_path / "real2")
    write_shards([{"txt": "x"}], tmp_path / "real2", overwrite=True)
    assert sorted(files(tmp_path / "real2")) == ["000000.tar", "index.json"]


def test_a_hidden_folder_of_the_user_is_no_interrupted_attempt(tmp_path: Path, muse: Muse) -> None:
    put(tmp_path / "d/0.jpg", coded(flat(RED)))
    put(tmp_path / ".o.partial/thesis.tex", MINE)
    for more in ([], ["--overwrite"]):
        assert muse("shard", "d", "--out", "o", *more).code == 4
        assert files(tmp_path / ".o.partial") == {"thesis.tex": MINE.encode()}


def latents(folder: Path) -> LatentJob:
    tar(folder / "s/0.tar", [("0.jpg", coded(flat(RED, 64, 64))), ("1.jpg", coded(flat(RED, 64, 64)))])
    return LatentJob(str(folder / "s"), "tiny", 64, batch_size=2)


def test_latents_with_a_file_of_the_user_are_left_alone(tmp_path: Path, muse: Muse) -> None:
    job = latents(tmp_path)
    told = ("infer", job.data, "--checkpoint", "tiny", "--latents", "l")
    assert muse(*told).code == 0
    assert muse(*told).code == 4
    whole = files(tmp_path / "l")
    for name in ("thesis.tex", "parts/mine.json", "parts/deep/mine.txt"):
        put(tmp_path / "l" / name, MINE)
        before = files(tmp_path / "l")
        ended = muse(*told, "--overwrite")
        assert (ended.code, files(tmp_path / "l")) == (4, before)
        assert name in ended.err
        assert muse(*told, "--resume").code == 0  # which removes nothing
        assert files(tmp_path / "l") == before
        (tmp_path / "l" / name).unlink()
    (tmp_path / "l/parts/deep").rmdir()
    assert muse(*told, "--overwrite").code == 0
    assert files(tmp_path / "l") == whole


def test_latents_go_on_around_no_file_of_the_user(tmp_path: Path) -> None:
    job = latents(tmp_path)
    _, [unit] = prepare(job, tmp_path / "l", resume=False, overwrite=False)
    put(tmp_path / f"l/{unit.name}.tar", MINE)
    with pytest.raises(MuseError, match="in the way, and muse did not write it"):
        prepare(job, tmp_path / "l", resume=True, overwrite=False)
    assert (tmp_path / f"l/{unit.name}.tar").read_text() == MINE


def test_an_edited_card_keeps_an_export_from_being_replaced(tmp_path: Path, muse: Muse) -> None:
    assert muse("export", "tiny", "--out", "e").code == 0
    assert muse("export", "tiny", "--out", "e").code == 4
    assert muse("export", "tiny", "--out", "e", "--overwrite").code == 0
    with (tmp_path / "e/README.md").open("a") as card:
        card.write("My words.")
    ended = muse("export", "tiny", "--out", "e", "--overwrite")
    assert ended.code == 4
    assert "more than an exported tokenizer, so it is not replaced: README.md" in ended.err
    assert (tmp_path / "e/README.md").read_text().endswith("My words.")


def test_saved_pictures_with_a_file_of_the_user_are_left_alone(tmp_path: Path, muse: Muse) -> None:
    told = ("eval", "tiny", "--metric", "psnr", "--save-images", "p", "--data")
    assert muse(*told, "demo:val:2").code == 0
    name = next(iter(files(tmp_path / "p/original")))
    put(tmp_path / "p/original" / name, PNG)  # the user's own, under a name of muse's
    before = files(tmp_path / "p")
    for data in ("demo:val:3", "demo:val:2"):
        ended = muse(*told, data, "--overwrite")
        assert (ended.code, files(tmp_path / "p")) == (4, before)
        assert name in ended.err
    (tmp_path / "p/original" / name).unlink()
    assert muse(*told, "demo:val:3", "--overwrite").code == 0
    assert len(files(tmp_path / "p/original")) == 3


def test_a_comparison_with_a_file_of_the_user_is_left_alone(tmp_path: Path, muse: Muse) -> None:
    told = ("compare", "tiny", "--data", "demo:val", "--limit", "2", "--measure", "eval", "--set", "metrics=[psnr]")
    assert muse(*told, "--out", "c").code == 0
    whole = sorted(files(tmp_path / "c"))
    assert {"comparison.json", "table.csv", "table.md", "report.html"} <= set(whole)
    assert muse(*told, "--out", "c").code == 4
    table = (tmp_path / "c/table.csv").read_bytes()
    for name, content in (("notes.txt", MINE), ("table.csv", f"{table.decode()}my row\n")):
        put(tmp_path / "c" / name, content)
        before = files(tmp_path / "c")
        ended = muse(*told, "--out", "c", "--overwrite")
        assert (ended.code, files(tmp_path / "c")) == (4, before)
        assert name in ended.err
        (tmp_path / "c" / name).unlink()
    put(tmp_path / "c/table.csv", table)
    assert muse(*told, "--out", "c", "--overwrite").code == 0
    assert sorted(files(tmp_path / "c")) == whole


# ---------------------------------------------------------------- what 0.1.0 wrote


@pytest.mark.parametrize(
    ("name", "kind"), [("runs/stage3", RUNS), ("runs/shards1", RUNS), ("shards", SHARDS), ("latents", LATENTS)]
)
def test_runs_shards_and_latents_of_0_1_0_are_known_by_their_content(
    tmp_path: Path, name: str, kind: FolderKind
) -> None:
    folder = lay_out(name, tmp_path)
    put(folder / "thesis.tex", MINE)
    with pytest.raises(MuseError, match="so it is not replaced: thesis.tex"):
        kind.refuse(folder, overwrite=True, in_place=True)
    (folder / "thesis.tex").unlink()
    kind.refuse(folder, overwrite=True, in_place=True)
    kind.clear(folder)
    assert files(folder) == {}


def test_what_0_1_0_wrote_elsewhere_counts_as_the_users(tmp_path: Path) -> None:
    assert mark_of(FIXTURES / "scores/eval.json") is None
    folder = lay_out("export", tmp_path)
    with pytest.raises(MuseError, match=r"not replaced: README.md"):
        EXPORTS.refuse(folder, overwrite=True)
