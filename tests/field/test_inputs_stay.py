"""No --overwrite replaces what its own command reads, and no name promises another kind of file than is written."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from muse_core.data.writer import write_scene_shards
from muse_core.errors import ExitCode
from muse_core.marks import Mark
from muse_core.ownership import NameTakenError, refuse_taken, write_file
from tests.cli.conftest import Muse


def photo(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images in a folder, shards, and a list of classes."""
    for number in range(2):
        photo(tmp_path / "a" / f"{number}.png", number)
    write_scene_shards("val", 8, tmp_path / "shards", per_shard=4)
    Path("words.txt").write_text("cat\ndog\n")
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [
        "infer a/0.png --features a/0.png",
        "infer a --features a/0.png --out o",
        "attn-viz a/0.png --out a/0.png",
        "attn-viz a/0.png a/1.png --out a/1.png",
        "inspect a --sample 2 --out a/0.png",
        "inspect shards --sample 2 --out shards/000000.tar",
        "eval tiny --data shards --metric psnr --out shards/000000.tar",
        "eval tiny --data shards --metric psnr --out words.txt --reference words.txt",
        "eval --data shards --metric fd-tiny-clip --size-px 32 --save-stats shards/000001.tar",
        "zeroshot tiny --data shards --classes words.txt --out words.txt",
        "probe knn tiny --data shards --val-data shards --out shards/000000.tar",
        "segment tiny --data shards --val-data shards --epochs 1 --out shards/000000.tar",
        "segment tiny --data shards --val-data shards --epochs 1 --picture shards/000000.tar",
    ],
)
def test_what_is_read_is_not_replaced(line: str, folder: Path, muse: Muse) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    ended = muse(*line.split(), "--overwrite")
    assert ended.code in (ExitCode.FILE, ExitCode.SETTINGS), ended.out
    assert "is read by this command" in ended.err or "which is what is written" in ended.err
    assert {path: path.read_bytes() for path in before} == before


def test_a_link_to_what_is_read_and_another_spelling_of_it_are_the_same_file(folder: Path) -> None:
    (folder / "link.png").symlink_to(folder / "a" / "0.png")
    for path in (folder / "link.png", Path("a/../a/0.png")):
        with pytest.raises(NameTakenError, match="is read by this command"):
            refuse_taken(path, True, [folder / "a" / "0.png"])


def test_in_a_folder_that_is_read_files_of_muse_are_replaced(folder: Path, muse: Muse) -> None:
    for _ in range(2):
        line = "eval tiny --data shards --metric psnr --limit 2 --out shards/scores.json --overwrite"
        assert muse(*line.split()).code == ExitCode.DONE
    own = write_file(folder / "a" / "figure.png", photo(folder / "b.png").read_bytes(), Mark("attention"))
    refuse_taken(own, True, [folder / "a"])


@pytest.mark.parametrize(
    ("line", "ending"),
    [
        ("report r --out page.png", "html"),
        ("inspect shards --sample 2 --out sheet.html", "png"),
        ("infer a/0.png --features f.jpg", "npz"),
        ("segment tiny --data shards --val-data shards --epochs 1 --picture p.html", "png"),
        ("eval --data shards --metric fd-tiny-clip --size-px 32 --save-stats s.json", "npz"),
    ],
)
def test_a_name_that_promises_another_kind_is_refused_before_any_work(
    line: str, ending: str, folder: Path, muse: Muse
) -> None:
    ended = muse(*line.split())
    assert ended.code == ExitCode.SETTINGS
    assert f"does not end in .{ending}, which is what is written" in ended.err
    assert not any(Path(name).exists() for name in line.split()[-1:])


def test_a_name_as_long_as_names_may_be_has_its_result(tmp_path: Path, muse: Muse) -> None:
    photo(tmp_path / "a" / f"{'x' * 240}.png")
    photo(tmp_path / "a" / "y.png")
    ended = muse("infer", "a", "--checkpoint", "tiny", "--out", "o")
    assert ended.code == ExitCode.DONE, ended.err
    assert sorted(path.name for path in Path("o").iterdir()) == [f"{'x' * 240}-recon.png", "y-recon.png"]


def test_images_that_lie_in_folders_inside_are_named_as_such(tmp_path: Path, muse: Muse) -> None:
    photo(tmp_path / "a.png").rename(tmp_path / "b.png")
    (tmp_path / "src" / "cat").mkdir(parents=True)
    photo(tmp_path / "src" / "cat" / "0.png")
    ended = muse("infer", "src", "--checkpoint", "tiny", "--out", "o")
    assert ended.code == ExitCode.FILE
    assert "no picture at src" in ended.err
    assert "name these, or 'src/*/*'" in ended.err
    assert muse("infer", "src/*/*", "--checkpoint", "tiny", "--out", "o").code == ExitCode.DONE
