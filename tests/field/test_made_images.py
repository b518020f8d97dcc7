"""What muse made of images beside them is no data; a file of the user is, whatever it is called."""

import shutil
from pathlib import Path

import pytest

from muse_core.data.source import open_source
from tests.field.conftest import Muse
from tests.field.inputs import RED, coded, flat, put, scene
from tests.field.sharded import index, skipped

MADE = "muse made it of another image"


@pytest.fixture
def photos(tmp_path: Path, muse: Muse) -> Path:
    """Two photographs, what muse made of them, and a file of the user that is called so too."""
    for number in range(2):
        put(tmp_path / f"d/{number}.jpg", coded(flat(RED, 64, 64)))
    put(tmp_path / "d/cat-recon.png", coded(scene(64, 64), "PNG"))
    for line in ("infer d/0.jpg", "infer d/0.jpg --compare", "attn-viz d/1.jpg --out d/1-attention.png"):
        assert muse(*line.split(), "--checkpoint", "tiny").code == 0
    return tmp_path / "d"


def test_shards_leave_out_what_muse_made_and_say_how_many(photos: Path, muse: Muse) -> None:
    ended = muse("shard", "d")
    assert (ended.code, index()["count"], f"3 x {MADE}" in ended.out + ended.err) == (0, 3, True)
    assert skipped() == dict.fromkeys(["0-compare.png", "0-recon.png", "1-attention.png"], MADE)


def test_a_folder_of_images_leaves_them_out_too_and_says_it(photos: Path, muse: Muse) -> None:
    assert [item.key for item in open_source("d").once()] == ["0.jpg", "1.jpg", "cat-recon.png"]
    said = "3 images of d that muse made of others are left out (first: 0-compare.png)"
    for line in ("eval tiny --data d --metric psnr", "train --stage 1 --size tiny --data d --batch-size 2 --dry-run"):
        ended = muse(*line.split())
        assert (ended.code, said in ended.out + ended.err) == (0, True), ended.err


def test_one_that_was_changed_is_the_users(photos: Path) -> None:
    put(photos / "0-recon.png", coded(scene(64, 64), "PNG"))
    shutil.copy(photos / "0-compare.png", photos / "renamed.png")
    assert "0-recon.png" in [item.key for item in open_source("d").once()]
    assert "renamed.png" not in [item.key for item in open_source("d").once()]


def test_finished_shards_stay_finished_when_results_come_beside_their_images(photos: Path, muse: Muse) -> None:
    assert muse("shard", "d").code == 0
    assert muse("infer", "d/1.jpg", "--checkpoint", "tiny").code == 0
    assert muse("shard", "d", "--resume").code == 0
    put(photos / "2-recon.png", coded(scene(64, 64), "PNG"))
    assert "holds other files" in muse("shard", "d", "--resume").err
