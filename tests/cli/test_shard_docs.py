"""The `muse shard` commands of docs/data.md run, in the layouts that it describes."""

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.conftest import Muse
from tests.data.conftest import good, picture, with_suffixes
from tests.data.test_shard_tree import mask, put

DOCUMENT = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
LINES = [
    line for block in re.findall(r"```console\n(.*?)```", DOCUMENT, flags=re.DOTALL) for line in block.splitlines()
]
COMMANDS = [line for line in LINES if "muse shard" in line]


@pytest.fixture(autouse=True)
def what_the_page_names(tmp_path: Path) -> None:
    """Every source of the page, in miniature."""
    jpeg = picture(300, 260, "JPEG")
    put(tmp_path / "images", {"cat/1.jpg": jpeg, "dog/2.jpg": jpeg, "dog/7.jpg": jpeg})  # of which --split draws one
    put(tmp_path / "masks", {"cat/1.png": mask(300, 260)})
    put(tmp_path, {"captions.csv": "file_name,caption\ncat/1.jpg,a cat\ndog/2.jpg,a dog\ndog/7.jpg,a dog\n"})
    put(tmp_path / "imagenet", {"train/n01440764/1.JPEG": jpeg, "val/n01443537/2.JPEG": jpeg})
    ade = tmp_path / "ADEChallengeData2016"
    put(ade, {"images/training/1.jpg": jpeg, "annotations/training/1.png": mask(300, 260)})
    put(tmp_path / "cc12m", dict(with_suffixes("00000/000000000", {"jpg": jpeg, "txt": b"a pair"})))
    put(tmp_path / "blip3o", {**dict(good(2)), **dict(good(1, first=18))})


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_runs(muse: Muse, command: str) -> None:
    ended = muse(*shlex.split(command.partition("muse ")[2]))
    assert ended.code == 0, ended.err
    assert re.search(r"shards?, (1 image|[2-9]\d* images), ", ended.out)
    assert ", 0 skipped" in ended.out


def test_the_page_shows_commands() -> None:
    assert len(COMMANDS) >= 9
