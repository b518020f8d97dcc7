"""What a refusal says comes next can be typed, and leads on."""

from pathlib import Path

import pytest

from muse_core.errors import ExitCode, MuseError
from muse_core.runs import RunFolder
from muse_core.stages.start import resume
from tests.field.conftest import Muse
from tests.field.inputs import RED, coded, flat, put, tar
from tests.training.mini import StopAt, train_lean

SETTINGS = {"data.lanes": 1, "training.batch_size": 4, "training.save_every": 1}


def shards(where: str) -> str:
    tar(Path(where) / "0.tar", [(f"{number}.jpg", coded(flat(RED, 64, 64))) for number in range(4)])
    return where


def finished(data: str) -> Path:
    run = train_lean(1, Path("run"), {**SETTINGS, "training.steps": 1, "data.train": data}).folder
    return Path(run)


def test_shards_that_become_image_files_are_told_by_their_kind(muse: Muse) -> None:
    put(Path("images/0.jpg"), coded(flat(RED, 64, 64)))
    with pytest.raises(KeyboardInterrupt):
        train_lean(1, Path("run"), {**SETTINGS, "training.steps": 2, "data.train": shards("s")}, StopAt(1))
    ended = muse("train", "--resume", "run", "--data", "images")
    assert ended.code == ExitCode.FILE
    assert "its train data were shards when it was begun, and images holds image files" in ended.err
    assert "--data PLACE where the shards lie now; or muse train --init run --data images, a new run" in ended.err


def test_a_finished_run_is_told_with_the_data_that_were_typed(muse: Muse) -> None:
    finished(shards("s"))
    ended = muse("train", "--resume", "run", "--data", shards("other"))
    assert (ended.code, "--init run --data other" in ended.err, "gone" in ended.err) == (ExitCode.FILE, True, False)


def test_a_finished_run_whose_data_are_gone_says_so_and_names_none_that_are_not_there(muse: Muse) -> None:
    finished(shards("s"))
    Path("s").rename("elsewhere")
    ended = muse("train", "--resume", "run")
    assert ended.code == ExitCode.FILE
    assert "--data PLACE" in ended.err
    assert f"PLACE is where the data lie now, which are gone from {Path('s').absolute()}" in ended.err


@pytest.mark.parametrize("damage", ["training: {steps: -1}", "optim: {lr: none at all}", "no_such_section: {a: 1}"])
def test_a_finished_run_with_settings_that_none_can_have_is_told_by_key(muse: Muse, damage: str) -> None:
    run = finished(shards("s"))
    (run / "config.yaml").write_text(damage)
    ended = muse("train", "--resume", "run")
    assert (ended.code, "config.yaml" in ended.err, "bug" in ended.err) == (ExitCode.SETTINGS, True, False)
    with pytest.raises(MuseError, match=r"config\.yaml"):
        resume(RunFolder(run))


def test_a_flat_folder_has_no_folders_that_could_be_classes(muse: Muse) -> None:
    put(Path("d/0.jpg"), coded(flat(RED)))
    ended = muse("shard", "d", "--classes", "folders")
    assert (ended.code, "lies in no class folder" in ended.err) == (ExitCode.FILE, True)
    assert "hint: a folder for each class, or --classes csv:FILE" in ended.err
