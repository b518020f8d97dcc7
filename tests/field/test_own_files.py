"""Files of the user: what muse did not write is neither replaced nor removed, and two results never have one name."""

import json
import multiprocessing
import os
import socket
import threading
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from muse_core.data.owned import SHARDS
from muse_core.data.sample import Sample
from muse_core.data.source import open_source
from muse_core.data.writer import write_shards
from muse_core.errors import MuseError
from muse_core.evaluation.processes import joined
from muse_core.evaluation.protocol import Protocol, Scores
from muse_core.evaluation.reading import EvalData, Tally, samples
from muse_core.evaluation.savedmasks import saved_masks
from muse_core.files import HOLD, held
from muse_core.latents.owned import LATENTS
from muse_core.latents.write import LatentJob, prepare
from muse_core.marks import Mark, made_of, mark_in, mark_of, marked_document, with_mark
from muse_core.model.exporting import EXPORTS
from muse_core.ownership import FolderKind, OutputNames, free_file, is_result, refuse_taken, write_file
from muse_core.pictures import picture_png
from muse_core.run_files import RUNS
from muse_core.runs import RunFolder
from muse_core.viz.figures import figure_bytes
from tests.field.conftest import Case, Muse
from tests.field.inputs import RED, coded, flat, put, tar
from tests.old.archive import FIXTURES
from tests.old.filling import lay_out

MINE = "my own work"
PNG = coded(flat(RED), "PNG")
RECON = Mark("recon", made_of("photo.jpg"))


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, less what runs keep for themselves."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != HOLD
    }


# ---------------------------------------------------------------- the handed cases


def test_g1_two_inputs_have_two_results(case: Case, muse: Muse) -> None:
    here = case("g1-same-stem")
    ended = muse("infer", "d", "--checkpoint", "tiny", "--out", "o", "--json")
    assert ended.code == 0
    results = {entry["image"]: entry["out"] for entry in ended.json["images"]}
    assert results == {"d/x.jpg": "o/x-recon.png", "d/x.png": "o/x-recon-2.png"}
    assert sorted(files(here / "o")) == ["x-recon-2.png", "x-recon.png"]
    red, blue = (np.asarray(Image.open(path).convert("RGB")).mean((0, 1)) for path in results.values())
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    assert "o/x-recon.png is taken; written to o/x-recon-2.png" in ended.err


def test_g1_a_second_time_each_input_has_its_name_again(case: Case, muse: Muse) -> None:
    here = case("g1-same-stem")
    first, second = (muse("infer", "d", "--checkpoint", "tiny", "--out", "o", "--json") for _ in range(2))
    assert first.json["images"] == second.json["images"]
    only = muse("infer", "d/x.png", "--checkpoint", "tiny", "--out", "o", "--json")
    assert only.json["images"][0]["out"] == "o/x-recon-2.png"
    assert len(files(here / "o")) == 2


def test_g1_default_names_step_aside_for_the_users_files(case: Case, muse: Muse) -> None:
    here = case("g1-same-stem")
    recon = muse("infer", "y.jpg", "--checkpoint", "tiny")
    attention = muse("attn-viz", "y.jpg", "--checkpoint", "tiny")
    assert (recon.code, attention.code) == (0, 0)
    assert recon.out.startswith("y-recon-2.png  PSNR")
    assert attention.out.startswith("y-attention-2.png\n")
    assert "y-recon.png is taken; written to y-recon-2.png" in recon.err
    for name in ("y-recon.png", "y-attention.png"):
        assert (here / name).read_text() == MINE


def test_g1_a_folder_is_read_without_what_muse_made_of_it(case: Case, muse: Muse) -> None:
    here = case("g1-same-stem")
    put(here / "cat-recon.png", PNG)  # the user's, and an image
    for _ in range(2):
        muse("infer", "y.jpg", "--checkpoint", "tiny")
        muse("infer", "y.jpg", "--checkpoint", "tiny", "--compare")
        muse("attn-viz", "y.jpg", "--checkpoint", "tiny")
        ended = muse("infer", ".", "--checkpoint", "tiny", "--json")
        assert [entry["image"] for entry in ended.json["images"]] == ["cat-recon.png", "y.jpg"]
        assert sorted(ended.json["unread"]) == ["y-attention.png", "y-recon.png"]  # "my own work" is no image
        assert "left out, which muse made: " in ended.err
    assert (here / "cat-recon.png").read_bytes() == PNG
    made = {"cat-recon-recon.png", "y-attention-2.png", "y-compare.png", "y-recon-2.png"}
    assert {path.name for path in here.glob("*.png")} - made == {"cat-recon.png", "y-attention.png", "y-recon.png"}


def test_g2_latents_never_replace_a_strangers_folder(case: Case, muse: Muse) -> None:
    here = case("g2-not-ours")
    before = files(here / "mine")
    for more in ([], ["--overwrite"], ["--resume"], ["--resume", "--overwrite"]):
        ended = muse("infer", "s", "--checkpoint", "tiny", "--latents", "mine", *more)
        assert (ended.code, files(here / "mine")) == (4, before), more
        assert "holds no latents" in ended.err
        assert "--latents mine-2" in ended.err


def test_g3_masks_of_a_mix_are_told_apart_by_their_names(case: Case, muse: Muse) -> None:
    here = case("g3-mask-names")
    told = ("--data", "a", "--val-data", "a + b", "--epochs", "1", "--save-masks", "m")
    assert muse("segment", "tiny", *told).code == 0
    expected = [f"{folder}_000000_{number:05d}.png" for folder in "ab" for number in range(4)]
    assert sorted(files(here / "m")) == expected
    assert muse("segment", "tiny", *told).code == 4
    put(here / "m" / "notes.txt", MINE)
    assert muse("segment", "tiny", *told, "--overwrite").code == 4
    assert sorted(files(here / "m")) == sorted([*expected, "notes.txt"])


# ---------------------------------------------------------------- names


def test_inputs_of_two_folders_and_twins_in_case_or_accents_share_no_name(tmp_path: Path, muse: Muse) -> None:
    composed, taken_apart = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    for name in ("a/x.jpg", "b/x.jpg", "a/X.jpg", f"a/{composed}.jpg", f"b/{taken_apart}.jpg"):
        put(tmp_path / name, coded(flat(RED)))
    for more in ([], ["--compare"]):
        ended = muse("infer", "a", "b", "--checkpoint", "tiny", "--out", "o", "--json", *more)
        outs = [Path(entry["out"]).name for entry in ended.json["images"]]
        folded = {unicodedata.normalize("NFC", name).casefold() for name in outs}
        assert len(folded) == len(outs) == 5
    assert len(files(tmp_path / "o")) == 10


def write_masks(rank: int, meeting: str, folder: Path) -> None:
    with joined(rank, 2, meeting) as team:
        source = open_source(f"{folder / 'a'} + {folder / 'b'}")
        data = EvalData(source, size=64, batch_size=2, team=team)
        with saved_masks(folder / "m", data, overwrite=False) as saved:
            for position, sample in samples(data, Tally()):
                assert saved is not None
                assert sample.mask is not None
                saved.add(position, sample.key, sample.mask)


@pytest.mark.slow
def test_two_processes_give_masks_the_names_that_one_gives(case: Case) -> None:
    here = case("g3-mask-names")
    with socket.create_server(("127.0.0.1", 0)) as server:
        meeting = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=write_masks, args=(rank, meeting, here)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert sorted(files(here / "m")) == [f"{folder}_000000_{number:05d}.png" for folder in "ab" for number in range(4)]
    assert [path.name for path in here.iterdir() if path.name.startswith(".")] == []


def test_results_of_two_commands_into_one_folder_are_both_kept(tmp_path: Path, muse: Muse) -> None:
    for name in ("a/x.jpg", "b/x.jpg"):
        put(tmp_path / name, coded(flat(RED)))
        assert muse("infer", name, "--checkpoint", "tiny", "--out", "o").code == 0
    assert sorted(files(tmp_path / "o")) == ["x-recon-2.png", "x-recon.png"]


def test_a_folder_that_moves_keeps_its_pairs(tmp_path: Path, muse: Muse, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "here/x.jpg", coded(flat(RED)))
    muse("infer", "here", "--checkpoint", "tiny")
    (tmp_path / "here").rename(tmp_path / "there")
    muse("infer", "there", "--checkpoint", "tiny")
    monkeypatch.chdir(tmp_path / "there")
    muse("infer", "x.jpg", "--checkpoint", "tiny")
    assert sorted(files(tmp_path / "there")) == ["x-recon.png", "x.jpg"]


def test_a_folder_of_nothing_but_results_is_refused_and_a_named_result_is_taken(tmp_path: Path, muse: Muse) -> None:
    put(tmp_path / "o/x-recon.png", with_mark(PNG, RECON))
    ended = muse("infer", "o", "--checkpoint", "tiny")
    assert ended.code == 4
    assert "muse infer o/x-recon.png" in ended.err
    assert muse("infer", "o/x-recon.png", "--checkpoint", "tiny").code == 0


def test_names_that_are_not_utf_8_have_results_too(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    for _ in range(2):
        mark, names = Mark("recon", made_of(f"{name}.jpg")), OutputNames()
        outs = [write_file(tmp_path / f"{name}.png", PNG, mark, step_aside=True, names=names) for _ in range(2)]
        assert [path.name for path in outs] == [f"{name}.png", f"{name}-2.png"]
    assert len(files(tmp_path)) == 2


def test_of_many_who_ask_for_one_name_at_once_each_gets_its_own(tmp_path: Path) -> None:
    def write(number: int) -> None:
        write_file(tmp_path / "x.txt", str(number), Mark("note", made_of(number)), step_aside=True)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, (content.decode() for content in files(tmp_path).values()))) == list(range(12))


def test_names_given_once_are_not_given_again() -> None:
    names = OutputNames()
    assert [names.first_free(Path("a/x")) for _ in range(2)] == [Path("a/x"), Path("a/x-2")]
    assert not names.is_free(Path("a/X"))
    assert names.is_free(Path("b/x"))


def test_a_disk_without_links_loses_nothing_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    put(tmp_path / "x.png", MINE)
    assert write_file(tmp_path / "x.png", PNG, RECON, step_aside=True).name == "x-2.png"
    assert write_file(tmp_path / "x.png", PNG, RECON, step_aside=True).name == "x-2.png"
    assert (tmp_path / "x.png").read_text() == MINE
    assert sorted(files(tmp_path)) == ["x-2.png", "x.png"]


# ---------------------------------------------------------------- the mark


def test_a_mark_in_a_png_changes_no_pixel_and_is_the_same_each_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture = rng.random((3, 20, 30), np.float32)
    plain = picture_png(picture)
    marked = with_mark(plain, RECON)
    assert marked == with_mark(plain, RECON) == with_mark(marked, RECON)
    put(tmp_path / "x.png", marked)
    assert mark_of(tmp_path / "x.png") == RECON
    with Image.open(tmp_path / "x.png") as image:
        assert np.array_equal(np.asarray(image), np.rint(picture.transpose(1, 2, 0) * 255))
        assert image.info["muse"].startswith("muse recon of ")


def figure() -> bytes:
    from matplotlib.figure import Figure

    return figure_bytes(Figure(), "svg")


PAGE = "<!doctype html>\n<html lang='en'><head>\n<title>t</title></head><body><svg><g/></svg></body></html>"


@pytest.mark.parametrize("make", [lambda: PNG, figure, lambda: PAGE.encode()], ids=["png", "svg", "html"])
def test_a_mark_is_found_again_until_the_file_is_changed(make: Callable[[], bytes]) -> None:
    plain = make()
    marked = with_mark(plain, RECON)
    assert mark_in(plain) is None
    assert mark_in(marked) == RECON
    for at in (len(marked) // 2, len(marked) - 20):
        assert mark_in(marked[:at] + b"x" + marked[at:]) is None
    assert mark_in(with_mark(marked, Mark("other"))) == Mark("other")


def test_a_json_object_is_ours_until_a_value_is_changed(tmp_path: Path) -> None:
    document = marked_document({"b": [1.5, None], "a": {"é": "x"}}, Mark("scores"))
    put(tmp_path / "x.json", json.dumps(document, indent=4))
    assert mark_of(tmp_path / "x.json") == Mark("scores")
    put(tmp_path / "x.json", json.dumps({**document, "note": "mine"}))
    assert mark_of(tmp_path / "x.json") is None


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"made_by": 3}', b"\x89PNG\r\n\x1a\n", b"<svg>muse", b"muse"])
def test_what_only_looks_like_a_marked_file_is_the_users(tmp_path: Path, content: bytes) -> None:
    put(tmp_path / "x", content)
    assert mark_of(tmp_path / "x") is None
    assert not is_result(tmp_path / "x")


def test_a_result_that_was_painted_over_is_the_users(tmp_path: Path, muse: Muse) -> None:
    put(tmp_path / "x.jpg", coded(flat(RED)))
    muse("infer", "x.jpg", "--checkpoint", "tiny")
    with Image.open("x-recon.png") as image:
        words, painted = image.info["muse"], image.copy()
    painted.putpixel((3, 3), (0, 0, 0))
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("muse", words)  # editors keep what they do not know
    painted.save("x-recon.png", pnginfo=text)
    before = Path("x-recon.png").read_bytes()
    ended = muse("infer", ".", "--checkpoint", "tiny", "--json")
    assert [entry["out"] for entry in ended.json["images"]] == ["x-recon-recon.png", "x-recon-2.png"]
    assert Path("x-recon.png").read_bytes() == before


# ---------------------------------------------------------------- named files, and links


def test_a_named_file_is_replaced_only_when_that_is_said(tmp_path: Path) -> None:
    for content in (MINE.encode(), with_mark(PNG, RECON)):
        put(tmp_path / "x.png", content)
        with pytest.raises(MuseError, match="is there already") as refused:
            write_file(tmp_path / "x.png", PNG, RECON)
        assert "--overwrite" in str(refused.value.hint)
        assert "x-2.png" in str(refused.value.hint)
        assert (tmp_path / "x.png").read_bytes() == content
    write_file(tmp_path / "x.png", PNG, Mark("figure"), overwrite=True)
    assert mark_of(tmp_path / "x.png") == Mark("figure")
    assert list(files(tmp_path)) == ["x.png"]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    put(tmp_path / "real/x.png", MINE)
    link, dangling = tmp_path / "x.png", tmp_path / "y.png"
    link.symlink_to("real/x.png")
    dangling.symlink_to("nowhere")
    for path in (link, dangling):
        with pytest.raises(MuseError, match="is there already"):
            write_file(path, PNG, RECON)
        assert write_file(path, PNG, RECON, step_aside=True).name == f"{path.stem}-2.png"
        assert path.is_symlink()
        write_file(path, PNG, RECON, overwrite=True)
        assert not path.is_symlink()
    assert (tmp_path / "real/x.png").read_text() == MINE
    assert not (tmp_path / "nowhere").exists()


def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "x.png").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("x.png", "pipe"):
        with pytest.raises(MuseError, match="is not a file"):
            refuse_taken(tmp_path / name, overwrite=True)
        with pytest.raises(MuseError, match="is not a file"):
            write_file(tmp_path / name, PNG, RECON, overwrite=True)
    assert free_file(tmp_path / "x.png").name == "x-2.png"


# ---------------------------------------------------------------- scores and their pictures


def scores(value: float = 1.0) -> Scores:
    protocol = Protocol({"data": "d", "value": value})
    return Scores("segment", "t", {"miou": value}, protocol, {"seen": 1, "skipped": {}}, pictures={"segment": PNG})


def test_pictures_of_scores_step_aside_and_the_scores_say_where(tmp_path: Path) -> None:
    put(tmp_path / "segment.png", MINE)
    document = scores().save(tmp_path / "segment.json")
    assert document["pictures"] == {"segment": "segment-2.png"}
    assert json.loads((tmp_path / "segment.json").read_text()) == document
    assert scores().save(tmp_path / "segment.json", overwrite=True) == document
    with pytest.raises(MuseError, match="is there already"):
        scores().save(tmp_path / "segment.json")
    assert sorted(files(tmp_path)) == ["segment-2.png", "segment.json", "segment.png"]


def test_scores_in_a_run_that_somebody_edited_are_kept(trained: Path, tmp_path: Path, muse: Muse) -> None:
    import shutil

    run = Path(shutil.copytree(trained, tmp_path / "run"))
    told = ("eval", str(run), "--data", "demo:val:2", "--metric", "psnr")
    assert muse(*told).code == 0
    first = run / "results" / "eval.json"
    assert mark_of(first) == Mark("scores")
    assert muse(*told).code == 0
    assert sorted(files(run / "results")) == ["eval.json"]  # the same numbers again
    edited = json.dumps(json.loads(first.read_text()) | {"my note": "a bad day"})
    first.write_text(edited)
    assert muse(*told).code == 0
    assert sorted(files(run / "results")) == ["eval-2.json", "eval.json"]
    assert first.read_text() == edited


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
