"""Where a tokenizer's weights come from: a path, a step, and a hash that anyone can compute again."""

import hashlib
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from muse_core.model.identity import checkpoint_of
from muse_core.model.load import SHIPPED, load_checkpoint, load_tokenizer


@dataclass(frozen=True)
class From:
    """A tokenizer that says no more than where it comes from."""

    info: Any


def coming_from(source: str) -> From:
    return From(replace(load_tokenizer("tiny-encoder").info, source=source))


def test_a_checkpoint_of_ours_has_its_step_and_the_hash_of_what_was_loaded(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "step"))
    (folder / "training.safetensors").write_bytes(b"an optimizer, which is never loaded")
    found = checkpoint_of(load_checkpoint(folder))
    assert found is not None
    assert (found["path"], found["step"]) == (str(folder), 320)
    assert found["sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_a_file_has_its_own_hash_and_a_folder_that_of_its_weights(tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.bin"
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    (tmp_path / "README.md").write_text("no weights")
    alone = checkpoint_of(coming_from(str(first)))
    assert alone == {"path": str(first), "step": None, "sha256": hashlib.sha256(b"one").hexdigest()}
    both = checkpoint_of(coming_from(str(tmp_path)))
    typed = "sha256sum a.safetensors b.bin | sha256sum"
    said = subprocess.run(typed, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert both is not None
    assert said.stdout.split()[0] == both["sha256"]


def test_where_no_file_is_named_nothing_is_said() -> None:
    assert checkpoint_of(load_tokenizer("tiny-encoder")) is None
    assert checkpoint_of(coming_from("")) is None
    assert checkpoint_of(object()) is None
