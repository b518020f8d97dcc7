"""What thousands of shards cost: the work grows with their number and not with its square."""

import json
import os
from pathlib import Path

import pytest

from muse_core.data import shards
from muse_core.data.places import name_of
from muse_core.data.shards import INDEX_NAME, find_shards

MANY = 300


def test_each_shard_is_found_in_the_index_at_once(
    scene_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = json.loads((scene_shards / INDEX_NAME).read_text())
    for number in range(MANY):
        os.link(scene_shards / "000000.tar", tmp_path / f"{number:06d}.tar")
    entries = [{**index["shards"][0], "name": f"{number:06d}.tar"} for number in range(MANY)]
    (tmp_path / INDEX_NAME).write_text(json.dumps({**index, "shards": entries}))
    asked: list[str] = []

    def counted(where: str) -> str:
        asked.append(where)
        return name_of(where)

    monkeypatch.setattr(shards, "name_of", counted)
    assert [shard.count for shard in find_shards(str(tmp_path), "train")] == [6] * MANY
    assert len(asked) <= 5 * MANY
