"""`muse inspect` says what something is, and ends with 8 and the list when anything is wrong."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import muse_core
from muse_core.data.writer import write_scene_shards
from muse_core.errors import MuseError
from muse_core.inspection.shards import inspect_shards
from muse_core.runs import RunFolder
from tests.cli.conftest import Muse
from tests.data.conftest import picture
from tests.data.test_decode import bomb


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene_shards("train", 24, tmp_path_factory.mktemp("s") / "shards", per_shard=6, size=32).folder


@pytest.fixture
def shards(whole: Path, tmp_path: Path) -> Path:
    """Four shards of six scenes, to be broken."""
    return shutil.copytree(whole, tmp_path / "shards")


def tar(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as file:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return path


def problems(where: Path, *, deep: bool = True) -> dict[str, int]:
    return {one.what: one.count for one in inspect_shards(str(where), deep=deep).problems}


def first_of(where: Path, what: str) -> str:
    return next(one.first for one in inspect_shards(str(where), deep=True).problems if one.what == what)


def test_healthy_shards_are_described(muse: Muse, shards: Path) -> None:
    ended = muse("inspect", str(shards), "--deep", "--readers", "3", "--json")
    assert ended.code == 0, ended.err
    found = ended.json
    assert (found["kind"], found["shards"], found["samples"], found["usable"]) == ("shards", 4, 24, 24)
    assert found["fields"] == {"caption": 24, "image": 24, "label": 24, "mask": 24}
    assert found["formats"] == {"PNG": 24}
    assert found["width"] == found["height"] == {"min": 32, "median": 32, "mean": 32.0, "max": 32}
    assert found["caption_words"]["min"] >= 2
    assert found["bytes"] == sum(path.stat().st_size for path in shards.glob("*.tar"))
    assert found["readers"] == {"asked": 3, "fed": 3, "shards_each": [1, 2], "samples_each": [6, 12]}
    assert found["problems"] == []


def test_words_for_people_end_in_the_verdict(muse: Muse, shards: Path) -> None:
    ended = muse("inspect", str(shards))
    assert ended.code == 0
    assert "samples   24, 24 usable" in ended.out
    assert ended.out.splitlines()[-2:] == [
        "nothing is wrong",
        f"next: muse train --stage 1-3 --size tiny --data {shards}",
    ]


def test_one_split_is_looked_at_and_the_others_are_named(muse: Muse, shards: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        shutil.copytree(shards, tmp_path / "both" / split)
    ended = muse("inspect", "both")
    assert f"left out  {Path('both', 'val')}" in ended.out
    assert muse("inspect", "both", "--json").json["other_splits"] == [str(Path("both", "val"))]
    assert "left out" not in muse("inspect", str(shards)).out


def test_what_is_wrong_is_listed_with_exit_code_8(muse: Muse, shards: Path) -> None:
    path = shards / "000002.tar"
    path.write_bytes(path.read_bytes()[:20_000])
    ended = muse("inspect", str(shards), "--json")
    assert ended.code == ended.json["exit_code"] == 8
    whats = {one["what"]: one["first"] for one in ended.json["problems"]}
    assert whats["checksum differs from the index"] == "000002.tar"
    assert whats["cut off by the end of its shard"].startswith("000002/")
    assert "bytes differ from the index" in whats
    assert "cut off by the end of its shard" in ended.err


def test_readers_that_cannot_be_fed_are_told_how_many_can(muse: Muse, shards: Path) -> None:
    ended = muse("inspect", str(shards), "--readers", "16")
    assert ended.code == 8
    assert "16 readers need as many shards; there are 4: use at most 4 readers" in ended.err


def test_one_changed_byte_is_found_by_its_checksum(shards: Path) -> None:
    path = shards / "000001.tar"
    content = bytearray(path.read_bytes())
    content[content.index(b".txt") + 520] ^= 1
    path.write_bytes(content)
    assert problems(shards) == {"checksum differs from the index": 1}


def test_shards_that_came_or_went_since_the_index_was_written_are_named(shards: Path) -> None:
    (shards / "000003.tar").rename(shards / "000009.tar")
    assert problems(shards) == {"shard is not in the index": 1, "shard of the index is not here": 1}


def test_every_kind_of_damage_is_named_and_its_neighbours_are_counted_as_usable(tmp_path: Path) -> None:
    good = picture()
    members = [(f"{n}.png", good) for n in range(3)] + [("3.jpg", b"this is text"), ("4.png", b"")]
    members += [("5.png", bomb(30_000, 30_000)), ("6.png", good), ("6.txt", b"caf\xe9")]
    members += [("7.png", good), ("7.png", good), ("8.png", good), ("8.cls", b"-5"), ("9.txt", b"alone")]
    tar(tmp_path / "a.tar", *members)
    assert problems(tmp_path) == {
        "image cannot be opened": 1,
        "image cannot be opened: it is empty": 1,
        "decompression bomb": 1,
        "caption is not UTF-8 (probably Latin-1)": 1,
        "key holds the same suffix twice": 1,
        "label is neither the index of a class nor a name": 1,
        "no image": 1,
    }
    assert first_of(tmp_path, "decompression bomb") == "a/5"
    assert inspect_shards(str(tmp_path)).facts["usable"] == 3


def test_a_picture_cut_in_its_middle_is_found_only_by_decoding_it(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", ("0.jpg", picture(200, 200, "JPEG")[:5000]))
    assert problems(tmp_path, deep=False) == {}
    assert problems(tmp_path) == {"image cannot be decoded": 1}


def test_interleaved_members_are_wrong_for_other_readers(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", ("b.png", picture()), ("a.png", picture()), ("b.txt", b"x"), ("a.txt", b"y"))
    found = inspect_shards(str(tmp_path))
    assert [one.what for one in found.problems] == ["members of a sample are not together in its shard (joined)"]
    assert "keys are not in rising order" in {one.what for one in found.notes}


def test_a_pair_that_lacks_its_half_is_named(tmp_path: Path) -> None:
    members = [
        (f"{n:02d}.{suffix}", picture() if suffix == "png" else b"x") for n in range(20) for suffix in ("png", "txt")
    ]
    tar(tmp_path / "a.tar", *(one for one in members if one[0] != "07.txt"))
    assert problems(tmp_path) == {"sample without caption, which the others have": 1}
    assert first_of(tmp_path, "sample without caption, which the others have") == "a/07"


@pytest.mark.parametrize(("content", "what"), [(b"", "shard is empty"), (bytes(10240), "shard holds no samples")])
def test_empty_tars_are_named(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    assert problems(tmp_path) == {what: 1}


def test_the_contact_sheet_shows_samples_of_all_shards(muse: Muse, shards: Path, tmp_path: Path) -> None:
    ended = muse("inspect", str(shards), "--sample", "4", "--json")
    assert ended.json["sheet"] == "shards-samples.png"
    with Image.open(tmp_path / "shards-samples.png") as sheet:
        assert sheet.width > 2 * 192
        assert len(sheet.getcolors(1 << 20) or []) > 10


def test_a_checkpoint_is_described_and_what_it_is_enough_for(muse: Muse, trained: Path) -> None:
    ended = muse("inspect", str(trained / "checkpoints" / "step-0000001"), "--json")
    assert ended.code == 0, ended.err
    found = ended.json
    assert (found["kind"], found["size"], found["stage"], found["step"]) == ("checkpoint", "tiny", 3, 1)
    assert found["files"]["model.safetensors"]["types"] == {"float32": found["files"]["model.safetensors"]["tensors"]}
    assert found["can"] == {
        "infer, eval, attn-viz": True, "zeroshot": True, "train --init": True, "train --resume": False,
    }  # fmt: skip


def broken(trained: Path, folder: Path) -> Path:
    copy = shutil.copytree(trained, folder / "run")
    file = copy / "checkpoints" / "step-0000001" / "model.safetensors"
    tensors = load_file(file)
    name = sorted(tensors)[-1]
    tensors[name] = torch.full_like(tensors[name], torch.nan)
    tensors["extra.weight"] = torch.zeros(2)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, file)
    return copy


def test_a_checkpoint_that_is_not_as_it_was_written_is_named(trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "run")) / "checkpoints" / "step-0000001"
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    problems = {one.what for one in muse_core.inspect(folder).problems}
    assert "file is not as it was written: its checksum differs" in problems


def test_a_broken_checkpoint_names_its_tensors(trained: Path, tmp_path: Path) -> None:
    found = muse_core.inspect(broken(trained, tmp_path) / "checkpoints" / "step-0000001")
    assert {one.what for one in found.problems} == {
        "file is not as it was written: its checksum differs",
        "tensor of model.safetensors is not finite",
        "tensor that the network does not have",
        "tensor of the network is missing",
    }


def test_a_run_says_how_it_ended_and_where_it_would_go_on(muse: Muse, trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    RunFolder(run).interrupt(KeyboardInterrupt())
    (run / "checkpoints" / ".step-0000002.77.tmp").mkdir()
    ended = muse("inspect", str(run))
    assert ended.code == 0, ended.err
    assert f"muse train --resume {run} goes on behind step 1" in ended.out
    assert "never completed" in ended.out


def test_records_of_a_run_that_cannot_be_right_are_problems(trained: Path, tmp_path: Path) -> None:
    run = broken(trained, tmp_path)
    lines = [{"step": 1, "loss/pixel": float("nan")}, {"step": 3}, {"step": 2}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "lo')
    (run / "config.yaml").write_text("run: {sise: tiny}\n")
    whats = [one.what for one in muse_core.inspect(run).problems]
    for what in ("loss/pixel is not finite", "steps of metrics.jsonl go back", "line of metrics.jsonl is not a record"):
        assert what in whats
    assert "setting that this version does not accept" in whats
    assert "tensor of model.safetensors is not finite" in whats


def test_nothing_there_is_an_error_not_a_verdict(tmp_path: Path) -> None:
    with pytest.raises(MuseError, match="no shards") as refused:
        muse_core.inspect(tmp_path)
    assert refused.value.exit_code == 4
