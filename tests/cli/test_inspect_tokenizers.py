"""`muse inspect` takes every word that --checkpoint takes."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muse_core.api import load_tokenizer
from muse_core.errors import MuseError
from muse_core.model.builtin import TokenizerSpec
from muse_core.model.load import load_shipped
from tests.cli.conftest import Muse
from tests.parity.released import write_released


def build(path: str | None, device: str) -> Any:
    if path is None:
        raise MuseError("stranger needs weights", hint="stranger:FILE")
    return load_shipped(None, device)


@pytest.fixture
def words(muse: Muse, trained: Path, tmp_path: Path, install: Callable[..., None]) -> list[str]:
    """Everything that may be said for a tokenizer, of every kind."""
    shutil.copytree(trained, "runs/mine")
    step = "runs/mine/checkpoints/step-0000001"
    (tmp_path / "runs/mine/checkpoints/best").write_text("step-0000001\n")
    write_released(tmp_path / "public", name="ema_model/pytorch_model.bin")
    assert muse("export", "tiny", "--out", "exported").code == 0
    install("muse.tokenizers", "stranger", "stranger:S", S=TokenizerSpec("A stranger.", "stranger:build"), build=build)
    named = ["tiny", "tiny-encoder", "stranger:weights.bin"]
    of_run = ["latest", "latest:best", "runs/mine", "runs/mine:best", "runs/mine:last", step]
    files = [f"{step}/model.safetensors", "exported/model.safetensors", "public/ema_model/pytorch_model.bin"]
    return [*named, *of_run, *files, "exported", "public"]


@pytest.mark.slow
def test_every_word_for_a_tokenizer_is_inspected(muse: Muse, words: list[str]) -> None:
    for word in words:
        assert load_tokenizer(word).info.name, "it is one"
        ended = muse("inspect", word, "--json")
        assert ended.code == 0, (word, ended.err)
        assert ended.json["kind"] in ("checkpoint", "tokenizer", "run"), word


def test_the_shipped_tokenizer_is_looked_through_as_the_checkpoint_that_it_is(muse: Muse) -> None:
    found = muse("inspect", "tiny", "--json").json
    assert (found["name"], found["kind"], found["size"], found["stage"]) == ("tiny", "checkpoint", "tiny", 3)
    assert found["can"]["zeroshot"]
    assert not found["can"]["train --resume"]


def test_what_a_plugin_offers_is_loaded_and_described(muse: Muse) -> None:
    ended = muse("inspect", "tiny-encoder")
    assert ended.code == 0, ended.err
    assert "can       featurizes, aligns, attends" in ended.out
    assert "nothing is wrong" in ended.out


def test_a_tokenizer_that_cannot_be_loaded_is_a_problem_with_its_reason(
    muse: Muse, install: Callable[..., None]
) -> None:
    install("muse.tokenizers", "stranger", "stranger:S", S=TokenizerSpec("A stranger.", "stranger:build"), build=build)
    ended = muse("inspect", "stranger")
    assert ended.code == 8
    assert "cannot be loaded: stranger needs weights; stranger:FILE" in ended.err


def test_a_folder_of_the_name_is_what_is_meant(muse: Muse, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    ended = muse("inspect", "tiny")
    assert ended.code == 4
    assert "no shards (.tar) and no images found: tiny" in ended.err


def test_a_word_that_is_nearly_one_gets_the_name(muse: Muse) -> None:
    ended = muse("inspect", "tiny-encodr")
    assert ended.code == 4
    assert "tiny-encodr does not exist" in ended.err
    assert "did you mean tiny-encoder?" in ended.err
