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

from muse_core.data.source import open_source
from muse_core.errors import MuseError
from muse_core.evaluation.processes import joined
from muse_core.evaluation.reading import EvalData, Tally, samples
from muse_core.evaluation.savedmasks import saved_masks
from muse_core.marks import Mark, made_of, mark_in, mark_of, marked_document, with_mark
from muse_core.ownership import OutputNames, free_file, is_result, refuse_taken, write_file
from muse_core.pictures import picture_png
from muse_core.viz.figures import figure_bytes
from tests.field.conftest import Case, Muse
from tests.field.inputs import RED, coded, flat, put
from tests.field.owned import MINE, PAGE, PNG, RECON, files, scores

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
